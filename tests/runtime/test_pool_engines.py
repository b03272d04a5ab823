"""The engines of a pool: one or several, warmed before anybody comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import laws
import numpy as np
import pytest
from click_model import RATE, TOKEN, Clicks
from pooling import DELAYS, Watched, play
from waiting import wait_until

from ghostnote.runtime import (
    Engine,
    EngineError,
    Hit,
    PooledStream,
    PoolFullError,
    StreamPool,
    UsageError,
    open_engine,
)
from ghostnote.runtime.engines.protocol import State, StepOutput
from ghostnote.runtime.streams import pool as pool_module
from ghostnote.runtime.streams.schedule import Schedule


def test_several_engines_share_the_streams(
    click_engine: Engine, click_path: Path, clicks: Clicks, alone: list[list[Hit]]
) -> None:
    """Each has a thread; hits are those of a stream alone; who comes goes where there are fewest."""
    engines = [Watched(click_engine), Watched(open_engine(click_path))]
    with StreamPool(*engines, max_wait_ms=1, warm_streams=3) as pool:
        assert [set(engine.batches) for engine in engines] == [{2}, {2}]
        streams = [pool.open(delay) for delay in DELAYS]
        for part in laws.cut(len(clicks.pcm), laws.every(3000)):
            for stream in streams:
                stream.feed(clicks.pcm[part])
        assert [stream.flush() for stream in streams] == alone
        assert pool.stats().streams == len(DELAYS)
        assert [max(engine.batches) for engine in engines] == [3, 3]
        for stream in streams[::2]:  # those of the first engine leave
            stream.close()
        calls = [len(engine.batches) for engine in engines]
        play(pool.open(), clicks.pcm[:RATE], laws.every(3000))
    assert len(engines[0].batches) > calls[0]
    assert len(engines[1].batches) == calls[1]
    threads = [engine.threads for engine in engines]
    assert [len(ours) for ours in threads] == [1, 1]
    assert threads[0] != threads[1]


class Levels(Watched):
    """An engine that notes how loud the streams of every call are."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.heard: set[float] = set()

    def step(self, audio: np.ndarray, delay: np.ndarray, state: State) -> StepOutput:
        self.heard |= {round(float(level), 3) for level in np.abs(audio).max(axis=1)}
        return super().step(audio, delay, state)


