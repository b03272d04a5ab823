"""Many streams on one engine: each has the hits it would have alone, whatever the others do."""

from __future__ import annotations

import math
import threading
import time

import laws
import numpy as np
import pytest
from click_model import RATE, TOKEN, Clicks
from hypothesis import given, settings
from hypothesis import strategies as st
from pooling import DELAYS, Watched, play, read_until_error
from waiting import wait_until

from ghostnote.runtime import (
    BacklogError,
    Engine,
    EngineError,
    Hit,
    PoolFullError,
    StreamPool,
    UsageError,
)
from ghostnote.runtime.engines.protocol import State, StepOutput


@settings(max_examples=15)
@given(
    plans=st.lists(st.tuples(st.sampled_from(DELAYS), st.integers(0, 40), st.integers(0, 99)), min_size=1, max_size=6)
)
def test_hits_are_those_of_each_stream_alone(
    click_engine: Engine, clicks: Clicks, alone: list[list[Hit]], plans: list[tuple[int, int, int]]
) -> None:
    """Streams with any delay that join at any time, are fed in any pieces and leave when they are done."""
    with StreamPool(click_engine, max_wait_ms=0.5, max_buffer_s=0.3) as pool:
        streams = [(pool.open(delay), laws.random_sizes(seed, 5000), start) for delay, start, seed in plans]
        parts = [list(laws.cut(len(clicks.pcm), sizes)) for _, sizes, _ in streams]
        hits: list[list[Hit]] = [[] for _ in plans]
        for turn in range(max(start + len(p) for (_, _, start), p in zip(streams, parts, strict=True))):
            for i, (stream, _, start) in enumerate(streams):
                if 0 <= turn - start < len(parts[i]):
                    stream.feed(clicks.pcm[parts[i][turn - start]])
                    hits[i] += stream.read()
                elif turn - start == len(parts[i]):
                    hits[i] += stream.flush()
                    stream.close()
        for i, (stream, _, start) in enumerate(streams):
            if not stream.ended:
                hits[i] += stream.flush()
            assert hits[i] == alone[plans[i][0]], start


def test_threads_that_know_nothing_of_each_other(pool: StreamPool, clicks: Clicks, alone: list[list[Hit]]) -> None:
    found: dict[int, list[Hit]] = {}

    def run(number: int) -> None:
        with pool.open(number % 6) as stream:
            found[number] = play(stream, clicks.pcm, laws.random_sizes(number, 20_000))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[n] == alone[n % 6] for n in range(12))


def test_only_the_pools_thread_calls_the_engine(pool: StreamPool, engine: Watched, clicks: Clicks) -> None:
    with pool.open() as a, pool.open() as b:
        for stream in (a, b, a):
            stream.reset()
            play(stream, clicks.pcm[:RATE], laws.every(3000))
    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads


def test_streams_in_step_share_calls_and_copy_nothing(click_engine: Engine, clicks: Clicks) -> None:
    engine = Watched(click_engine)
    with StreamPool(engine, max_wait_ms=500) as pool:
        streams = [pool.open() for _ in range(5)]
        for turn, part in enumerate(laws.cut(20 * TOKEN, laws.every(TOKEN))):
            for stream in streams:
                stream.feed(clicks.pcm[part])
            heard = 5 * (turn + 1)
            wait_until(lambda heard=heard: pool.stats().tokens >= heard)  # type: ignore[misc]
        stats = pool.stats()
    assert engine.batches[-15:] == [5] * 15
    assert stats.stream_calls == sum(engine.batches) == 100
    assert engine.selected <= 10  # when they meet, not at every call


def test_latency_is_the_streams_own(pool: StreamPool) -> None:
    assert pool.open(latency_ms=60).total_latency_ms == 60
    assert pool.open(latency_ms=100).total_latency_ms == 100


def test_reset_forgets_everything(pool: StreamPool, clicks: Clicks, alone: list[list[Hit]]) -> None:
    with pool.open(2) as stream, pool.open(3) as other:
        stream.feed(clicks.pcm[:70_001])
        other.feed(clicks.pcm[:70_001])
        stream.reset()
        assert play(stream, clicks.pcm, laws.every(4000)) == alone[2]
        stream.reset()
        assert play(stream, clicks.pcm, laws.every(4001)) == alone[2]
        other.feed(clicks.pcm[70_001:])
        assert other.read() + other.flush() == alone[3]


