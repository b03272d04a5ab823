"""Audio from a microphone or interface through PortAudio (sounddevice, extra `live`).

PortAudio calls back on a thread of its own, where waiting means losing audio: the callback copies into a ring buffer
and rings a bell, nothing else. Everything that takes time happens in whoever iterates the reader.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..input.source import HIGHEST_RATE, LOWEST_RATE, Conditioner, Moment
from ..number import whole
from .ring import RingBuffer

__all__ = ["BLOCK_MS", "CaptureReader", "describe_devices"]

Floats = NDArray[np.float32]

BLOCK_MS = 10.0  # that a device delivers at a time
_RING_S = 10.0  # what a stall of the engine or of an output may last before audio is lost
_TAKE_S = 0.5  # at most in one block, so that a backlog stays in the ring, where it is bounded
_POLL_S = 0.1
_PATIENCE_S = 5.0  # without a single callback; Bluetooth devices take seconds to start
_MAX_AGE_S = 1.0  # of a block when the callback gets it; more is a clock that means something else


class CaptureReader:
    """Iterates mono float32 blocks [n] at `sample_rate` as a sound device delivers them, without end.

    `device` is PortAudio's index or a part of its name, None the system's choice. `inputs` are the channels to mix,
    counted from 1; None: the first two, or the only one. Opening raises InputError where there is no such device or
    library; iterating raises it when the device vanishes, after having yielded everything heard.
    """

    is_live = True
    duration_s = None

    def __init__(
        self,
        sample_rate: int,
        *,
        device: str | None = None,
        inputs: Sequence[int] | None = None,
        block_ms: float = BLOCK_MS,
    ) -> None:
        self._sd = _sounddevice()
        info = _find(self._sd, device)
        self.name = str(info["name"])
        self._inputs = _choose_inputs(inputs, int(info["max_input_channels"]), self.name)
        channels = max(self._inputs) + 1
        self.channels = len(self._inputs)
        self.source_rate = _choose_rate(self._sd, info, channels, sample_rate)
        self._ring = RingBuffer(round(_RING_S * self.source_rate), channels)
        self._bell = threading.Lock()  # held while there is nothing new
        self._bell.acquire()
        self._stamp = (0, 0.0)  # of the newest frame: its position, when it was at the converter
        self._handed = 0  # frames
        self.newest: Moment | None = None
        self._conditioner = Conditioner(self.source_rate, sample_rate)
        self._stream = self._open(info, channels, round(block_ms * self.source_rate / 1000))

    @property
    def non_finite_samples(self) -> int:
        """Samples that were NaN, infinite or absurdly large, replaced by 0, so far."""
        return self._conditioner.non_finite_samples

    @property
    def overruns(self) -> int:
        """How often audio was lost, in the driver or because the ring was full."""
        return self._ring.overruns

    @property
    def lost_s(self) -> float:
        """Seconds of lost audio, taken as silence."""
        return self._ring.lost_frames / self.source_rate

    @property
    def warnings(self) -> list[str]:
        """What the user should know at the end."""
        if not self.overruns:
            return []
        return [
            f"{self.overruns} overrun(s): {self.lost_s:.2f} s of audio were lost and taken as silence; this machine "
            "was too slow or too busy (see docs/live.md)"
        ]

    def __enter__(self) -> CaptureReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and free the device."""
        self._stream.close()  # sounddevice ignores what a vanished device answers

    def __iter__(self) -> Iterator[Floats]:
        """Blocks as they come; ends with InputError only."""
        try:
            self._stream.start()
        except self._sd.PortAudioError as error:
            raise InputError(f"{self.name}: cannot be started ({_reason(error)})") from None
        heard_at = time.perf_counter()
        while True:
            frames = self._ring.take(self._limit)
            if frames is not None:
                heard_at = time.perf_counter()
                yield self._hand_out(frames)
            elif not self._bell.acquire(timeout=_POLL_S):
                self._check_alive(time.perf_counter() - heard_at)

    def rest(self) -> Iterator[Floats]:
        """Stop listening; what lies in the ring, and what the resampler holds back."""
        with contextlib.suppress(self._sd.PortAudioError):  # it may have vanished
            self._stream.abort()  # not `stop`, which waits for buffers that a vanished device never fills
        self._ring.seal()
        while (frames := self._ring.take(self._limit)) is not None:
            yield self._hand_out(frames)
        held = self._conditioner.end()
        if len(held):
            yield held

    def _open(self, info: dict[str, Any], channels: int, block_frames: int) -> Any:
        try:
            return self._sd.InputStream(
                device=info["index"],
                channels=channels,
                samplerate=self.source_rate,
                blocksize=block_frames,
                dtype="float32",
                latency="low",
                callback=self._on_audio,
            )
        except self._sd.PortAudioError as error:
            raise InputError(
                f"{self.name}: cannot be opened ({_reason(error)}); is another program using it?"
            ) from None

    def _on_audio(self, block: Floats, frames: int, times: Any, status: Any) -> None:
        """On the audio thread: copy, stamp, ring the bell. Releasing a lock does not wait."""
        age_s = times.currentTime - times.inputBufferAdcTime  # of the first sample
        if not 0 < age_s < _MAX_AGE_S:  # some drivers leave these times at zero
            age_s = frames / self.source_rate
        began_at = time.perf_counter() - age_s
        if status.input_overflow:
            self._ring.skip(self._frames_before(began_at))
        self._ring.write(block)
        self._stamp = (self._ring.position, began_at + frames / self.source_rate)
        if self._bell.locked():
            self._bell.release()

    def _frames_before(self, began_at: float) -> int:
        """How many frames the driver lost before a block, by the clock; the ring's length at most."""
        position, ended_at = self._stamp
        lost_s = began_at - ended_at if position else 0.0
        return round(min(max(lost_s, 0.0), _RING_S) * self.source_rate)

    @property
    def _limit(self) -> int:
        return round(_TAKE_S * self.source_rate)

    def _hand_out(self, frames: Floats) -> Floats:
        """Frames [n, channels] of the ring to the model's rate, and note when they were sound."""
        taken_at = time.perf_counter()
        self._handed += len(frames)
        position, heard_at = self._stamp
        heard_at -= (position - self._handed) / self.source_rate
        self.newest = Moment(self._handed / self.source_rate, heard_at, taken_at)
        return self._conditioner.push(frames[:, self._inputs])

    def _check_alive(self, quiet_s: float) -> None:
        """Raise InputError when the device has vanished: PortAudio says so, or nothing has come for seconds."""
        try:
            active = bool(self._stream.active)
        except self._sd.PortAudioError:
            active = False
        if not active or quiet_s > _PATIENCE_S:
            # A last block may have come between the look into the ring and here; `rest` finds it.
            raise InputError(
                f"{self.name}: the device stopped delivering audio after {self._handed / self.source_rate:.1f} s; "
                "was it unplugged?"
            )


