"""What a page keeps of the sound while it passes: the waveform's outline, and the sound itself where it is short.

Samples are mono float32 [n], full scale 1.0. Memory is bounded, however long the sound.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..streams.stream import silence_non_finite

__all__ = ["LONGEST_AUDIO_S", "Outline", "Soundtrack", "omission"]

Floats = NDArray[np.float32]

LONGEST_AUDIO_S = 900.0  # 15 minutes are about 8 MB of page
_FINEST_BIN = 64  # samples; 1.5 ms at 44.1 kHz
_MOST_BINS = 1 << 17  # 7 to 14 ms each after 15 minutes


class Outline:
    """Smallest and largest sample of every bin; bins are merged in pairs whenever there are `most` (even) of them."""

    def __init__(self, most: int = _MOST_BINS, finest: int = _FINEST_BIN) -> None:
        self.bin_samples = finest
        self._ranges = np.zeros((2, most), np.float32)
        self._filled = 0
        self._rest = np.zeros(0, np.float32)  # samples that do not fill a bin yet

    def add(self, pcm: Floats) -> None:
        """Take the next samples [n]."""
        pcm = np.concatenate((self._rest, pcm))
        start = 0
        while len(pcm) - start >= self.bin_samples:
            bins = min((len(pcm) - start) // self.bin_samples, self._ranges.shape[1] - self._filled)
            blocks = pcm[start : start + bins * self.bin_samples].reshape(bins, self.bin_samples)
            self._ranges[:, self._filled : self._filled + bins] = blocks.min(1), blocks.max(1)
            self._filled += bins
            start += blocks.size
            if self._filled == self._ranges.shape[1]:
                self._merge()
        self._rest = pcm[start:].copy()

    def ranges(self) -> Floats:
        """[2, bins]: smallest, largest; the last bin may be of fewer samples."""
        ranges = self._ranges[:, : self._filled]
        if not len(self._rest):
            return ranges
        return np.concatenate((ranges, [[self._rest.min()], [self._rest.max()]]), axis=1, dtype=np.float32)

    def _merge(self) -> None:
        half = self._filled // 2
        self._ranges[0, :half] = self._ranges[0].reshape(half, 2).min(1)
        self._ranges[1, :half] = self._ranges[1].reshape(half, 2).max(1)
        self._filled, self.bin_samples = half, 2 * self.bin_samples


class Soundtrack:
    """Outline and Ogg Vorbis of a sound. `omitted` says why there is no Vorbis (given, or it became too long)."""

    def __init__(self, sample_rate: int, omitted: str | None = None, longest_s: float = LONGEST_AUDIO_S) -> None:
        self.sample_rate = sample_rate
        self.outline = Outline()
        self.samples = 0
        self.omitted = omitted
        self._longest_s = longest_s
        self._encoded = io.BytesIO()
        self._encoder: Any = None if omitted else _vorbis(self._encoded, sample_rate)

    def hear(self, pcm: Floats) -> None:
        """Take the next samples [n]."""
        pcm, _ = silence_non_finite(pcm)
        self.outline.add(pcm)
        self.samples += len(pcm)
        if self._encoder is None:
            return
        if self.samples > self._longest_s * self.sample_rate:
            self.omitted = _too_long(self._longest_s)
            self._encoder, self._encoded = None, io.BytesIO()
            return
        for first in range(0, len(pcm), self.sample_rate):  # libsndfile overruns its stack on long Vorbis blocks
            self._encoder.write(np.clip(pcm[first : first + self.sample_rate], -1, 1))

    def audio(self) -> bytes | None:
        """All of it as an Ogg Vorbis file, once; None where it is left out."""
        if self._encoder is None:
            return None
        self._encoder.close()
        self._encoder = None
        return self._encoded.getvalue()


def omission(*, live: bool, duration_s: float | None, longest_s: float = LONGEST_AUDIO_S) -> str | None:
    """Why a sound is going to be left out, as far as that is known in advance."""
    if live:
        return "The sound is left out: it came live, from a pipe or a device."
    if duration_s is not None and duration_s > longest_s:
        return _too_long(longest_s)
    return None


def _too_long(longest_s: float) -> str:
    return f"The sound is left out: it is longer than {longest_s / 60:g} minutes."


def _vorbis(file: io.BytesIO, sample_rate: int) -> Any:
    import soundfile

    return soundfile.SoundFile(file, "w", sample_rate, 1, format="OGG", subtype="VORBIS")