@pytest.mark.parametrize(
    ("moments_ms", "samples", "expected"),
    [
        ([1, 12, 2, 13, 3, 14, 4, 15], TOKEN, [{0, 2, 4, 6}, {1, 3, 5, 7}]),  # each half of the token has an engine
        ([11, 2, 12, 3, 13, 4, 14, 5], TOKEN // 2, [{0, 2, 4, 6}, {1, 3, 5, 7}]),  # half a token: complete 10 ms later
        ([12, 13, 14, 15, 16, 17, 18, 19], TOKEN, [{4, 6, 2}, {0, 1, 3, 5, 7}]),  # all in one: five at most, of eight
    ],
)
def test_streams_that_are_fed_at_one_moment_meet_on_one_engine(
    click_engine: Engine,
    click_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moments_ms: list[int],
    samples: int,
    expected: list[set[int]],
) -> None:
    """Of two engines one takes those of the first half of a token's length, as long as the shares stay even."""
    engines = [Levels(click_engine), Levels(open_engine(click_path))]
    with StreamPool(*engines, max_wait_ms=1) as pool:
        streams = [pool.open() for _ in moments_ms]
        for number, (stream, moment_ms) in enumerate(zip(streams, moments_ms, strict=True)):
            monkeypatch.setattr(pool_module, "time", SimpleNamespace(monotonic=lambda at=moment_ms: 50 + at / 1000))
            pcm = np.full(samples, (number + 1) / 100, np.float32)
            stream.feed(pcm)
            stream.feed(np.resize(pcm, TOKEN - samples))
        for stream in streams:
            stream.flush()
    heard = [{round(100 * level) - 1 for level in engine.heard if level} for engine in engines]
    assert heard == expected


@pytest.fixture
def moving(click_engine: Engine, click_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StreamPool]:
    """A pool of two engines, and a clock by which every stream belongs to the second."""
    monkeypatch.setattr(pool_module, "time", SimpleNamespace(monotonic=lambda: 50.015))
    with StreamPool(click_engine, open_engine(click_path), max_wait_ms=1) as pool:
        yield pool


def test_a_reader_that_waits_before_the_first_samples_gets_its_hits(moving: StreamPool, clicks: Clicks) -> None:
    streams = [moving.open() for _ in range(12)]
    found: list[list[Hit]] = [[] for _ in streams]

    def wait(number: int) -> None:
        found[number] += streams[number].read(timeout=600)

    readers = [threading.Thread(target=wait, args=(number,), daemon=True) for number in range(len(streams))]
    for reader in readers:
        reader.start()
    wait_until(lambda: all(stream._member.waiting for stream in streams))
    for stream in streams:
        stream.feed(clicks.pcm)
    wait_until(lambda: not any(reader.is_alive() for reader in readers))
    assert all(found)


def test_feeding_what_is_finished_harms_nobody(moving: StreamPool, clicks: Clicks, alone: list[list[Hit]]) -> None:
    others = [moving.open(delay) for delay in DELAYS]
    for _ in range(4):
        stream = moving.open()
        stream.finish()
        with pytest.raises(RuntimeError, match="was flushed"):
            stream.feed(clicks.pcm)
        assert stream.flush() == []
        stream.close()
    assert [play(stream, clicks.pcm, laws.every(5000)) for stream in others] == alone


def test_a_stream_that_is_closed_while_it_moves_leaves_nothing_behind(
    moving: StreamPool, clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = PooledStream.move
    moved = []

    def and_close(stream: PooledStream, schedule: Schedule) -> None:
        before = stream._schedule
        move(stream, schedule)
        moved.append(stream._schedule is not before)
        stream.close()

    monkeypatch.setattr(PooledStream, "move", and_close)
    streams = [moving.open() for _ in range(12)]
    closed = 0
    for stream in streams:
        try:
            stream.feed(clicks.pcm)
        except EngineError:
            closed += 1
    assert any(moved)
    assert closed == len(moved)
    assert moving.stats().streams == len(streams) - closed


def test_a_full_pool_is_full_over_all_its_engines(click_engine: Engine, click_path: Path) -> None:
    with StreamPool(click_engine, open_engine(click_path), max_streams=3) as pool:
        streams = [pool.open() for _ in range(3)]
        with pytest.raises(PoolFullError, match="holds 3 streams"):
            pool.open()
        streams[1].close()
        pool.open()


def test_engines_of_different_models_make_no_pool(click_engine: Engine) -> None:
    with pytest.raises(UsageError, match=r"must run one model, found click .* and base "):
        StreamPool(click_engine, open_engine("base"))


def test_one_engine_twice_makes_no_pool(click_engine: Engine) -> None:
    with pytest.raises(UsageError, match="the same engine twice"):
        StreamPool(click_engine, click_engine)


def test_an_engine_that_cannot_be_warmed_ends_the_others(click_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = Watched(click_engine), Watched(click_engine)
    monkeypatch.setattr(bad, "zero_state", lambda batch: {})
    before = threading.active_count()
    with pytest.raises(EngineError, match="onnxruntime failed"):
        StreamPool(good, bad, warm_streams=2)
    assert threading.active_count() == before


def test_a_warm_engine_has_been_run_with_so_many_streams(click_engine: Engine) -> None:
    engine = Watched(click_engine)
    with StreamPool(engine, warm_streams=7) as pool:
        assert set(engine.batches) == {7}
        assert threading.get_ident() not in engine.threads
        assert pool.stats().calls == 0


def test_an_engine_that_cannot_be_warmed_makes_no_pool(click_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Watched(click_engine)
    monkeypatch.setattr(engine, "zero_state", lambda batch: {})
    with pytest.raises(EngineError, match="onnxruntime failed"):
        StreamPool(engine, warm_streams=2)
