"""Streams of a pool under asyncio."""

from __future__ import annotations

import asyncio

import laws
import numpy as np
import pytest
from click_model import RATE, Clicks
from pooling import DELAYS, Watched
from waiting import wait_until

from ghostnote.runtime import (
    AsyncStream,
    BacklogError,
    Engine,
    EngineError,
    Hit,
    PooledStream,
    StreamPool,
)


def test_asyncio(click_engine: Engine, clicks: Clicks, alone: list[list[Hit]]) -> None:
    async def one(pool: StreamPool, delay: int) -> list[Hit]:
        async with AsyncStream(pool, delay) as stream:
            hits: list[Hit] = []

            async def listen() -> None:
                while found := await stream.read():
                    hits.extend(found)

            listener = asyncio.create_task(listen())
            for part in laws.cut(len(clicks.pcm), laws.random_sizes(delay, 9000)):
                await stream.feed(clicks.pcm[part])
            stream.finish()
            await listener
            return hits

    async def all_of_them(pool: StreamPool) -> list[list[Hit]]:
        return await asyncio.gather(*(one(pool, delay) for delay in DELAYS))

    with StreamPool(click_engine, max_wait_ms=1, max_buffer_s=0.2) as pool:
        assert asyncio.run(all_of_them(pool)) == alone


def test_asyncio_reads_hits_that_come_with_the_end(
    click_engine: Engine, clicks: Clicks, alone: list[list[Hit]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last call ends just after a read found nothing: its hits are for the next."""
    read = PooledStream.read

    def just_before(stream: PooledStream, timeout: float = 0.0) -> list[Hit]:
        hits = read(stream, timeout)
        if not hits and stream._member.stream.finished:
            wait_until(lambda: stream.ended)
        return hits

    async def go(pool: StreamPool) -> list[Hit]:
        async with AsyncStream(pool, 1) as stream:
            await stream.feed(clicks.pcm)
            stream.finish()
            hits: list[Hit] = []
            while found := await stream.read():
                hits += found
            return hits

    monkeypatch.setattr(PooledStream, "read", just_before)
    with StreamPool(Watched(click_engine, step_s=0.01), max_buffer_s=60) as pool:
        assert asyncio.run(go(pool)) == alone[1]


def test_asyncio_hears_that_the_pool_was_closed_and_that_nobody_reads(
    click_engine: Engine, clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ghostnote.runtime.streams.schedule._UNREAD_HITS", 10)

    async def go() -> None:
        pool = StreamPool(click_engine)
        async with AsyncStream(pool, 1) as deaf, AsyncStream(pool, 1) as waiting:
            with pytest.raises(BacklogError, match="read them, then feed the rest") as caught:
                await asyncio.wait_for(deaf.feed(clicks.pcm), 20)
            assert caught.value.taken == deaf.samples_fed
            reader = asyncio.create_task(waiting.read())
            await asyncio.sleep(0.05)
            await asyncio.to_thread(pool.close)
            with pytest.raises(EngineError, match="the pool was closed"):
                await asyncio.wait_for(reader, 20)

    asyncio.run(go())


def test_asyncio_flush_errors_and_cancelling(engine: Watched, clicks: Clicks, alone: list[list[Hit]]) -> None:
    async def scenario(pool: StreamPool) -> None:
        async with AsyncStream(pool, 1) as stream, AsyncStream(pool) as loud:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.read(), 0.05)
            await stream.feed(clicks.pcm)
            assert await stream.flush() == alone[1]
            assert stream.ended
            await loud.feed(np.full(RATE, 11, np.float32))
            with pytest.raises(EngineError, match="too loud"):
                await loud.flush()

    with StreamPool(engine) as pool:
        asyncio.run(scenario(pool))


def test_asyncio_goes_on_where_a_cancelled_task_stopped(
    click_engine: Engine, clicks: Clicks, alone: list[list[Hit]]
) -> None:
    async def scenario(pool: StreamPool) -> list[Hit]:
        async with AsyncStream(pool, 1) as stream:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.feed(clicks.pcm), 0.1)
            taken = stream.samples_fed
            assert 0 < taken < len(clicks.pcm)
            await stream.feed(clicks.pcm[taken:])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.flush(), 0.01)
            return await stream.flush()

    with StreamPool(Watched(click_engine, step_s=0.05), max_buffer_s=0.2) as pool:
        assert asyncio.run(scenario(pool)) == alone[1]


def test_an_event_loop_that_ends_does_not_end_the_pool(
    pool: StreamPool, clicks: Clicks, alone: list[list[Hit]]
) -> None:
    async def leave_behind() -> AsyncStream:
        return AsyncStream(pool, 1)

    class ClosingLoop:
        """Closed between the look at it and the call."""

        def is_closed(self) -> bool:
            return False

        def call_soon_threadsafe(self, _: object) -> None:
            raise RuntimeError("Event loop is closed")

    left = asyncio.run(leave_behind())
    left._loop = ClosingLoop()
    left._stream.feed(clicks.pcm)
    with pool.open(1) as stream:
        stream.feed(clicks.pcm, timeout=10)
        stream.finish()
        hits: list[Hit] = []
        while not stream.ended or hits != alone[1]:
            found = stream.read(timeout=5)
            assert found or stream.ended
            hits += found
    assert hits == alone[1]
