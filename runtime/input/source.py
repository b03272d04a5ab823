"""What every source of audio offers, and the way of its samples to the model: mono, finite, at one rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..streams.stream import silence_non_finite

__all__ = ["HIGHEST_RATE", "LOWEST_RATE", "Conditioner", "Moment", "Source", "downmix"]

Floats = NDArray[np.float32]

# Hz of what comes in. Resampling from far below makes gigabytes of a small block, from far above it never ends.
LOWEST_RATE, HIGHEST_RATE = 8000, 192_000
_MOST_COLUMNS = 16  # channels that are added up one after the other


@dataclass(frozen=True, slots=True)
class Moment:
    """The newest sample that a source has handed out; the clock is `time.perf_counter`.

    position_s: its time in the stream, gaps included. heard_at_s: when it was sound (at the converter), or as close to
    that as the source can know. taken_at_s: when the source handed it out.
    """

    position_s: float
    heard_at_s: float
    taken_at_s: float


class Source(Protocol):
    """Iterates mono float32 blocks [n] at the model's rate, once; a context manager that closes what it opened."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def is_live(self) -> bool:
        """True where audio may arrive in real time, so that it should be processed as it comes."""

    @property
    def duration_s(self) -> float | None:
        """Announced length in seconds; None where unknown."""

    @property
    def source_rate(self) -> int:
        """Hz of what comes in."""

    @property
    def channels(self) -> int:
        """Channels of what comes in."""

    @property
    def non_finite_samples(self) -> int:
        """NaN and infinite samples so far, replaced by 0."""

    @property
    def warnings(self) -> list[str]:
        """What the user should know at the end."""

    @property
    def overruns(self) -> int:
        """How often audio was lost because nobody took it in time."""

    @property
    def newest(self) -> Moment | None:
        """What was handed out last; None before the first block."""

    def __iter__(self) -> Iterator[Floats]:
        """Blocks as they can be had. Raises InputError half-way, after having yielded what came before."""

    def rest(self) -> Iterator[Floats]:
        """After an iteration that was broken off: what had been heard but not handed out."""

    def __enter__(self) -> Source: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Conditioner:
    """Mean of the channels, without NaN, resampled (soxr, streaming). One stream; the state is the resampler's."""

    def __init__(self, source_rate: int, sample_rate: int) -> None:
        self.non_finite_samples = 0
        self._resampler = _resampler(source_rate, sample_rate)

    def push(self, block: Floats) -> Floats:
        """[n, channels] at the source's rate -> [m] at the model's; never memory of the block."""
        # Before resampling, whose filter would smear one NaN over its whole length.
        mono, replaced = silence_non_finite(downmix(block))
        self.non_finite_samples += replaced
        return mono if self._resampler is None else self._resampler.resample_chunk(mono)

    def end(self) -> Floats:
        """What the resampler holds back; nothing the second time."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        resampler, self._resampler = self._resampler, None
        return resampler.resample_chunk(np.zeros(0, np.float32), last=True)  # type: ignore[no-any-return]


def _resampler(source_rate: int, sample_rate: int) -> Any:
    if source_rate == sample_rate:
        return None
    import soxr

    return soxr.ResampleStream(source_rate, sample_rate, 1, dtype="float32")


def downmix(block: Floats) -> Floats:
    """The mean of the channels, [n, channels] -> [n]; always a copy, because the reader's block is used again."""
    mono = block[:, 0].copy()
    with np.errstate(over="ignore", invalid="ignore"):  # absurd samples become infinite and are counted as such
        if block.shape[1] > _MOST_COLUMNS:
            return np.asarray(block.mean(axis=1), np.float32)
        for channel in range(1, block.shape[1]):  # several times as fast as a mean over short rows
            mono += block[:, channel]
        mono *= np.float32(1 / block.shape[1])
    return mono
