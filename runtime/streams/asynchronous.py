"""A stream of a pool under asyncio: nothing here blocks the event loop.

    async with AsyncStream(pool, latency_ms=100) as stream:
        await stream.feed(pcm)
        for hit in await stream.read():
            ...
        rest = await stream.flush()

One task may feed while another reads. A task that is cancelled while it waits loses nothing: of what it fed,
`samples_fed` tells how much was taken in all, and one goes on from there; hits that were not read can still be read;
what was finished stays finished.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..events import Hit
from .pool import StreamPool
from .stream import check_pcm

__all__ = ["AsyncStream"]


class AsyncStream:
    """A `PooledStream` whose waiting is done by the running event loop; make it inside that loop.

    Raises what `StreamPool.open` raises.
    """

    def __init__(self, pool: StreamPool, delay_index: int | None = None, *, latency_ms: float | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._stream = pool.open(delay_index, latency_ms=latency_ms, notify=self._notify)

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def total_latency_ms(self) -> float:
        """Worst case from attack to report with the chosen delay, without transport, waiting and computing."""
        return self._stream.total_latency_ms

    @property
    def samples_fed(self) -> int:
        """Samples taken since the start."""
        return self._stream.samples_fed

    @property
    def ended(self) -> bool:
        """Whether the stream was finished and all its hits are found."""
        return self._stream.ended

    async def feed(self, pcm: NDArray[np.float32]) -> None:
        """Take samples [n], waiting while the stream's buffer is full. Raises EngineError, ValueError.

        Raises BacklogError where thousands of hits wait to be read: then only reading makes room.
        Cancelled, it may have taken some of them: as many as `samples_fed` has grown by.
        """
        pcm = check_pcm(pcm)
        taken = 0
        while True:
            waiter = self._next_change()
            taken += self._stream.offer(pcm[taken:])
            if taken == len(pcm):
                return
            self._stream.check_read(taken, len(pcm))
            await waiter.wait()

    async def read(self) -> list[Hit]:
        """Hits found since the last read; waits until there are some. None at all: the stream has ended.

        Raises EngineError once the hits before it were read.
        """
        while True:
            waiter = self._next_change()
            ended = self._stream.ended  # asked first: what ends it brings its last hits
            hits = self._stream.read()
            if hits or ended:
                return hits
            await waiter.wait()

    def finish(self) -> None:
        """No more samples will come; `read` gives what is still to be found. Raises EngineError."""
        self._stream.finish()
        self._wake()

    async def flush(self) -> list[Hit]:
        """End of the stream: all hits not yet read. Raises EngineError; the hits before it can still be read."""
        self.finish()
        while True:
            waiter = self._next_change()
            if self._stream.ended:
                return self._stream.read()
            self._stream.check()
            await waiter.wait()

    def reset(self) -> None:
        """After its end: forget everything, the next sample is the first of a new stream. Raises EngineError."""
        self._stream.reset()

    def close(self) -> None:
        """Leave the pool; unread hits can still be read."""
        self._stream.close()
        self._wake()

    def _next_change(self) -> asyncio.Event:
        """An event that is set by whatever changes from now on; taken before looking, so that nothing is missed."""
        return self._changed

    def _notify(self) -> None:
        """From the pool's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more, and the pool has others
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        """Wake all who wait; who waits next waits for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()
