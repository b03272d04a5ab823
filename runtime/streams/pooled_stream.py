"""A stream of a pool, as its owner sees it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..errors import GhostnoteError
from ..events import Hit
from .schedule import Member, Schedule
from .stream import check_pcm

__all__ = ["BacklogError", "PooledStream"]

Floats = NDArray[np.float32]


class BacklogError(GhostnoteError):
    """There is no room: audio comes faster than it is heard, or nobody reads the hits.

    `taken` samples of the call were accepted, the rest was not.
    """

    def __init__(self, message: str, taken: int) -> None:
        super().__init__(message)
        self.taken = taken


class PooledStream:
    """One stream of a pool; made by `StreamPool.open`. Any thread may call it, one at a time."""

    def __init__(self, schedule: Schedule, member: Member, settle: Callable[[PooledStream, int], None]) -> None:
        self._schedule = schedule
        self._member = member
        self._settle = settle  # called before so many first samples come: may `move` the stream

    @property
    def total_latency_ms(self) -> float:
        """Worst case from attack to report with the chosen delay, without transport, waiting and computing."""
        return self._member.stream.total_latency_ms

    @property
    def samples_fed(self) -> int:
        """Samples taken since the start."""
        return self._member.stream.fed

    @property
    def non_finite_samples(self) -> int:
        """Samples that were NaN, infinite or absurdly large, replaced by 0, since the start."""
        return self._member.stream.non_finite

    @property
    def ended(self) -> bool:
        """Whether the stream was finished and all its hits are found."""
        with _Held(self):
            return self._member.stream.ended

    def feed(self, pcm: Floats, timeout: float | None = None) -> None:
        """Take samples [n], waiting for room. Raises EngineError, ValueError, RuntimeError after `flush`.

        Raises BacklogError after `timeout` seconds, and at once where only reading would make room.
        """
        pcm = self._checked(pcm)
        end = None if timeout is None else time.monotonic() + timeout
        with _Held(self):
            taken = self._push(pcm)
            while taken < len(pcm):
                self.check_read(taken, len(pcm))
                if not self._wait(end):
                    raise BacklogError(
                        f"the stream's buffer is full: {taken} of {len(pcm)} samples taken within {timeout:g} s; "
                        "feed in real time, read the hits, or wait longer",
                        taken,
                    )
                taken += self._push(pcm[taken:])

    def offer(self, pcm: Floats) -> int:
        """Take as many of the samples [n] as there is room for, without waiting; how many.

        Raises EngineError, ValueError, RuntimeError after `flush`.
        """
        pcm = self._checked(pcm)
        with _Held(self):
            return self._push(pcm)

    def read(self, timeout: float | None = 0.0) -> list[Hit]:
        """Hits found since the last read; waits up to `timeout` seconds for one, with None until there is one.

        Order as in `StreamingTranscriber`.

        Raises EngineError once the hits before it were read.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with _Held(self):
            while not self._member.hits and not self._member.stream.ended:
                self.check()
                if not self._wait(end):
                    break
            return self._drain()

    def finish(self) -> None:
        """No more samples will come; `read` gives what is still to be found, until `ended`. Raises EngineError."""
        with _Held(self):
            self.check()
            self._member.finish()
            self._schedule.offer(self._member)

    def flush(self) -> list[Hit]:
        """End of the stream: wait for all hits not yet read. Feeding again needs `reset`.

        Raises EngineError; the hits found before are still there to `read`.
        """
        with _Held(self):
            self.finish()
            while not self._member.stream.ended:
                self._wait(None)
                self.check()
            return self._drain()

    def reset(self) -> None:
        """Forget everything, unread hits too: the next sample is the first of a new stream. Raises EngineError."""
        with _Held(self):
            self.check()
            while self._member.busy:
                self._wait(None)
                self.check()  # it may have left while it was in its call
            self._schedule.rewind(self._member)

    def check(self) -> None:
        """Raise what ended the stream, if anything did."""
        if self._member.error is not None:
            raise self._member.error

    def check_read(self, taken: int, wanted: int) -> None:
        """Raise BacklogError where no more samples are heard until hits are read: waiting would be for ever."""
        with _Held(self):
            if self._member.unread:
                raise BacklogError(
                    f"{len(self._member.hits)} hits wait to be read, and no more is heard until they are: {taken} of "
                    f"{wanted} samples taken; read them, then feed the rest",
                    taken,
                )

    def close(self) -> None:
        """Leave the pool; unread hits can still be read. Closing twice does no harm."""
        with _Held(self):
            self._schedule.leave(self._member)

    def __enter__(self) -> PooledStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def move(self, schedule: Schedule) -> None:
        """Be heard there from the first sample on; a stream that has begun stays. No two streams may move at once."""
        here = self._schedule
        if schedule is here:
            return
        with here.lock, schedule.lock:
            member = self._member
            if member.movable and schedule.closed is None:
                here.members.discard(member)
                self._schedule, self._member = schedule, schedule.join(member.stream, member.notify)

    def _checked(self, pcm: Floats) -> Floats:
        """Samples to take; before the first ones, the stream goes where it shall be heard."""
        pcm = check_pcm(pcm)
        if len(pcm) and self._member.movable:
            self._settle(self, len(pcm))
        return pcm

    def _push(self, pcm: Floats) -> int:
        self.check()
        if self._member.stream.finished:
            raise RuntimeError("this stream was flushed; call reset() before feeding another")
        taken = self._member.push(pcm)
        self._schedule.offer(self._member)
        return taken

    def _wait(self, end: float | None) -> bool:
        """Wait for any change; False when the time is over."""
        left_s = None if end is None else end - time.monotonic()
        if left_s is not None and left_s <= 0:
            return False
        member = self._member
        member.waiting += 1
        try:
            member.changed.wait(None if left_s is None else min(left_s, threading.TIMEOUT_MAX))
        finally:
            member.waiting -= 1
        return True

    def _drain(self) -> list[Hit]:
        hits = list(self._member.hits)
        self._member.hits.clear()
        self._schedule.offer(self._member)  # it may have been kept waiting because nobody read
        return hits


class _Held:
    """The lock of where a stream is heard, which may change until it is held."""

    # A class, since a generator's context costs three times as much, and each piece of audio comes through here.
    __slots__ = ("_stream",)

    def __init__(self, stream: PooledStream) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        while True:
            schedule = self._stream._schedule
            schedule.lock.acquire()
            if schedule is self._stream._schedule:
                return
            schedule.lock.release()

    def __exit__(self, *_: object) -> None:
        self._stream._schedule.lock.release()
