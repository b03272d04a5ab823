"""What comes in: bytes of a session to mono samples at the model's rate, and when which of them came."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..input.pcm import PcmFormat, to_float
from ..input.source import Conditioner

__all__ = ["Arrivals", "PcmDecoder"]

Floats = NDArray[np.float32]

# A message is decoded in pieces of this length, between which other sessions have their turn.
_PIECE_S = 0.25


class PcmDecoder:
    """Bytes of any number to mono float32 samples [n] at `sample_rate`; keeps the bytes of an incomplete frame.

    Not shared between sessions: the resampler has a past.
    """

    def __init__(self, pcm: PcmFormat, sample_rate: int) -> None:
        self._pcm = pcm
        self._rest = b""
        self._conditioner = Conditioner(pcm.rate, sample_rate)
        self.frames = 0  # taken

    @property
    def replaced(self) -> int:
        """Samples that were NaN, infinite or absurdly large, replaced by 0."""
        return self._conditioner.non_finite_samples

    @property
    def audio_s(self) -> float:
        """Seconds of audio taken."""
        return self.frames / self._pcm.rate

    def decode(self, data: bytes) -> Iterator[Floats]:
        """The samples of a message, piece by piece."""
        data = self._rest + data
        whole = len(data) - len(data) % self._pcm.frame_bytes
        self._rest = data[whole:]
        step = max(1, int(_PIECE_S * self._pcm.rate)) * self._pcm.frame_bytes
        for first in range(0, whole, step):
            yield self._mono(data[first : min(first + step, whole)])

    def finish(self) -> Floats:
        """What the resampler still holds; bytes of an incomplete frame are dropped."""
        return self._conditioner.end()

    def _mono(self, data: bytes) -> Floats:
        block = to_float(data, self._pcm.encoding).reshape(-1, self._pcm.channels)
        self.frames += len(block)
        return self._conditioner.push(block)


class Arrivals:
    """Remembers when audio came, so that a hit can be told how long it took: from its attack's arrival to now."""

    def __init__(self, span_s: float = 5.0) -> None:
        self._span_s = span_s
        self._marks: deque[tuple[float, float]] = deque()  # (end of a message in seconds of audio, when it came)

    def note(self, audio_s: float, now: float) -> None:
        """Audio up to `audio_s` is here."""
        self._marks.append((audio_s, now))
        while self._marks[0][0] < audio_s - self._span_s:
            self._marks.popleft()

    def waited_s(self, time_s: float, now: float) -> float | None:
        """Seconds since the audio at `time_s` came; None where that was too long ago to know."""
        came = next((at for end_s, at in self._marks if end_s > time_s), None)
        return None if came is None else now - came
