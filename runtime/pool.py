"""Many streams in one process: one thread batches whatever is ready into calls of one engine.

    with StreamPool(open_engine("small"), max_wait_ms=5) as pool:
        stream = pool.open(latency_ms=100)
        stream.feed(pcm)       # mono float32 at pool.sample_rate, any size, from any thread
        hits = stream.read()   # found so far
        hits += stream.flush() # the rest

Every stream's hits are those of a `StreamingTranscriber` alone, whoever joins or leaves (float32 rounding aside, which
batched products may order differently). For asyncio see `asynchronous`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from .engines.protocol import Engine, StepOutput
from .errors import EngineError, GhostnoteError
from .pool_schedule import Member, Schedule
from .pool_states import gather, settle
from .pooled_stream import PooledStream
from .stream import FILE_TOKENS_PER_CALL, Stream

__all__ = ["PoolFullError", "PoolStats", "StreamPool"]

_TOKENS_PER_CALL = 256  # over all streams of a call, when they have more than one each: bounds how long others wait
_CLOSED = "the pool was closed"
_WARM_CALLS = 4
_QUIET_TOKENS = 5  # a stream that was not fed for so long is not waited for


class PoolFullError(GhostnoteError):
    """The pool holds as many streams as it may."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What a pool has done since it began.

    A token is late when its hits come more than `max_wait_ms` and a token's own length after its last sample was fed:
    a pool without late tokens keeps up with live streams.
    """

    streams: int = 0  # open now
    calls: int = 0  # of the engine
    stream_calls: int = 0  # calls times the streams in each
    tokens: int = 0  # over all streams
    late_tokens: int = 0
    worst_lag_ms: float = 0.0  # from the last sample of a token to its hits
    engine_s: float = 0.0  # wall-clock time inside the engine's step
    gather_s: float = 0.0  # wall-clock time copying states
    waiting_samples: int = 0  # taken and not yet heard, over all streams that are open now


class StreamPool:
    """Runs any number of `PooledStream`s on one engine, whose only user it must be.

    A call begins when all streams that are being fed have a token, or `max_wait_ms` after the first had one. From one
    token's length on (20 ms) live streams fall into step, so that the same ones meet in every call and no state is
    copied. A stream holds at most `max_buffer_s` of unheard audio. A library's first calls are slow: `warm_streams` is
    the number of streams that it is run with on silence before the constructor returns. Raises what it then raises.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_wait_ms: float = 5.0,
        max_streams: int = 1024,
        max_buffer_s: float = 2.0,
        warm_streams: int = 0,
    ) -> None:
        self._engine = engine
        self._manifest = engine.manifest
        token_s = self._manifest.token_s
        self._late_s = max_wait_ms / 1000 + token_s
        self._max_streams = max_streams
        self._capacity_tokens = max(2, round(max_buffer_s / token_s))
        self._schedule = Schedule(max_wait_ms / 1000, _QUIET_TOKENS * token_s)
        self._stats = PoolStats()
        self._warm_streams = warm_streams
        self._warm = threading.Event()
        self._failure: Exception | None = None  # of warming up
        self._thread = threading.Thread(target=self._run, name="ghostnote-pool", daemon=True)
        self._thread.start()
        self._warm.wait()
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> StreamPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def engine(self) -> Engine:
        """The engine that the pool runs."""
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
        with self._schedule.lock:
            if self._schedule.closed:
                raise EngineError(_CLOSED)
            if len(self._schedule.members) >= self._max_streams:
                raise PoolFullError(
                    f"the pool holds {self._max_streams} streams, its limit; close one or raise max_streams"
                )
            return PooledStream(self._schedule, self._schedule.join(stream, notify))

    def stats(self) -> PoolStats:
        """What the pool has done so far."""
        with self._schedule.lock:
            members = self._schedule.members
            waiting_samples = sum(member.stream.waiting for member in members)
            return replace(self._stats, streams=len(members), waiting_samples=waiting_samples)

    def close(self) -> None:
        """End the thread; streams that are still open raise EngineError from then on. The engine stays open."""
        with self._schedule.lock:
            left = list(self._schedule.members)
            self._schedule.close(EngineError(_CLOSED))
        _notify(left)
        self._thread.join()

    def _run(self) -> None:
        """The thread: wait, gather, step, deliver, until closed."""
        try:
            self._warm_up()
        except Exception as error:  # noqa: BLE001 - told by the constructor, which waits for it
            self._failure = error
        self._warm.set()
        while self._failure is None:
            chosen = self._schedule.next_call()
            if not chosen:
                return
            with self._schedule.lock:
                tokens = _tokens_of_call(chosen)
                audio = np.stack([member.stream.audio(tokens) for member in chosen])
                delay = np.array([[member.stream.delay_index] for member in chosen], np.int64)
            self._call(chosen, tokens, audio, delay)

    def _warm_up(self) -> None:
        count = self._warm_streams
        if not count:
            return
        audio = np.zeros((count, self._manifest.samples_per_token), np.float32)
        delay = np.full((count, 1), self._manifest.default_delay, np.int64)
        state = self._engine.zero_state(count)
        for _ in range(_WARM_CALLS):
            state = self._engine.step(audio, delay, state).state

    def _call(self, chosen: list[Member], tokens: int, audio: NDArray[np.float32], delay: NDArray[np.int64]) -> None:
        """One call for these streams; where it fails, each of them alone, so that the guilty one is found."""
        start = time.monotonic()
        try:
            state = gather(self._engine, chosen)
            gathered = time.monotonic()
            output = self._engine.step(audio, delay, state)
        except Exception as error:  # noqa: BLE001 - a thread that died would leave every stream waiting for ever
            if len(chosen) > 1:
                for row, member in enumerate(chosen):
                    self._call([member], tokens, audio[row : row + 1], delay[row : row + 1])
                return
            self._fail(chosen[0], error)
            return
        done = time.monotonic()
        with self._schedule.lock:
            lags_s = self._deliver(chosen, tokens, output, done)
            s = self._stats
            self._stats = replace(
                s,
                calls=s.calls + 1,
                stream_calls=s.stream_calls + len(chosen),
                tokens=s.tokens + tokens * len(chosen),
                late_tokens=s.late_tokens + tokens * sum(lag_s > self._late_s for lag_s in lags_s),
                worst_lag_ms=max([s.worst_lag_ms, *(1000 * lag_s for lag_s in lags_s)]),
                engine_s=s.engine_s + done - gathered,
                gather_s=s.gather_s + gathered - start,
            )
        _notify(chosen)

    def _deliver(self, chosen: list[Member], tokens: int, output: StepOutput, done: float) -> list[float]:
        """Give each stream what came of the call; seconds that each had waited for it."""
        settle(self._engine, chosen, output.state)
        lags_s = []
        for row, member in enumerate(chosen):
            member.busy = False
            if member.error is not None:  # left while it was in the call
                member.place = None
                continue
            lags_s.append(done - member.ready_since)
            member.take(tokens, output, row)
            self._schedule.offer(member)
        return lags_s

    def _fail(self, member: Member, error: Exception) -> None:
        known = error if isinstance(error, GhostnoteError) else EngineError(f"the engine failed: {error!r}")
        with self._schedule.lock:
            member.busy = False
            self._schedule.leave(member, known)
        _notify([member])


def _tokens_of_call(chosen: Sequence[Member]) -> int:
    """As many as all of them have, unless that would make the call long."""
    most = min(FILE_TOKENS_PER_CALL, _TOKENS_PER_CALL // len(chosen))
    return max(1, min(most, *(member.stream.tokens for member in chosen)))


def _notify(members: Sequence[Member]) -> None:
    for member in members:
        if member.notify is not None:
            member.notify()