def describe_devices() -> str:
    """The input devices, a line each: index, name, system, inputs, rate. Raises InputError where there is none."""
    sd = _sounddevice()
    systems = sd.query_hostapis()
    default = _default_index(sd)
    lines = [
        f"{'*' if device['index'] == default else ' '} {device['index']:>3}  {device['name']} "
        f"({systems[device['hostapi']]['name']}), {device['max_input_channels']} input(s), "
        f"{device['default_samplerate']:g} Hz"
        for device in sd.query_devices()
        if device["max_input_channels"] > 0
    ]
    if not lines:
        raise InputError(_NO_DEVICE)
    return "\n".join(lines)


_NO_DEVICE = (
    "no audio input device found; connect one and see that the system lists it, or pipe audio in: arecord ... | "
    "rt-transcribe -"
)


def _sounddevice() -> Any:
    """The module, or an InputError that says what to install."""
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise InputError("--live needs sounddevice, which is not installed; pip install 'ghostnote[live]'") from None
    except OSError:
        raise InputError(
            "--live needs the PortAudio library, which was not found; Debian and Ubuntu: apt install libportaudio2"
        ) from None
    except Exception as error:  # noqa: BLE001 - PortAudio's own, whose class is in the module that did not load
        raise InputError(
            f"--live: PortAudio does not start ({_reason(error)}); see that the system's sound server runs, or pipe "
            "audio in: arecord ... | rt-transcribe -"
        ) from None
    return sounddevice


def _default_index(sd: Any) -> int | None:
    try:
        return int(sd.query_devices(None, "input")["index"])
    except (sd.PortAudioError, ValueError):
        return None


def _find(sd: Any, device: str | None) -> dict[str, Any]:
    """PortAudio's description of an input device. Raises InputError."""
    if not any(known["max_input_channels"] > 0 for known in sd.query_devices()):
        raise InputError(_NO_DEVICE)
    index = None if device is None else whole(device)
    wanted: str | int | None = device if index is None else index
    try:
        found = dict(sd.query_devices(wanted, "input"))
    except (sd.PortAudioError, ValueError) as error:
        raise InputError(
            f"input device {'' if device is None else repr(device)}: {_reason(error)}; --list-devices shows them all"
        ) from None
    if not found["max_input_channels"]:
        raise InputError(f"{found['name']}: has no inputs; --list-devices shows the devices that have")
    return found


def _choose_inputs(inputs: Sequence[int] | None, available: int, name: str) -> list[int]:
    """Columns of the inputs to mix, counted from 0."""
    if inputs is None:
        return list(range(min(2, available)))
    if max(inputs) > available:
        raise InputError(f"{name}: has {available} input(s), {max(inputs)} was asked for")
    return [number - 1 for number in inputs]


def _choose_rate(sd: Any, info: dict[str, Any], channels: int, sample_rate: int) -> int:
    """The model's own rate where the device has it, which spares the resampler's delay; else the device's default."""
    try:
        sd.check_input_settings(device=info["index"], channels=channels, dtype="float32", samplerate=sample_rate)
    except sd.PortAudioError:
        rate = int(info["default_samplerate"])
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise InputError(
                f"{info['name']}: {rate} Hz; expected {LOWEST_RATE} to {HIGHEST_RATE} Hz; set it to another"
            ) from None
        return rate
    return sample_rate


def _reason(error: BaseException) -> str:
    """PortAudio's words, in one line."""
    return " ".join(str(error).split())
