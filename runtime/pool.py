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
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from .engines.protocol import Engine, State, StepOutput
from .errors import EngineError, GhostnoteError
from .events import Hit
from .stream import FILE_TOKENS_PER_CALL, Stream, check_pcm

__all__ = ["BacklogError", "PoolFullError", "PoolStats", "PooledStream", "StreamPool"]

Floats = NDArray[np.float32]

_TOKENS_PER_CALL = 256  # over all streams of a call, when they have more than one each: bounds how long others wait
_UNREAD_HITS = 10_000  # a stream whose hits nobody reads is not listened to any further
_CLOSED = "the pool was closed"
_WARM_CALLS = 4
_QUIET_TOKENS = 5  # a stream that was not fed for so long is not waited for


class PoolFullError(GhostnoteError):
    """The pool holds as many streams as it may."""


class BacklogError(GhostnoteError):
    """Audio comes faster than it is heard; `taken` samples of the call were accepted, the rest was not."""

    def __init__(self, message: str, taken: int) -> None:
        super().__init__(message)
        self.taken = taken


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


class _Held:
    """A state of several streams, and who stands in which row."""

    def __init__(self, state: State, members: Sequence[PooledStream]) -> None:
        self.state = state
        self.members = list(members)
        self.alive = set(members)
        for row, member in enumerate(members):
            member.leave_state()
            member.held, member.row = self, row


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
        self._max_wait_s = max_wait_ms / 1000
        self._late_s = self._max_wait_s + self._manifest.token_s
        self._quiet_s = _QUIET_TOKENS * self._manifest.token_s
        self._max_streams = max_streams
        self._capacity_tokens = max(2, round(max_buffer_s / self._manifest.token_s))
        self._lock = threading.RLock()  # guards everything below and the members' fields
        self._work = threading.Condition(self._lock)  # what the pool's thread waits on; each stream has its own
        self._streams: set[PooledStream] = set()
        self._ready: set[PooledStream] = set()  # that have a token and are not in a call
        self._expected = 0  # how many of them make it useless to wait for more
        self._opened = 0
        self._stats = PoolStats()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="ghostnote-pool", daemon=True)
        self._warm = threading.Event()
        self._failure: Exception | None = None
        self._warm_streams = warm_streams
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
        quick and must not call the stream.
        """
        stream = Stream(self._manifest, delay_index, latency_ms=latency_ms, capacity_tokens=self._capacity_tokens)
        with self._lock:
            if self._closing:
                raise EngineError(_CLOSED)
            if len(self._streams) >= self._max_streams:
                raise PoolFullError(
                    f"the pool holds {self._max_streams} streams, its limit; close one or raise max_streams"
                )
            self._opened += 1
            member = PooledStream(self, stream, self._opened, notify)
            self._streams.add(member)
            return member

    def stats(self) -> PoolStats:
        """What the pool has done so far."""
        with self._lock:
            waiting_samples = sum(member.stream.waiting for member in self._streams)
            return replace(self._stats, streams=len(self._streams), waiting_samples=waiting_samples)

    def close(self) -> None:
        """End the thread; streams that are still open raise EngineError from then on. The engine stays open."""
        with self._lock:
            self._closing = True
            for member in list(self._streams):
                self.drop(member, EngineError(_CLOSED))
            self._work.notify()
        self._thread.join()

    def has(self, member: PooledStream) -> bool:
        """Whether the stream is open in this pool."""
        return member in self._streams

    def offer(self, member: PooledStream) -> None:
        """The stream may have a token now: call for work. The caller holds the lock."""
        if member.busy or not member.is_ready() or member in self._ready or member not in self._streams:
            return
        self._ready.add(member)
        if len(self._ready) == 1 or len(self._ready) >= self._expected:
            self._work.notify()

    def drop(self, member: PooledStream, error: GhostnoteError | None = None) -> None:
        """The stream leaves, because it wants to or because of an error. The caller holds the lock."""
        self._streams.discard(member)
        self._ready.discard(member)
        if not member.busy:  # otherwise its call is going on, and `_deliver` sees that it has left
            member.leave_state()
        member.end(error)

    def _run(self) -> None:
        """The thread: wait, gather, step, deliver, until closed."""
        try:
            self._warm_up()
        except Exception as error:  # noqa: BLE001 - told by the constructor, which waits for it
            self._failure = error
        self._warm.set()
        while self._failure is None:
            with self._lock:
                chosen = self._wait_for_tokens()
                if not chosen:
                    return
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

    def _wait_for_tokens(self) -> list[PooledStream]:
        """The streams of the next call, at least one, in the order in which they came; none when the pool closes."""
        while not self._closing:
            if not self._ready:
                self._work.wait()
                continue
            now = time.monotonic()
            left_s = min(member.ready_since for member in self._ready) + self._max_wait_s - now
            fed = [member for member in self._streams if now - member.fed_at < self._quiet_s]
            self._expected = max(1, len(fed))
            if left_s <= 0 or self._ready.issuperset(fed):
                chosen = sorted(self._ready, key=lambda member: member.number)
                self._ready.clear()
                for member in chosen:
                    member.busy = True
                return chosen
            self._work.wait(left_s)
        return []

    def _call(self, chosen: list[PooledStream], tokens: int, audio: Floats, delay: NDArray[np.int64]) -> None:
        """One call for these streams; where it fails, each of them alone, so that the guilty one is found."""
        start = time.monotonic()
        try:
            state = self._gather(chosen)
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
        with self._lock:
            self._deliver(chosen, tokens, output, done)
            s = self._stats
            self._stats = replace(
                s,
                calls=s.calls + 1,
                stream_calls=s.stream_calls + len(chosen),
                tokens=s.tokens + tokens * len(chosen),
                engine_s=s.engine_s + done - gathered,
                gather_s=s.gather_s + gathered - start,
            )
        _notify(chosen)

    def _gather(self, chosen: list[PooledStream]) -> State:
        """The streams' states in one: as it is where exactly these streams came out of one call, copied otherwise."""
        for member in chosen:
            if member.held is None:
                _Held(self._engine.zero_state(1), [member])
        held = chosen[0].held
        assert held is not None
        if held.members == chosen and len(held.alive) == len(chosen):
            return held.state
        return self._engine.select([member.place() for member in chosen])

    def _deliver(self, chosen: list[PooledStream], tokens: int, output: StepOutput, done: float) -> None:
        before = {id(member.held): member.held for member in chosen if member.held is not None}
        _Held(output.state, chosen)
        for held in before.values():
            self._compact(held)
        late, worst_s = 0, self._stats.worst_lag_ms / 1000
        for row, member in enumerate(chosen):
            member.busy = False
            if member not in self._streams:  # left while it was in the call
                member.leave_state()
                continue
            lag_s = done - member.ready_since
            late += tokens if lag_s > self._late_s else 0
            worst_s = max(worst_s, lag_s)
            member.take(tokens, output, row)
            self.offer(member)
        self._stats = replace(self._stats, late_tokens=self._stats.late_tokens + late, worst_lag_ms=1000 * worst_s)

    def _compact(self, held: _Held) -> None:
        """Do not keep a large state in memory for the few that are still in it."""
        left = [member for member in held.members if member in held.alive]
        if left and 2 * len(left) <= len(held.members):
            _Held(self._engine.select([member.place() for member in left]), left)

    def _fail(self, member: PooledStream, error: Exception) -> None:
        known = error if isinstance(error, GhostnoteError) else EngineError(f"the engine failed: {error!r}")
        with self._lock:
            member.busy = False
            self.drop(member, known)
        _notify([member])


