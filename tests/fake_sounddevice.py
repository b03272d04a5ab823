"""`sounddevice` without hardware: what runtime/live/capture.py uses of it.

Its stream calls back from a thread of its own at the pace of the clock, with times as PortAudio gives them.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np


class PortAudioError(Exception):
    """What PortAudio answers when something is wrong."""


@dataclass
class FakeSounddevice:
    """Stands in for the module. `audio` [N, channels] is what the microphone hears, once, then silence.

    speed: how many times faster than the clock blocks come. vanish_after: blocks until the device is gone; by `way`
    "inactive" (PortAudio notices), "silent" (it does not) or "error" (it fails when asked). overflow_at: blocks before
    which the driver lost audio.
    """

    audio: np.ndarray
    rate: int = 44100
    rates: tuple[int, ...] = (44100, 48000)
    speed: float = 1.0
    vanish_after: int | None = None
    way: str = "inactive"
    overflow_at: frozenset[int] = frozenset()
    clock_known: bool = True
    start_error: str = ""
    delivered: threading.Event = field(default_factory=threading.Event)
    opened: dict[str, Any] = field(default_factory=dict)

    PortAudioError = PortAudioError

    def query_hostapis(self) -> list[dict[str, str]]:
        return [{"name": "FAKE"}]

    def query_devices(self, device: str | int | None = None, kind: str | None = None) -> Any:
        both = [self._device(0, "Loudspeaker", 0), self._device(1, "Fake Interface", self.audio.shape[1])]
        if kind is None:
            return both
        if device is None:
            return both[1]
        found = [d for d in both if device == d["index"] or (isinstance(device, str) and device in d["name"])]
        if not found:
            raise ValueError(f"No {kind} device matching {device!r}")
        return found[0]

    def _device(self, index: int, name: str, inputs: int) -> dict[str, Any]:
        return {
            "index": index,
            "name": name,
            "hostapi": 0,
            "max_input_channels": inputs,
            "default_samplerate": float(self.rate),
        }

    def check_input_settings(self, *, device: int, channels: int, dtype: str, samplerate: int) -> None:
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate [PaErrorCode -9997]")

    def InputStream(self, **options: Any) -> FakeStream:  # noqa: N802 - sounddevice's name
        self.opened = options
        return FakeStream(self, **options)


class FakeStream:
    """A thread that calls back with one block after the other."""

    def __init__(
        self, fake: FakeSounddevice, *, callback: Any, samplerate: int, blocksize: int, **options: Any
    ) -> None:
        self._fake, self._callback, self._rate, self._block = fake, callback, samplerate, blocksize
        self._channels = options["channels"]
        self._stopped = threading.Event()
        self._active = True
        self._thread = threading.Thread(target=self._play, daemon=True)
        self.slowest_callback_s = 0.0

    @property
    def active(self) -> bool:
        if not self._active and self._fake.way == "error":
            raise PortAudioError("Unanticipated host error [PaErrorCode -9999]")
        return self._active or self._fake.way == "silent"

    def start(self) -> None:
        if self._fake.start_error:
            raise PortAudioError(self._fake.start_error)
        self._thread.start()

    def abort(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        self.abort()

    def _play(self) -> None:
        fake, n = self._fake, self._block
        audio = fake.audio[:, : self._channels]
        lost = 0  # blocks
        start = time.perf_counter()
        for number in range(1 << 30):
            if number == fake.vanish_after:
                break
            if number in fake.overflow_at:
                lost += 1
            end_s = (number + lost + 1) * n / self._rate
            if self._stopped.wait(max(0.0, start + end_s / fake.speed - time.perf_counter())):
                break
            block = np.zeros((n, self._channels), np.float32)
            heard = audio[(number + lost) * n :][:n]
            block[: len(heard)] = heard
            self._call_back(block, start + end_s / fake.speed, overflow=number in fake.overflow_at)
            if (number + lost + 1) * n >= len(audio):
                fake.delivered.set()
        self._active = False
        fake.delivered.set()

    def _call_back(self, block: np.ndarray, end: float, *, overflow: bool) -> None:
        """The block ended at `end` of the clock; PortAudio's own clock has another zero."""
        adc = end - len(block) / self._rate + 1000 if self._fake.clock_known else 0.0
        now = time.perf_counter()
        times = SimpleNamespace(inputBufferAdcTime=adc, currentTime=now + 1000 if self._fake.clock_known else 0.0)
        self._callback(block, len(block), times, SimpleNamespace(input_overflow=overflow))
        block[:] = np.nan  # PortAudio uses the memory again
        self.slowest_callback_s = max(self.slowest_callback_s, time.perf_counter() - now)
