"""The engines of a pool: one or several, warmed before anybody comes."""

from __future__ import annotations

import threading
from pathlib import Path

import laws
import pytest
from click_model import RATE, Clicks
from pooling import DELAYS, Watched, play

from ghostnote.runtime import (
    Engine,
    EngineError,
    Hit,
    PoolFullError,
    StreamPool,
    UsageError,
    open_engine,
)


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