class PooledStream:
    """One stream of a pool; made by `StreamPool.open`. Any thread may call it, one at a time.

    What stands below `close` is between the stream and its pool, under the pool's lock.
    """

    def __init__(self, pool: StreamPool, stream: Stream, number: int, notify: Callable[[], None] | None) -> None:
        self._pool = pool
        self._changed = threading.Condition(pool._lock)
        self._hits: deque[Hit] = deque()
        self._error: GhostnoteError | None = None
        self._arrivals: deque[float] = deque()  # when each waiting token was complete
        self.stream = stream
        self.number = number
        self.notify = notify
        self.held: _Held | None = None  # None: at its beginning
        self.row = 0
        self.busy = False  # in a call now
        self.fed_at = 0.0

    @property
    def total_latency_ms(self) -> float:
        """Worst case from attack to report with the chosen delay, without transport, waiting and computing."""
        return self.stream.total_latency_ms

    @property
    def samples_fed(self) -> int:
        """Samples taken since the start."""
        return self.stream.fed

    @property
    def ended(self) -> bool:
        """Whether the stream was finished and all its hits are found."""
        with self._changed:
            return self.stream.ended

    def feed(self, pcm: Floats, timeout: float | None = None) -> None:
        """Take samples [n], waiting for room. Raises BacklogError after `timeout` seconds, EngineError, ValueError."""
        pcm = check_pcm(pcm)
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            taken = self._push(pcm)
            while taken < len(pcm):
                if not self._wait(end):
                    raise BacklogError(
                        f"the stream's buffer is full: {taken} of {len(pcm)} samples taken within {timeout:g} s; "
                        "feed in real time, read the hits, or wait longer",
                        taken,
                    )
                taken += self._push(pcm[taken:])

    def offer(self, pcm: Floats) -> int:
        """Take as many of the samples [n] as there is room for, without waiting; how many. Raises EngineError."""
        pcm = check_pcm(pcm)
        with self._changed:
            return self._push(pcm)

    def read(self, timeout: float = 0.0) -> list[Hit]:
        """Hits found since the last read; waits up to `timeout` seconds for one. Order as in `StreamingTranscriber`.

        Raises EngineError once the hits before it were read.
        """
        end = time.monotonic() + timeout
        with self._changed:
            while not self._hits and not self.stream.ended:
                self.check()
                if not self._wait(end):
                    break
            return self._drain()

    def finish(self) -> None:
        """No more samples will come; `read` gives what is still to be found, until `ended`. Raises EngineError."""
        with self._changed:
            self.check()
            self.stream.finish()
            self._arrived()

    def flush(self) -> list[Hit]:
        """End of the stream: wait for all hits not yet read. Feeding again needs `reset`.

        Raises EngineError; the hits found before are still there to `read`.
        """
        with self._changed:
            self.finish()
            while not self.stream.ended:
                self._wait(None)
                self.check()
            return self._drain()

    def reset(self) -> None:
        """Forget everything, unread hits too: the next sample is the first of a new stream. Raises EngineError."""
        with self._changed:
            while self.busy:
                self._wait(None)
            self.check()
            self.stream.reset()
            self._hits.clear()
            self._arrivals.clear()
            self._pool._ready.discard(self)
            self.leave_state()

    def close(self) -> None:
        """Leave the pool; unread hits can still be read. Closing twice does no harm."""
        with self._changed:
            self._pool.drop(self)

    def __enter__(self) -> PooledStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def ready_since(self) -> float:
        """When the first of the waiting tokens was complete."""
        return self._arrivals[0]

    def is_ready(self) -> bool:
        """Whether there is a token to hear, and somebody who reads what comes of it."""
        return self.stream.tokens > 0 and (self.stream.finished or len(self._hits) < _UNREAD_HITS)

    def take(self, tokens: int, output: StepOutput, row: int) -> None:
        """What the network said of the next tokens."""
        for _ in range(tokens):
            self._arrivals.popleft()
        self._hits += self.stream.advance(tokens, output.onset_logits[row], output.velocity[row], output.offset[row])
        self._arrived()
        self._changed.notify_all()

    def end(self, error: GhostnoteError | None) -> None:
        """The stream has left the pool."""
        self._error = self._error or error or EngineError("this stream was closed")
        self._changed.notify_all()

    def place(self) -> tuple[State, int]:
        """Where the state stands."""
        assert self.held is not None
        return self.held.state, self.row

    def leave_state(self) -> None:
        """Give up the place in the state."""
        if self.held is not None:
            self.held.alive.discard(self)
            self.held = None

    def _push(self, pcm: Floats) -> int:
        self.check()
        if self.stream.finished:
            raise RuntimeError("this stream was flushed; call reset() before feeding another")
        taken = min(self.stream.room, len(pcm))
        self.stream.push(pcm[:taken])
        self.fed_at = time.monotonic()
        self._arrived()
        return taken

    def _arrived(self) -> None:
        """Note when tokens became complete, and tell the pool."""
        now = time.monotonic()
        self._arrivals.extend([now] * (self.stream.tokens - len(self._arrivals)))
        self._pool.offer(self)

    def _wait(self, end: float | None) -> bool:
        """Wait for any change; False when the time is over."""
        left_s = None if end is None else end - time.monotonic()
        if left_s is not None and left_s <= 0:
            return False
        self._changed.wait(left_s)
        return True

    def check(self) -> None:
        """Raise what ended the stream, if anything did."""
        if self._error is not None:
            raise self._error

    def _drain(self) -> list[Hit]:
        hits = list(self._hits)
        self._hits.clear()
        self._pool.offer(self)  # it may have been kept waiting because nobody read
        return hits


def _tokens_of_call(chosen: Sequence[PooledStream]) -> int:
    """As many as all of them have, unless that would make the call long."""
    most = min(FILE_TOKENS_PER_CALL, _TOKENS_PER_CALL // len(chosen))
    return max(1, min(most, *(member.stream.tokens for member in chosen)))


def _notify(members: Sequence[PooledStream]) -> None:
    for member in members:
        if member.notify is not None:
            member.notify()
