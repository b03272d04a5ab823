"""Many streams in one process: threads that batch whatever is ready into calls of their engines.

    with StreamPool(open_engine("small"), max_wait_ms=5) as pool:
        stream = pool.open(latency_ms=100)
        stream.feed(pcm)       # mono float32 at pool.sample_rate, any size, from any thread
        hits = stream.read()   # found so far
        hits += stream.flush() # the rest

Every stream's hits are those of a `StreamingTranscriber` alone, whoever joins or leaves (float32 rounding aside, which
batched products may order differently). For asyncio see `asynchronous`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from functools import reduce
from operator import add
from types import TracebackType

from ..engines.protocol import Engine
from ..errors import EngineError, GhostnoteError, UsageError
from ..number import check_finite
from .lane import Lane, PoolStats
from .pooled_stream import PooledStream
from .stream import Stream

__all__ = ["PoolFullError", "PoolStats", "StreamPool"]

_UNEVEN = 1.25  # streams of one engine against the mean, so that those that are fed at one moment may meet there


class PoolFullError(GhostnoteError):
    """The pool holds as many streams as it may."""


class StreamPool:
    """Runs any number of `PooledStream`s on one engine, or on several of one model, whose only user it must be.

    Each engine has a thread of its own and its share of the streams: two engines on two cores hear the same streams in
    half of the time. Of several, each takes those that are fed in one part of a token's length, as far as the shares
    stay even: they wait for each other less, and the engines compute one after the other. A call begins when all
    streams that were heard together have a token, or `max_wait_ms` after a stream had one: live streams fall into
    groups by the moments at which they are fed, the same ones meet in every call, and no state is copied. The less the
    wait, the more groups: 5 to 10 ms answer soon, a
    token's length (20 ms) makes one group of all, which costs least. A stream holds at most `max_buffer_s` of unheard
    audio. A library's first calls are slow: `warm_streams` is the number of streams that the engines are run with on
    silence before the constructor returns. Raises what they then raise; UsageError for engines of different models,
    one engine twice, limits that are negative or endless.
    """

    def __init__(
        self,
        engine: Engine,
        *others: Engine,
        max_wait_ms: float = 5.0,
        max_streams: int = 1024,
        max_buffer_s: float = 2.0,
        warm_streams: int = 0,
    ) -> None:
        _check_limits(
            max_wait_ms=max_wait_ms, max_streams=max_streams, max_buffer_s=max_buffer_s, warm_streams=warm_streams
        )
        engines = (engine, *others)
        self._engine = engine
        self._manifest = engine.manifest
        if unlike := [other for other in others if other.manifest != self._manifest]:
            raise UsageError(
                f"a pool's engines must run one model, found {engine.describe()} and {unlike[0].describe()}"
            )
        if len({id(one) for one in engines}) < len(engines):
            raise UsageError("the same engine twice, which two threads would call; open_engines opens several")
        self._max_streams = max_streams
        self._capacity_tokens = max(2, round(max_buffer_s / self._manifest.token_s))
        self._opening = threading.Lock()
        mean = warm_streams / len(engines)
        share = max(math.ceil(mean), math.floor(_UNEVEN * mean)) if len(engines) > 1 else warm_streams
        self._lanes = [Lane(one, max_wait_ms, share) for one in engines]
        try:
            for lane in self._lanes:
                lane.wait_until_warm()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> StreamPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def engine(self) -> Engine:
        """The engine that the pool runs; of several, the first."""
        return self._engine

    @property
    def sample_rate(self) -> int:
        """Hz of the PCM that streams take."""
        return self._manifest.sample_rate

    def open(
        self,
        delay_index: int | None = None,
        *,
        latency_ms: float | None = None,
        notify: Callable[[], None] | None = None,
    ) -> PooledStream:
        """A new stream. Raises PoolFullError, UsageError where no delay fits, EngineError when the pool is closed.

        `notify` is called from the pool's thread after each change of the stream: room, hits, end, error. It must be
        quick, must not raise and must not call the stream.
        """
        stream = Stream(self._manifest, delay_index, latency_ms=latency_ms, capacity_tokens=self._capacity_tokens)
        with self._opening:
            counts = self._counts()
            schedule = self._lanes[counts.index(min(counts))].schedule
            with schedule.lock:
                if schedule.closed is not None:
                    raise EngineError(str(schedule.closed))
                if sum(counts) >= self._max_streams:
                    raise PoolFullError(
                        f"the pool holds {self._max_streams} streams, its limit; close one or raise max_streams"
                    )
                return PooledStream(schedule, schedule.join(stream, notify), self._settle)

    def _counts(self) -> list[int]:
        return [len(lane.schedule.members) for lane in self._lanes]

    def _settle(self, stream: PooledStream, samples: int) -> None:
        """A stream whose first samples come now goes to the engine of their moment, if that has room."""
        token_s, rate = self._manifest.token_s, self._manifest.sample_rate
        complete_s = time.monotonic() + max(token_s - samples / rate, 0.0)
        part = min(int(complete_s % token_s / token_s * len(self._lanes)), len(self._lanes) - 1)
        with self._opening:
            counts = self._counts()
            if counts[part] + 1 <= _UNEVEN * sum(counts) / len(counts):
                stream.move(self._lanes[part].schedule)

    def stats(self) -> PoolStats:
        """What the pool has done so far."""
        return reduce(add, (lane.stats() for lane in self._lanes))

    def close(self) -> None:
        """End the threads; streams that are still open raise EngineError from then on. The engines stay open."""
        for lane in self._lanes:
            lane.close()


def _check_limits(**limits: float) -> None:
    """Raises UsageError unless every one is a number from 0 on, with an end."""
    for name, value in limits.items():
        check_finite(name, value)
        if value < 0:
            raise UsageError(f"{name} {value}: expected 0 or more")
