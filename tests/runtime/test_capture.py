"""Listening to a sound device, with a fake PortAudio whose callback comes on a thread of its own."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import click_model
import numpy as np
import pytest
from fake_sounddevice import FakeSounddevice

from ghostnote.runtime import InputError
from ghostnote.runtime.interrupt import Interruption
from ghostnote.runtime.job import Report, run
from ghostnote.runtime.live import capture
from ghostnote.runtime.live.capture import CaptureReader, describe_devices
from ghostnote.runtime.live.meter import MeasuredSink, Meter
from ghostnote.runtime.streams.stream import StreamingTranscriber

RATE = click_model.RATE
Fake = Callable[..., FakeSounddevice]


class Hits(list):
    """A sink that is a list."""

    write = list.extend

    def close(self) -> None: ...

    discard = close


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    def install(audio: np.ndarray, **options: object) -> FakeSounddevice:
        module = FakeSounddevice(audio.astype(np.float32), **options)
        monkeypatch.setitem(sys.modules, "sounddevice", module)
        return module

    return install


def noise(seconds: float, channels: int = 1, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(3).uniform(-0.2, 0.2, (round(seconds * rate), channels)).astype(np.float32)


def hear(reader: CaptureReader, meanwhile: Callable[[int], object] = lambda _: None) -> tuple[np.ndarray, str]:
    """Everything until the device vanishes, and what it said; `meanwhile` gets the number of each block."""
    blocks: list[np.ndarray] = []

    def listen() -> None:
        for block in reader:
            blocks.append(block)
            meanwhile(len(blocks))

    with reader, pytest.raises(InputError) as error:
        listen()
    blocks += reader.rest()
    return np.concatenate(blocks), str(error.value)


def test_what_is_heard_is_what_was_played(fake: Fake) -> None:
    audio = noise(0.5, 2)
    fake(audio, vanish_after=50)
    heard, message = hear(CaptureReader(RATE))
    assert np.allclose(heard, audio[: len(heard)].mean(1), atol=1e-7)
    assert len(heard) == 50 * 441
    assert message == "Fake Interface: the device stopped delivering audio after 0.5 s; was it unplugged?"


@pytest.mark.parametrize("way", ["inactive", "silent", "error"])
def test_ways_to_vanish(way: str, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_PATIENCE_S", 0.3)
    fake(noise(0.2), vanish_after=20, way=way)
    heard, message = hear(CaptureReader(RATE))
    assert len(heard) == 20 * 441
    assert "stopped delivering audio after 0.2 s" in message


def test_inputs_are_chosen_and_mixed(fake: Fake) -> None:
    audio = noise(0.1, 8)
    module = fake(audio, vanish_after=10)
    heard, _ = hear(CaptureReader(RATE, device="Interface", inputs=[3, 5], block_ms=10))
    assert np.allclose(heard, audio[: len(heard), [2, 4]].mean(1), atol=1e-7)
    assert (module.opened["channels"], module.opened["blocksize"], module.opened["device"]) == (5, 441, 1)
    with pytest.raises(InputError, match=r"has 8 input\(s\), 9 was asked for"):
        CaptureReader(RATE, inputs=[9])


def test_another_rate_is_resampled(fake: Fake) -> None:
    seconds = 1.0
    tone = np.sin(2 * np.pi * 1000 * np.arange(round(seconds * 48_000)) / 48_000)[:, None]
    module = fake(tone, rate=48_000, rates=(48_000,), vanish_after=100, speed=4)
    heard, _ = hear(CaptureReader(RATE))
    assert module.opened["samplerate"] == 48_000
    assert len(heard) == RATE
    expected = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert np.abs(heard - expected)[2000:-2000].max() < 1e-3


@pytest.mark.parametrize("rate", [4000, 384_000])
def test_a_device_at_no_usable_rate_is_refused(fake: Fake, rate: int) -> None:
    fake(noise(0.1), rate=rate, rates=(rate,))
    with pytest.raises(InputError, match=f"Fake Interface: {rate} Hz; expected 8000 to 192000 Hz"):
        CaptureReader(RATE)


def test_a_slow_consumer_loses_audio_but_no_time(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_RING_S", 0.2)
    audio = noise(1.0)
    fake(audio, vanish_after=100)
    reader = CaptureReader(RATE)
    heard, _ = hear(reader, lambda number: time.sleep(0.35 if number == 3 else 0))
    assert len(heard) == RATE
    lost = heard == 0
    assert np.allclose(heard[~lost], audio[~lost, 0], atol=1e-7)
    assert reader.overruns == 1
    assert 0.05 < np.count_nonzero(lost) / RATE < 0.4
    assert reader.warnings[0].startswith(f"1 overrun(s): {np.count_nonzero(lost) / RATE:.2f} s of audio were lost")


def test_losses_of_the_driver_are_counted_and_filled_by_the_clock(fake: Fake) -> None:
    audio = noise(0.5)
    fake(audio, vanish_after=40, overflow_at=frozenset({10, 25}))
    reader = CaptureReader(RATE)
    heard, _ = hear(reader)
    assert reader.overruns == 2
    assert len(heard) == pytest.approx(42 * 441, abs=40)
    tail = heard[-441:]  # in its place: within the accuracy of the clocks
    shifts = [np.abs(tail - audio[41 * 441 + s :][:441, 0]).max() for s in range(-40, 41)]
    assert min(shifts) < 1e-6


@pytest.mark.parametrize("clock_known", [True, False])
def test_newest_tells_when_it_was_sound(clock_known: bool, fake: Fake) -> None:
    fake(noise(0.3), vanish_after=30, clock_known=clock_known)
    moments = []
    reader = CaptureReader(RATE)
    hear(reader, lambda _: moments.append((reader.newest, time.perf_counter())))
    for moment, now in moments:
        assert moment.heard_at_s <= moment.taken_at_s <= now
        assert now - moment.heard_at_s < 0.2  # a machine may be busy; alone it is one millisecond
    for (a, _), (b, _) in pairwise(moments):
        assert b.position_s - a.position_s == pytest.approx(b.heard_at_s - a.heard_at_s, abs=1e-3 if clock_known else 1)


def test_the_callback_does_not_wait_for_a_stalled_consumer(fake: Fake) -> None:
    fake(noise(0.5), vanish_after=50)
    reader = CaptureReader(RATE)
    hear(reader, lambda _: time.sleep(0.02))
    assert reader.overruns == 0
    assert reader._stream.slowest_callback_s < 0.05


def _transcribe(reader: CaptureReader, engine: object, latency_ms: float) -> tuple[Report, Hits, Meter]:
    transcriber = StreamingTranscriber(engine, latency_ms=latency_ms)
    hits, meter = Hits(), Meter(reader, lambda: transcriber.samples_processed)
    with reader, Interruption() as interruption:
        sink = MeasuredSink(meter, hits)
        report = run(reader, transcriber, sink, interruption=interruption, watch=lambda _: None)
    return report, hits, meter


def test_latency_measured_from_the_converter_to_the_hit(fake: Fake, click_engine) -> None:
    """The stated total latency holds for every hit, but for the block and the computing."""
    audio = np.zeros((RATE, 1))
    places = np.arange(3000, len(audio) - 9000, 3919)
    audio[places] = 0.95
    fake(audio, vanish_after=100)
    report, hits, meter = _transcribe(CaptureReader(RATE, block_ms=10), click_engine, 60)
    assert [round(hit.time_s * RATE) for hit in hits] == places.tolist()
    assert report.error is not None
    assert report.error.exit_code == 5
    assert meter.latency is not None
    assert meter.compute is not None
    # At least delay and look-ahead; at most the stated 60 ms and a block, with room for a busy machine.
    assert 40 < meter.latency.median_ms < 60 + 10 + 5 + meter.compute.p99_ms
    assert "from attack to hit" in (meter.describe() or "")


def test_an_engine_slower_than_the_clock_keeps_hits_in_their_places(
    fake: Fake, click_engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "_RING_S", 0.2)
    audio = np.zeros((RATE, 1))
    places = np.arange(3000, len(audio) - 3000, 2646)
    audio[places] = 0.95
    fake(audio, vanish_after=100)

    class Slow:
        def __getattr__(self, name):
            return getattr(click_engine, name)

        def step(self, samples, delay, state):
            time.sleep(1.5 * samples.shape[1] / RATE)
            return click_engine.step(samples, delay, state)

    reader = CaptureReader(RATE)
    report, hits, _ = _transcribe(reader, Slow(), 60)
    assert reader.overruns > 0
    found = {round(hit.time_s * RATE) for hit in hits}
    assert found < set(places.tolist())
    assert len(found) > len(places) // 2
    assert report.audio_s == pytest.approx(1.0)
    assert "overrun(s)" in report.warnings[0]


def test_devices_are_listed(fake: Fake) -> None:
    fake(noise(0.1, 2))
    assert describe_devices() == "*   1  Fake Interface (FAKE), 2 input(s), 44100 Hz"


def test_readable_errors(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(noise(0.1), start_error="Device unavailable")
    with pytest.raises(InputError, match="'Violin': No input device matching 'Violin'; --list-devices"):
        CaptureReader(RATE, device="Violin")
    with pytest.raises(InputError, match="Loudspeaker: has no inputs"):
        CaptureReader(RATE, device="0")
    with CaptureReader(RATE) as reader, pytest.raises(InputError, match=r"cannot be started \(Device unavailable\)"):
        next(iter(reader))
    fake(np.zeros((10, 0)))
    with pytest.raises(InputError, match="no audio input device found"):
        CaptureReader(RATE)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(InputError, match=r"pip install 'ghostnote\[live\]'"):
        CaptureReader(RATE)


def test_a_sound_system_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sounddevice starts PortAudio while it is imported."""
    module = """
        class PortAudioError(Exception): ...
        raise PortAudioError("Error initializing PortAudio: Unanticipated host error [PaErrorCode -9999]")
        """
    (tmp_path / "sounddevice.py").write_text(textwrap.dedent(module))
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"does not start \(Error initializing PortAudio.* -9999\]\)"):
        CaptureReader(RATE)


def test_the_real_library_without_a_device() -> None:
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        pytest.skip(f"no sounddevice here: {error}")
    if any(device["max_input_channels"] for device in sounddevice.query_devices()):
        pytest.skip("this machine has an input device; the test is about having none")
    for ask in (describe_devices, lambda: CaptureReader(RATE), lambda: CaptureReader(RATE, device="Scarlett")):
        with pytest.raises(InputError, match="no audio input device found; connect one"):
            ask()
