"""One thread of a pool and the engine that it calls, for its share of the streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..engines.protocol import Engine, StepOutput
from ..errors import EngineError, GhostnoteError
from .schedule import Member, Schedule
from .states import gather, settle
from .stream import FILE_TOKENS_PER_CALL

__all__ = ["Lane", "PoolStats"]

_TOKENS_PER_CALL = 256  # over all streams of a call, when they have more than one each: bounds how long others wait
_WARM_CALLS = 4


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What a pool has done since it began.

    A token is late when its hits come more than `max_wait_ms` and a token's own length after its last sample was fed:
    a pool without late tokens keeps up with live streams.
    """

    streams: int = 0  # open now
    calls: int = 0  # of the engines
    stream_calls: int = 0  # calls times the streams in each
    tokens: int = 0  # over all streams
    late_tokens: int = 0
    worst_lag_ms: float = 0.0  # from the last sample of a token to its hits
    engine_s: float = 0.0  # wall-clock time inside an engine's step, over all threads
    gather_s: float = 0.0  # wall-clock time copying states, over all threads
    waiting_samples: int = 0  # taken and not yet heard, over all streams that are open now

    def __add__(self, other: PoolStats) -> PoolStats:
        """Those of two lanes as one."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__}
        return PoolStats(**{**sums, "worst_lag_ms": max(self.worst_lag_ms, other.worst_lag_ms)})


class Lane:
    """Runs the streams of its `schedule` on one engine, whose only user it must be."""

    def __init__(self, engine: Engine, max_wait_ms: float, warm_streams: int) -> None:
        self._engine = engine
        self._manifest = engine.manifest
        token_s = self._manifest.token_s
        self._late_s = max_wait_ms / 1000 + token_s
        self.schedule = Schedule(max_wait_ms / 1000)
        self._stats = PoolStats()
        self._warm_streams = warm_streams
        self._warm = threading.Event()
        self._failure: Exception | None = None  # why the thread ended
        self._thread = threading.Thread(target=self._run, name="ghostnote-pool", daemon=True)
        self._thread.start()

    def wait_until_warm(self) -> None:
        """Raises what the engine raised."""
        self._warm.wait()
        if self._failure is not None:
            raise self._failure

    def stats(self) -> PoolStats:
        """What the lane has done so far."""
        with self.schedule.lock:
            members = self.schedule.members
            waiting_samples = sum(member.stream.waiting for member in members)
            return replace(self._stats, streams=len(members), waiting_samples=waiting_samples)

    def close(self) -> None:
        """End the thread; streams that are still open raise EngineError from then on."""
        self._end(EngineError("the pool was closed"))
        self._thread.join()

    def _end(self, error: EngineError) -> None:
        with self.schedule.lock:
            left = list(self.schedule.members)
            self.schedule.close(error)
        self._notify(left)

    def _run(self) -> None:
        """The thread: wait, gather, step, deliver, until closed."""
        try:
            self._warm_up()
            self._warm.set()
            while chosen := self.schedule.next_call():
                with self.schedule.lock:
                    tokens = _tokens_of_call(chosen)
                    audio = np.stack([member.stream.audio(tokens) for member in chosen])
                    delay = np.array([[member.stream.delay_index] for member in chosen], np.int64)
                self._call(chosen, tokens, audio, delay)
        except Exception as error:  # noqa: BLE001 - neither the constructor nor streams wait for a thread that ended
            self._failure = error
            self._end(EngineError(f"the pool's thread ended: {error!r}"))
            self._warm.set()

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
        with self.schedule.lock:
            lags_s = self._deliver(chosen, tokens, output, done)
            s = self._stats
            self._stats = replace(
                s,
                calls=s.calls + 1,
                stream_calls=s.stream_calls + len(chosen),
                tokens=s.tokens + tokens * len(chosen),
                late_tokens=s.late_tokens + sum(lag_s > self._late_s for lag_s in lags_s),
                worst_lag_ms=max([s.worst_lag_ms, *(1000 * lag_s for lag_s in lags_s)]),
                engine_s=s.engine_s + done - gathered,
                gather_s=s.gather_s + gathered - start,
            )
        self._notify(chosen)

    def _deliver(self, chosen: list[Member], tokens: int, output: StepOutput, done: float) -> list[float]:
        """Give each stream what came of the call; seconds that every token had waited for it."""
        settle(self._engine, chosen, output.state, self.schedule.take_vacated())
        lags_s = []
        for row, member in enumerate(chosen):
            member.busy = False
            if member.error is not None:  # left while it was in the call
                self.schedule.vacate(member)
                continue
            lags_s += [done - arrival for arrival in member.take(tokens, output, row)]
            self.schedule.offer(member)
        return lags_s

    def _notify(self, members: Sequence[Member]) -> None:
        for member in members:
            try:
                if member.notify is not None:
                    member.notify()
            except Exception as error:  # noqa: BLE001 - whatever an owner's function raises ends its stream only
                with self.schedule.lock:
                    self.schedule.leave(member, EngineError(f"the stream's notify failed: {error!r}"))

    def _fail(self, member: Member, error: Exception) -> None:
        known = error if isinstance(error, GhostnoteError) else EngineError(f"the engine failed: {error!r}")
        with self.schedule.lock:
            member.busy = False
            self.schedule.leave(member, known)
        self._notify([member])


def _tokens_of_call(chosen: Sequence[Member]) -> int:
    """As many as all of them have, unless that would make the call long."""
    most = min(FILE_TOKENS_PER_CALL, _TOKENS_PER_CALL // len(chosen))
    return max(1, min(most, *(member.stream.tokens for member in chosen)))
