"""Output formats and where they go: round trips, order of time, atomic files."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

import click_model
import mido
import numpy as np
import pytest

from ghostnote.runtime import Hit, OutputError, UsageError, write_hits
from ghostnote.runtime.output.quantise import parse_grid
from ghostnote.runtime.output.tempo import TempoMap
from ghostnote.runtime.output.writers import (
    FORMATS,
    FileSink,
    FormatOptions,
    StreamSink,
    TextFormat,
    format_for,
    make_format,
)

MANIFEST = click_model.make_manifest()


@pytest.fixture(scope="module")
def hits() -> list[Hit]:
    """Hits of all classes in order of frames, so that times are out of order by up to two frames."""
    rng = np.random.default_rng(1)
    found = []
    for frame in np.sort(rng.integers(0, 6000, 400)):
        time_s = (frame + float(rng.uniform(0, 2))) / 100
        found.append(Hit(time_s, str(rng.choice(MANIFEST.codes)), float(rng.random()), float(rng.random())))
    return found


@pytest.fixture
def by_time(hits: list[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: hit.time_s)


def write(path: Path, hits: list[Hit]) -> Path:
    """Through a sink, hit by hit, in the order in which they were found."""
    sink = FileSink(path, make_format(format_for(path), MANIFEST), MANIFEST.frame_s)
    for hit in hits:
        sink.write([hit])
    sink.close()
    return path


def test_json_lines(hits: list[Hit], by_time: list[Hit], tmp_path: Path) -> None:
    lines = [json.loads(line) for line in write(tmp_path / "a.jsonl", hits).read_text().splitlines()]
    assert [list(line) for line in lines] == [["time", "class", "note", "velocity", "confidence"]] * len(hits)
    for line, hit in zip(lines, by_time, strict=True):
        assert line["time"] == pytest.approx(hit.time_s, abs=1e-6)
        assert (line["class"], line["note"]) == (hit.code, MANIFEST.note_of[hit.code])
        assert (line["velocity"], line["confidence"]) == pytest.approx((hit.velocity, hit.confidence), abs=1e-4)


def test_csv(hits: list[Hit], by_time: list[Hit], tmp_path: Path) -> None:
    header, *lines = write(tmp_path / "a.csv", hits).read_text().splitlines()
    assert header == "time,class,note,velocity,confidence"
    assert [line.split(",")[:2] for line in lines] == [[f"{hit.time_s:.6f}", hit.code] for hit in by_time]


def test_labels_and_txt(hits: list[Hit], by_time: list[Hit], tmp_path: Path) -> None:
    labels = [line.split("\t") for line in write(tmp_path / "a.labels", hits).read_text().splitlines()]
    assert labels == [[f"{hit.time_s:.6f}", f"{hit.time_s:.6f}", hit.code] for hit in by_time]
    lines = [line.split("\t") for line in write(tmp_path / "a.txt", hits).read_text().splitlines()]
    assert lines == [[f"{hit.time_s:.6f}", hit.code, f"{hit.velocity:.6f}"] for hit in by_time]


def test_midi(hits: list[Hit], by_time: list[Hit], tmp_path: Path) -> None:
    file = mido.MidiFile(write(tmp_path / "a.mid", hits))
    assert (file.type, len(file.tracks)) == (0, 1)
    now, ons, sounding = 0.0, [], {}
    for message in file:
        now += message.time
        if message.type == "note_on":
            assert message.channel == 9
            assert message.note not in sounding
            sounding[message.note] = now
            ons.append((now, message.note, message.velocity))
        elif message.type == "note_off":
            assert now - sounding.pop(message.note) <= 0.0501
    assert not sounding
    assert [on[0] for on in ons] == pytest.approx([hit.time_s for hit in by_time], abs=0.0005)
    expected = [(MANIFEST.note_of[hit.code], max(1, round(127 * hit.velocity))) for hit in by_time]
    assert [on[1:] for on in ons] == expected
    assert file.length == pytest.approx(by_time[-1].time_s + 0.05, abs=0.001)


def test_midi_after_a_day_and_at_the_ends_of_velocity(tmp_path: Path) -> None:
    day = 86_400.123
    write_hits([Hit(day, "BD", 0.0, 1.0), Hit(0.0, "SD", 1.0, 1.0)], tmp_path / "a.mid", MANIFEST)
    ons = [m for m in mido.MidiFile(tmp_path / "a.mid").tracks[0] if m.type == "note_on"]
    assert [m.velocity for m in ons] == [127, 1]
    messages, now = mido.MidiFile(tmp_path / "a.mid"), 0.0
    times = []
    for message in messages:
        now += message.time
        if message.type == "note_on":
            times.append(now)
    assert times == pytest.approx([0.0, day], abs=0.0005)


@pytest.mark.parametrize("name", FORMATS)
def test_no_hits_make_a_valid_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    options = FormatOptions(tempo=TempoMap.constant(120), grid=parse_grid("1/16")) if name == "musicxml" else None
    write_hits([], path, MANIFEST, name, options)
    if name == "midi":
        assert mido.MidiFile(path).length == 0
    elif name == "musicxml":
        assert len(ElementTree.parse(path).findall("part/measure")) == 1
    else:
        assert path.read_text() == ("time,class,note,velocity,confidence\n" if name == "csv" else "")


@pytest.mark.parametrize("note", [128, -1, 38.0, True])
def test_a_note_that_midi_does_not_have(note: object) -> None:
    with pytest.raises(UsageError, match=r"note of SD: .*; expected a MIDI note, 0\.\.127"):
        FormatOptions(notes={"SD": note})  # type: ignore[dict-item]


def test_nothing_appears_before_close(hits: list[Hit], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("what was there before\n")
    sink = FileSink(path, make_format("jsonl", MANIFEST), MANIFEST.frame_s)
    sink.write(hits)
    assert path.read_text() == "what was there before\n"
    sink.discard()
    assert path.read_text() == "what was there before\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_files_are_as_readable_as_others_and_links_are_followed(hits: list[Hit], tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    write(tmp_path / "link.csv", hits)
    assert (tmp_path / "link.csv").is_symlink()
    assert stat.S_IMODE((tmp_path / "real.csv").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_devices_are_written_directly(hits: list[Hit]) -> None:
    write_hits(hits, os.devnull, MANIFEST, "midi")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "absent" / "a.mid", tmp_path / "file" / "a.mid", tmp_path / ("x" * 300 + ".mid")):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            FileSink(path, make_format("midi", MANIFEST), MANIFEST.frame_s)
        assert caught.value.exit_code == 6
        assert str(caught.value).startswith(str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_write_protected(tmp_path: Path) -> None:
    (tmp_path / "a.mid").touch(0o444)
    with pytest.raises(OutputError, match="write-protected"):
        FileSink(tmp_path / "a.mid", make_format("midi", MANIFEST), MANIFEST.frame_s)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk(hits: list[Hit]) -> None:
    with pytest.raises(OutputError, match="no space left"):
        write_hits(hits * 20, "/dev/full", MANIFEST, "jsonl")


@pytest.mark.parametrize("ending", ["mid", "csv"])
@pytest.mark.parametrize("at", ["write", "close"])
def test_what_found_no_room_is_kept_elsewhere(ending: str, at: str, hits, tmp_path: Path, monkeypatch) -> None:
    """A full disk shows when the buffer is written: at once, or when the file is closed."""
    (tmp_path / "target").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    path = tmp_path / "target" / f"a.{ending}"
    sink = FileSink(path, make_format(format_for(path), MANIFEST), MANIFEST.frame_s)
    sink.write(hits)
    sink._file._file.flush()
    sink._file._file = _FullFile(sink._file._file, at)
    with pytest.raises(OutputError, match=r"no space left on device\); what could be kept is in ") as caught:
        sink.close()
    kept = Path(str(caught.value).partition(" kept is in ")[2])
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [kept]
    if ending == "mid":
        assert kept.parent == tmp_path / "elsewhere"
        assert sum(m.type == "note_on" for m in mido.MidiFile(kept)) == len(hits)
    else:
        assert kept == tmp_path / "target" / "a.csv.partial"
        assert kept.read_bytes().endswith(b"\n")


class _FullFile:
    """An open file whose disk is full when `at` is called."""

    def __init__(self, file: BinaryIO, at: str) -> None:
        self._file, self._at = file, at

    def write(self, data: bytes) -> None:
        if self._at == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        self._file.close()
        if self._at == "close":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_stream_sink_flushes_every_hit(hits: list[Hit]) -> None:
    class Recorder(io.BytesIO):
        flushed: list[int] = []  # noqa: RUF012

        def flush(self) -> None:
            self.flushed.append(self.getvalue().count(b"\n"))

    stream = Recorder()
    sink = StreamSink(stream, make_format("jsonl", MANIFEST))
    sink.write(hits[:3])
    sink.write(hits[3:5])
    sink.close()
    assert stream.flushed == [1, 2, 3, 4, 5]
    assert json.loads(stream.getvalue().splitlines()[0])["class"] == hits[0].code


def test_endings() -> None:
    assert [format_for(Path(f"x{s}")) for s in (".mid", ".MIDI", ".jsonl", ".csv", ".labels", ".txt", ".musicxml")] == [
        "midi",
        "midi",
        "jsonl",
        "csv",
        "labels",
        "txt",
        "musicxml",
    ]
    with pytest.raises(UsageError, match=r"\.mid"):
        format_for(Path("x.pdf"))
    with pytest.raises(UsageError, match="choose one of"):
        make_format("pdf", MANIFEST)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Hit(1.0, "XX", 0.5, 0.5), r"hit at 1\.0 s: unknown class 'XX'; expected one of BD, SD"),
        (Hit(1.0, "SD", float("nan"), 0.5), r"hit of SD at 1\.0 s: velocity nan; expected a finite number"),
        (Hit(1.0, "SD", 0.5, float("inf")), "confidence inf"),
        (Hit(float("nan"), "SD", 0.5, 0.5), "time nan"),
    ],
)
def test_hits_that_cannot_be_written_leave_nothing_behind(bad: Hit, words: str, name: str, tmp_path: Path) -> None:
    path, options = tmp_path / "a", FormatOptions(TempoMap.constant(120), parse_grid("1/16"))
    path.write_text("old")
    hits = [Hit(0.5, "BD", 0.5, 0.5), bad]
    if bad.code == "XX" and name in ("labels", "txt"):  # which need no note
        write_hits(hits, path, MANIFEST, name, options)
        assert "XX" in path.read_text()
    else:
        with pytest.raises(UsageError, match=words):
            write_hits(hits, path, MANIFEST, name, options)
        assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_whatever_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(TextFormat, "add", fail)
    with pytest.raises(KeyboardInterrupt):
        write_hits([Hit(0.5, "BD", 0.5, 0.5)], tmp_path / "a.csv", MANIFEST)
    assert list(tmp_path.iterdir()) == []
