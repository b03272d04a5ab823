"""Live outputs: MIDI notes, OSC messages, measurements."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click_model
import mido
import numpy as np
import pytest
from fake_sounddevice import FakeSounddevice
from typer.testing import CliRunner

from ghostnote.runtime import Hit, OutputError, UsageError, command
from ghostnote.runtime.input.source import Moment
from ghostnote.runtime.live import meter, midi_port
from ghostnote.runtime.live.meter import MeasuredSink, Meter
from ghostnote.runtime.live.midi_port import MidiPortSink
from ghostnote.runtime.live.osc import OscSink, parse_target

NOTE_OF = click_model.make_manifest().note_of
HITS = [Hit(0.5, "BD", 0.9, 0.8), Hit(0.75, "CHH", 0.25, 0.7)]


# Measurements


def test_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that was sound at 10.00 s and taken at 10.01 s ends 2.00 s into the stream; hits are known at 10.03 s."""
    monkeypatch.setattr(meter.time, "perf_counter", lambda: 10.03)
    source, processed = SimpleNamespace(is_live=True, newest=None, overruns=2), iter((0, 882))
    sink = MeasuredSink(Meter(source, lambda: next(processed)), SimpleNamespace(write=len))
    sink.write([])
    assert (sink.meter.compute, sink.meter.latency, sink.meter.describe()) == (None, None, None)
    source.newest = Moment(position_s=1.99, heard_at_s=9.99, taken_at_s=10.0)
    sink.write([])  # completes no token: nothing was computed
    source.newest = Moment(position_s=2.0, heard_at_s=10.0, taken_at_s=10.01)
    sink.write([Hit(1.95, "BD", 1, 1)])
    sink.write([Hit(1.0, "BD", 1, 1)])  # nothing new was handed out: the end
    assert sink.meter.compute is not None
    assert sink.meter.latency is not None
    assert (sink.meter.compute.median_ms, sink.meter.latency.p99_ms) == (pytest.approx(20), pytest.approx(80))
    assert sink.meter.describe() == (
        "measured: 20.0 ms computing per call (p99 20.0), 80 ms from attack to hit (p99 80), 2 overruns"
    )


# MIDI


class FakeBackend:
    """mido's backend without a sequencer: remembers what is sent, and when."""

    def __init__(self, names: list[str], fail_after: int = 999) -> None:
        self.names, self.fail_after = names, fail_after
        self.opened: tuple[str, bool] | None = None
        self.sent: list[tuple[float, mido.Message]] = []
        self.closed = False

    def get_output_names(self) -> list[str]:
        return self.names

    def open_output(self, name: str, *, virtual: bool) -> FakeBackend:
        self.opened = name, virtual
        return self

    def send(self, message: mido.Message) -> None:
        if self.closed:
            raise ValueError("send() called on closed port")  # mido's own
        if len(self.sent) >= self.fail_after:
            raise OSError("device gone")
        self.sent.append((time.monotonic(), message))

    def close(self) -> None:
        self.closed = True

    @property
    def notes(self) -> list[tuple[str, int, int]]:
        return [(m.type, m.note, m.velocity) for _, m in self.sent if m.type.startswith("note")]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    fake = FakeBackend(["Midi Through 14:0", "Synth A 20:0", "Synth B 24:0"])
    monkeypatch.setattr(midi_port, "_backend", lambda: fake)
    return fake


def test_notes_go_on_at_once_and_off_soon(backend: FakeBackend) -> None:
    sink = MidiPortSink("through", NOTE_OF)
    before = time.monotonic()
    sink.write(HITS)
    assert time.monotonic() - before < 0.02
    sink.close()
    assert backend.opened == ("Midi Through 14:0", False)
    assert backend.notes == [("note_on", 36, 114), ("note_on", 42, 32), ("note_off", 36, 0), ("note_off", 42, 0)]
    assert all(m.channel == 9 for _, m in backend.sent)
    on, off = backend.sent[0][0], backend.sent[2][0]
    assert off - on == pytest.approx(0.03, abs=0.1)
    assert off - on >= 0.03
    assert backend.sent[-1][1] == mido.Message("control_change", channel=9, control=123, value=0)
    assert backend.closed


def test_a_note_struck_while_it_sounds_ends_first(backend: FakeBackend) -> None:
    sink = MidiPortSink("Synth A 20:0", NOTE_OF)
    sink.write([HITS[0]])
    time.sleep(0.01)
    sink.write([HITS[0]])
    sink.close()
    assert [kind for kind, _, _ in backend.notes] == ["note_on", "note_off", "note_on", "note_off"]


def test_a_port_that_goes_away(backend: FakeBackend) -> None:
    backend.fail_after = 1
    sink = MidiPortSink("Synth A", NOTE_OF)
    sink.write([HITS[0]])
    with pytest.raises(OutputError, match=r"MIDI port 'Synth A': cannot be written \(device gone\)"):
        sink.write([HITS[1]])
    sink.discard()
    assert backend.closed