def test_back_pressure(click_engine: Engine, clicks: Clicks, alone: list[list[Hit]]) -> None:
    """A slow engine makes `feed` wait, never the buffer grow; what was not taken can be fed again."""
    with StreamPool(Watched(click_engine, step_s=0.02), max_wait_ms=0, max_buffer_s=0.1) as pool:
        stream = pool.open(0)
        with pytest.raises(BacklogError, match=r"buffer is full: \d+ of \d+ samples taken within 0.05 s") as caught:
            stream.feed(clicks.pcm, timeout=0.05)
        assert 0 < stream.samples_fed == caught.value.taken < len(clicks.pcm)
        assert stream.offer(clicks.pcm[caught.value.taken :]) < RATE  # takes what fits and does not wait
        stream.feed(clicks.pcm[stream.samples_fed :])
        assert stream.flush() == alone[0]


def test_hits_that_nobody_reads_stop_their_stream_only(
    pool: StreamPool, clicks: Clicks, alone: list[list[Hit]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ghostnote.runtime.streams.schedule._UNREAD_HITS", 10)
    deaf, other = pool.open(0), pool.open(1)
    with pytest.raises(BacklogError, match="hits wait to be read, and no more is heard until they are"):
        deaf.feed(clicks.pcm)  # without an end to its patience
    assert play(other, clicks.pcm, laws.every(2000)) == alone[1]
    hits = []
    position = deaf.samples_fed
    while position < len(clicks.pcm):
        hits += deaf.read()
        position += deaf.offer(clicks.pcm[position:])
    assert hits + deaf.flush() == alone[0]


def test_an_error_ends_the_guilty_stream_only(pool: StreamPool, clicks: Clicks, alone: list[list[Hit]]) -> None:
    streams = [pool.open(2) for _ in range(4)]
    for stream in streams:
        stream.feed(clicks.pcm[: 50 * TOKEN])
    wait_until(lambda: pool.stats().tokens >= 4 * 50)
    streams[1].feed(np.full(RATE, 11, np.float32))
    hits, error = read_until_error(streams[1])  # first what was heard, then why it ended
    assert hits == [hit for hit in alone[2] if hit in hits]
    assert hits[-1].time_s > 0.8
    assert "too loud" in str(error)
    for i in (0, 2, 3):
        streams[i].feed(clicks.pcm[50 * TOKEN :])
        assert streams[i].flush() == alone[2]
    for call in (streams[1].flush, streams[1].reset):
        with pytest.raises(EngineError, match="too loud"):
            call()


def test_a_notify_that_raises_ends_its_stream_only(pool: StreamPool, clicks: Clicks, alone: list[list[Hit]]) -> None:
    def fail() -> None:
        raise ValueError("no")

    other, guilty = pool.open(1), pool.open(notify=fail)
    guilty.feed(clicks.pcm[: 2 * TOKEN])
    hits, error = read_until_error(guilty)
    assert hits == []
    assert str(error) == "the stream's notify failed: ValueError('no')"
    assert play(other, clicks.pcm, laws.every(5000)) == alone[1]


def test_a_pool_whose_thread_fails_tells_everybody(
    pool: StreamPool, clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours outside the engine: nobody waits for ever."""
    monkeypatch.setattr("ghostnote.runtime.streams.lane.settle", lambda *_: 1 / 0)
    streams = [pool.open(), pool.open()]
    streams[0].feed(clicks.pcm[: 2 * TOKEN])
    for stream in streams:
        _, error = read_until_error(stream)
        assert "the pool's thread ended: ZeroDivisionError" in str(error)
    with pytest.raises(EngineError, match="the pool's thread ended"):
        pool.open()


def test_states_of_streams_that_left_are_not_kept_for_the_few_that_stay(click_engine: Engine, clicks: Clicks) -> None:
    """Also where nobody of those who were heard together is ever heard again."""
    engine = Watched(click_engine)
    with StreamPool(engine, max_wait_ms=200) as pool:
        other, *streams = [pool.open() for _ in range(9)]
        for stream in streams:
            stream.feed(clicks.pcm[:TOKEN])
        wait_until(lambda: pool.stats().tokens == 8)
        for stream in streams[2:]:
            stream.close()
        before = engine.selected
        other.feed(clicks.pcm[:TOKEN])
        wait_until(lambda: pool.stats().tokens == 9)
        assert engine.selected == before + 2


def test_limits_and_ends(engine: Watched, clicks: Clicks) -> None:
    pool = StreamPool(engine, max_streams=2)
    first, second = pool.open(), pool.open()
    with pytest.raises(PoolFullError, match="holds 2 streams, its limit"):
        pool.open()
    second.close()
    second.close()
    with pytest.raises(EngineError, match="stream was closed"):
        second.feed(clicks.pcm[:10])
    third = pool.open()
    assert pool.stats().streams == 2
    third.feed(clicks.pcm[:1000])
    third.finish()
    with pytest.raises(RuntimeError, match="reset"):
        third.feed(clicks.pcm[:10])
    with pytest.raises(ValueError, match="1-D float"):
        first.feed(np.zeros((2, 3), np.float32))
    pool.close()
    pool.close()
    with pytest.raises(EngineError, match="pool was closed"):
        first.feed(clicks.pcm[:10])
    with pytest.raises(EngineError, match="pool was closed"):
        pool.open()
    engine.describe()  # the engine is its owner's


@pytest.mark.parametrize("limit", ["max_wait_ms", "max_streams", "max_buffer_s", "warm_streams"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1])
def test_limits_have_an_end(limit: str, value: float, click_engine: Engine) -> None:
    with pytest.raises(UsageError, match=f"{limit} {value}: expected"):
        StreamPool(click_engine, **{limit: value})


def test_a_wait_may_be_longer_than_any_clock_tells(click_engine: Engine, clicks: Clicks) -> None:
    """Until all streams have a token: nobody is heard before."""
    with StreamPool(click_engine, max_wait_ms=1e15) as pool, pool.open() as one, pool.open() as other:
        one.feed(clicks.pcm[:9000])
        assert one.read(timeout=0.2) == []
        other.close()
        assert one.flush()


@pytest.mark.parametrize("timeout", [None, math.inf])
def test_a_read_may_wait_for_ever(pool: StreamPool, clicks: Clicks, timeout: float | None) -> None:
    with pool.open() as stream:
        stream.feed(clicks.pcm, timeout=timeout)
        assert stream.read(timeout=timeout)


def test_a_waiting_thread_hears_that_the_pool_closes(engine: Watched) -> None:
    pool = StreamPool(engine)
    stream = pool.open()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            stream.read(timeout=60)
        except EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    pool.close()
    thread.join(timeout=10)
    assert len(errors) == 1


def test_a_stream_that_waits_to_begin_anew_hears_that_the_pool_closes(
    click_engine: Engine, clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Watched(click_engine)
    called, go_on = threading.Event(), threading.Event()

    def step(audio: np.ndarray, delay: np.ndarray, state: State) -> StepOutput:
        called.set()
        assert go_on.wait(20)
        return click_engine.step(audio, delay, state)

    monkeypatch.setattr(engine, "step", step)
    pool = StreamPool(engine, max_wait_ms=1)
    stream = pool.open()
    stream.feed(clicks.pcm[:TOKEN])
    assert called.wait(20)  # the stream is in a call, and `reset` has to wait for its end
    errors: list[BaseException] = []

    def reset() -> None:
        try:
            stream.reset()
        except EngineError as error:
            errors.append(error)

    threads = [threading.Thread(target=target, daemon=True) for target in (reset, pool.close)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    go_on.set()
    for thread in threads:
        thread.join(timeout=10)
    assert [str(error) for error in errors] == ["the pool was closed"]


def test_lateness_is_counted(click_engine: Engine, clicks: Clicks) -> None:
    with StreamPool(Watched(click_engine, step_s=0.1), max_wait_ms=1) as pool:
        pool.open().feed(clicks.pcm[: 3 * TOKEN])
        wait_until(lambda: pool.stats().tokens >= 3)
        stats = pool.stats()
    assert stats.late_tokens == 3
    assert stats.worst_lag_ms >= 100
    assert stats.engine_s >= 0.1 > stats.gather_s
