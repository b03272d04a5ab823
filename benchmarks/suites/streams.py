"""Live streams in one process: how many keep up, and at what cost.

Every stream is fed one token at a time in real time, each at a moment of its own within the token's length, from one
thread, as a server would; the pool has an engine, and a thread, per core that it may use. Afterwards the hits of every
different recording are compared with those of a `StreamingTranscriber` alone. A token is late as `PoolStats` says: a
pool that keeps up has none. A machine that pauses makes tokens late by that alone: late tokens are told a second time
without those that came after a pause, and beside the longest call stands its computing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...export.signals import drum_like
from ...runtime.engines.protocol import Engine, State, StepOutput
from ...runtime.events import Hit
from ...runtime.pairing import paired
from ...runtime.streams.pool import StreamPool
from ...runtime.streams.pooled_stream import PooledStream
from ...runtime.streams.stream import FILE_TOKENS_PER_CALL, StreamingTranscriber
from ..measuring import Figure
from ..pauses import PAUSE_S, watching

__all__ = ["streams"]

RECORDINGS, RECORDING_S = 8, 30  # different ones, shared and played again and again: little memory, always in use
LATENCY_MS = 100
SEEN_LATE_S = 0.1  # a token that is found to be late was to be heard in this time before
SAME_S = 0.01  # two hits of one class this close are one hit

Floats = NDArray[np.float32]
Key = tuple[str, float]  # class and time of a hit
Late = tuple[float, float, int]  # begin and end by `time.monotonic`, and how many tokens were late in between


def streams(engines: Sequence[Engine], count: int, seconds: float, max_wait_ms: float) -> list[Figure]:
    """Feed `count` streams for `seconds` of real time; lateness, cost, and streams whose hits are not their own."""
    engine = engines[0]
    token, rate = engine.manifest.samples_per_token, engine.manifest.sample_rate
    length = round(min(seconds, RECORDING_S) * rate) // token * token
    total = round(seconds * rate) // token * token
    recordings = [drum_like(seed, length / rate, rate)[:length] for seed in range(min(count, RECORDINGS))]
    watched = [_Watched(one) for one in engines]
    with (
        watching() as pauses_seen,
        StreamPool(*watched, max_wait_ms=max_wait_ms, warm_streams=count) as pool,
    ):
        for one in watched:
            one.longest_s = 0.0  # of the calls that warm it
        members = [pool.open(latency_ms=LATENCY_MS) for _ in range(count)]
        start = time.process_time()
        behind_s, found, late = _play(pool, members, recordings, total, token, rate)
        cpu_s = time.process_time() - start
        stats = pool.stats()
        pauses = pauses_seen()
        for member, hits in zip(members, found, strict=True):
            hits += map(_key, member.flush())
    slowest = max(watched, key=lambda one: one.longest_s)
    alone = [_alone(engine, recording, total) for recording in recordings]
    wrong = sum(not _same_hits(hits, alone[i % len(alone)]) for i, hits in enumerate(found))
    unexplained = sum(count for begin, end, count in late if not pauses.touch(begin, end))
    return [
        Figure("late tokens", stats.late_tokens, f"of {stats.tokens}", 0),
        Figure("late tokens, none after a pause of the machine", unexplained, f"of {stats.tokens}", 0),
        Figure("streams whose hits differ from a run alone", wrong, f"of {count}", 0),
        Figure("worst time from a token's last sample to its hits", stats.worst_lag_ms, "ms"),
        Figure("feeder behind its schedule, worst", 1000 * behind_s, "ms"),
        Figure("longest call of the engine", 1000 * slowest.longest_s, "ms"),
        Figure("CPU time of that call", 1000 * slowest.its_cpu_s, "ms"),
        Figure("longest pause of the machine", 1000 * pauses.longest_s, "ms"),
        Figure(f"pauses of the machine over {1000 * PAUSE_S:g} ms", pauses.count, ""),
        Figure("CPU time per s", cpu_s / seconds, "s", better="less"),
        Figure("streams per call, mean", stats.stream_calls / stats.calls, ""),
        Figure("engines, share of their threads' time", stats.engine_s / seconds / len(engines), ""),
        Figure("copying states, share of the engines' time", stats.gather_s / stats.engine_s, "", 0.1),
    ]


class _Watched:
    """An engine that notes its longest call, and how much of it was computing: the rest it waited for the processor.

    What is told is right with one thread of the engine, which is the caller's.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.longest_s = self.its_cpu_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, audio: Floats, delay: NDArray[np.int64], state: State) -> StepOutput:
        """One call, timed."""
        start, cpu_start = time.monotonic(), time.thread_time()
        output = self._engine.step(audio, delay, state)
        took_s, cpu_s = time.monotonic() - start, time.thread_time() - cpu_start
        if took_s > self.longest_s:
            self.longest_s, self.its_cpu_s = took_s, cpu_s
        return output


def _play(
    pool: StreamPool, members: Sequence[PooledStream], recordings: Sequence[Floats], total: int, token: int, rate: int
) -> tuple[float, list[list[Key]], list[Late]]:
    """Feed in real time; how far behind the feeder ever was, in seconds, the hits read, and when tokens were late."""
    found: list[list[Key]] = [[] for _ in members]
    late: list[Late] = []
    known = 0
    order = np.random.default_rng(0).permutation(len(members)).tolist()
    begin, behind_s = time.monotonic(), 0.0
    for position in range(0, total, token):
        start = position % len(recordings[0])
        for place, number in enumerate(order):
            due = begin + (position + token * place / len(order)) / rate
            wait_s = due - time.monotonic()
            behind_s = max(behind_s, -wait_s)
            if wait_s > 0.0005:  # finer than this a sleep cannot be relied on
                time.sleep(wait_s)
            members[number].feed(recordings[number % len(recordings)][start : start + token])
            found[number] += map(_key, members[number].read())
        if (count := pool.stats().late_tokens) > known:
            now = time.monotonic()
            late.append((now - SEEN_LATE_S, now, count - known))
            known = count
    return behind_s, found, late


def _key(hit: Hit) -> Key:
    """What is compared. Not the hit itself: a million objects would make Python's garbage collector stop the world."""
    return hit.code, hit.time_s


def _alone(engine: Engine, pcm: Floats, total: int) -> list[Key]:
    transcriber = StreamingTranscriber(engine, latency_ms=LATENCY_MS, tokens_per_call=FILE_TOKENS_PER_CALL)
    hits: list[Key] = []
    for start in range(0, total, len(pcm)):
        hits += map(_key, transcriber.feed(pcm[: total - start]))
    return hits + [_key(hit) for hit in transcriber.flush()]


def _same_hits(one: Sequence[Key], other: Sequence[Key]) -> bool:
    """The same classes at the same times, up to rounding."""
    return len(one) == len(other) == len(paired(one, other, SAME_S, lambda key: key))
