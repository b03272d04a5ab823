"""A bounded buffer between an audio thread that must never wait and whoever processes its audio."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

__all__ = ["RingBuffer"]

Floats = NDArray[np.float32]


class RingBuffer:
    """Frames [n, channels] from one writing thread to one reading thread, without a lock.

    Each counter is changed by one thread only, and a write shows only once its samples are in place. What finds no room
    is dropped and comes out as zeros of the same length, so that time goes on; those zeros take no room.
    """

    def __init__(self, frames: int, channels: int) -> None:
        self._data = np.zeros((frames, channels), np.float32)
        self._written = 0  # frames put in; the writer's
        self._taken = 0  # frames taken out; the reader's
        self._missing = 0  # frames dropped since the last one put in; the writer's
        self._gaps: deque[tuple[int, int]] = deque()  # (frames written before it, its length)
        self.lost_frames = 0
        self.overruns = 0  # runs of dropped frames

    @property
    def position(self) -> int:
        """Frames that the writer has seen, dropped ones included."""
        return self._written + self.lost_frames

    def write(self, block: Floats) -> None:
        """Copy the block in, whole, or drop it whole."""
        n, size = len(block), len(self._data)
        if n > size - (self._written - self._taken):
            self.skip(n)
            return
        self.seal()
        start = self._written % size
        head = min(n, size - start)
        self._data[start : start + head] = block[:head]
        self._data[: n - head] = block[head:]
        self._written += n

    def skip(self, frames: int) -> None:
        """Frames that are lost, here or before they came here."""
        if not self._missing:
            self.overruns += 1
        self._missing += frames
        self.lost_frames += frames

    def seal(self) -> None:
        """Let the reader see the frames dropped last; for the writer, or when it writes no more."""
        if self._missing:
            self._gaps.append((self._written, self._missing))
            self._missing = 0

    def take(self, limit: int) -> Floats | None:
        """The next frames in order, at most `limit`, a copy; None where there are none."""
        end = self._written  # before looking at the gaps: one that lies before it is in the list already
        if self._gaps and self._gaps[0][0] == self._taken:
            return self._take_gap(limit)
        if self._gaps:
            end = min(end, self._gaps[0][0])
        n, size = min(limit, end - self._taken), len(self._data)
        if not n:
            return None
        start = self._taken % size
        block = np.concatenate((self._data[start : start + n], self._data[: max(0, start + n - size)]))
        self._taken += n
        return block

    def _take_gap(self, limit: int) -> Floats:
        place, missing = self._gaps[0]
        n = min(limit, missing)
        if n < missing:
            self._gaps[0] = (place, missing - n)  # the writer only appends
        else:
            self._gaps.popleft()
        return np.zeros((n, self._data.shape[1]), np.float32)