@pytest.mark.parametrize("error", [OSError, RuntimeError, ValueError])
def test_a_port_that_cannot_be_opened(
    backend: FakeBackend, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """rtmidi has kinds of all three; virtual ports on Windows give the second."""

    def refuse(*_: object, **__: object) -> None:
        raise error("not supported")

    monkeypatch.setattr(backend, "open_output", refuse)
    with pytest.raises(OutputError, match="MIDI port 'x': cannot be opened"):
        MidiPortSink("x", {}, virtual=True)


def test_closing_twice_is_closing_once(backend: FakeBackend) -> None:
    """As where another output fails after the port was closed, and all are discarded."""
    sink = MidiPortSink("Synth A", NOTE_OF)
    sink.close()
    sent = len(backend.sent)
    sink.close()
    sink.discard()
    assert len(backend.sent) == sent


def test_midi_ports_are_listed_where_no_device_listens(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSounddevice(np.zeros((1, 0), np.float32)))
    result = CliRunner().invoke(command.app, ["--list-devices"])
    assert result.exit_code == 5
    assert result.stdout.splitlines() == ["MIDI ports:", *(f"  {name}" for name in backend.names)]
    assert "error: no audio input device found" in result.stderr


def test_choosing_a_port(backend: FakeBackend) -> None:
    with pytest.raises(OutputError, match="several such port; there are 'Synth A 20:0', 'Synth B 24:0'"):
        MidiPortSink("synth", NOTE_OF)
    with pytest.raises(OutputError, match="no such port; there are 'Midi Through 14:0'"):
        MidiPortSink("drums", NOTE_OF)
    MidiPortSink("drums", NOTE_OF, virtual=True).close()
    assert backend.opened == ("drums", True)


def test_the_real_library_plays_or_says_why_not() -> None:
    pytest.importorskip("rtmidi", reason="needs the extra `live`")
    try:
        sink = MidiPortSink("ghostnote test", NOTE_OF, virtual=True)
    except OutputError as error:
        assert "MIDI port 'ghostnote test': cannot be opened (" in str(error)  # noqa: PT017 - both ways are right
    else:
        sink.write(HITS)
        sink.close()


def test_without_rtmidi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtmidi", None)
    with pytest.raises(OutputError, match=r"pip install 'ghostnote\[live\]'"):
        MidiPortSink("x", NOTE_OF)


def test_a_note_map_holds_for_what_plays(
    backend: FakeBackend, click_path: Path, click_wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a format that tells no notes, for which it alone would be refused."""
    sent: list[list[object]] = []
    client = SimpleNamespace(send_message=lambda _, values: sent.append(values), close=lambda: None)
    monkeypatch.setitem(sys.modules, "pythonosc", SimpleNamespace())
    udp_client = SimpleNamespace(SimpleUDPClient=lambda *_, **__: client)
    monkeypatch.setitem(sys.modules, "pythonosc.udp_client", udp_client)
    (tmp_path / "notes").write_text("BD 24\n")
    options = ("--note-map", tmp_path / "notes", "-o", tmp_path / "a.labels", "--midi-port", "through", "--osc", "9000")
    words = [str(word) for word in ("--engine", click_path, click_wav, *options)]
    result = CliRunner().invoke(command.app, words)
    assert result.exit_code == 0, result.output
    assert {values[2] for values in sent if values[1] == "BD"} == {24}
    notes = {note for kind, note, _ in backend.notes if kind == "note_on"}
    assert 24 in notes
    assert 36 not in notes


# OSC


def test_osc_messages_arrive() -> None:
    osc_message = pytest.importorskip("pythonosc.osc_message", reason="needs the extra `live`")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(5)
        sink = OscSink(f"localhost:{listener.getsockname()[1]}", NOTE_OF)
        sink.write(HITS)
        messages = [osc_message.OscMessage(listener.recv(1000)) for _ in HITS]
        sink.close()
    assert {m.address for m in messages} == {"/ghostnote/hit"}
    assert messages[0].params == [0.5, "BD", 36, pytest.approx(0.9), pytest.approx(0.8)]
    assert messages[1].params == [0.75, "CHH", 42, 0.25, pytest.approx(0.7)]


def test_osc_that_cannot_be_sent() -> None:
    pytest.importorskip("pythonosc", reason="needs the extra `live`")
    with pytest.raises(OutputError, match=r"OSC nowhere\.invalid:9000: "):
        OscSink("nowhere.invalid:9000", NOTE_OF)
    sink = OscSink("127.0.0.1:9", NOTE_OF)
    sink.write(HITS)  # nobody need listen
    sink.write(HITS)
    sink.close()
    with pytest.raises(OutputError, match=r"OSC 127\.0\.0\.1:9: cannot be sent"):
        sink.write(HITS)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("10.0.0.7:9000", ("10.0.0.7", 9000)),
        ("[::1]:9000", ("::1", 9000)),
        (":57120", ("127.0.0.1", 57120)),
        ("9000", ("127.0.0.1", 9000)),
    ],
)
def test_osc_targets(text: str, target: tuple[str, int]) -> None:
    assert parse_target(text) == target


def test_a_host_that_cannot_be_one_is_an_output_error() -> None:
    with pytest.raises(OutputError, match=r"OSC a\.\.b:9000: "):
        OscSink("a..b:9000", {})


@pytest.mark.parametrize("text", ["", "host", "host:", "host:0", "host:70000", "host:x", "host:" + "9" * 5000])
def test_bad_osc_targets(text: str) -> None:
    with pytest.raises(UsageError, match="expected HOST:PORT"):
        parse_target(text)
