"""One WebSocket session from its first message to its last; knows no socket and no web framework.

Two tasks share a stream: one hears what the client sends, one reports hits. Nothing grows: audio waits in the stream's
bounded buffer (a client that sends faster is read slower), and while a client does not take its hits it is not heard.
However a session ends, unless the client is gone, the hits of all audio taken are reported before it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import EngineError, UsageError
from ..events import Hit
from ..streams.asynchronous import AsyncStream
from ..streams.pool import PoolFullError, StreamPool
from .metrics import Metrics
from .protocol import (
    Command,
    Problem,
    SessionError,
    Start,
    full,
    hit_message,
    parse_command,
    parse_start,
    ready_message,
)
from .receiving import Arrivals, PcmDecoder
from .settings import Settings

__all__ = ["Connection", "Disconnected", "Session"]

NORMAL, GOING_AWAY = 1000, 1001  # close codes
_FAREWELL_S = 1.0  # for telling a client why its session ends, when it may not be reading


class Disconnected(Exception):  # noqa: N818 - not an error of ours
    """The client is gone."""


class Connection(Protocol):
    """What a session needs of a WebSocket. All methods raise Disconnected once the client is gone."""

    async def receive(self) -> str | bytes:
        """The next message. Raises SessionError when the client sends too much."""

    async def send(self, text: str) -> None:
        """Hand over a text message; waits while the client is slow to take earlier ones."""

    async def close(self, code: int, reason: str) -> None:
        """End the connection."""


class _Stopped(Exception):  # noqa: N818 - not an error
    """The server ends."""


@dataclass
class _Take:
    """One stretch of audio from its first sample to its end; `reset` begins another."""

    decoder: PcmDecoder
    hits: int = 0
    arrivals: Arrivals = field(default_factory=Arrivals)

    def summary(self, kind: str) -> dict[str, Any]:
        """What is said at its end."""
        told = {"type": kind, "hits": self.hits, "audio_s": round(self.decoder.audio_s, 6)}
        return told | ({"replaced_samples": self.decoder.replaced} if self.decoder.replaced else {})


class Session:
    """Serves one client; `run` returns when the session is over."""

    def __init__(self, connection: Connection, pool: StreamPool, settings: Settings, metrics: Metrics) -> None:
        self._connection = connection
        self._pool = pool
        self._manifest = pool.engine.manifest
        self._note_of = self._manifest.note_of
        self._settings = settings
        self._metrics = metrics
        self._stopped = False
        self._waiting: asyncio.Timeout | None = None
        self._ends_at = time.monotonic() + settings.max_session_s
        self._caught_up = asyncio.Event()  # all hits found so far are on their way

    def stop(self) -> None:
        """The server ends: report what was heard, then say goodbye."""
        self._stopped = True
        if self._waiting is not None:
            with contextlib.suppress(RuntimeError):  # it has just run out by itself
                self._waiting.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Serve until the client ends, leaves, or does something wrong; raises nothing of that."""
        try:
            start = parse_start(await self._receive(), self._settings.latency_ms)
            await self._serve(start)
        except Disconnected:
            self._metrics.errors.labels("disconnected").inc()
        except _Stopped:
            await self._say_goodbye({"type": "end", "hits": 0, "audio_s": 0, "reason": "shutdown"}, GOING_AWAY)
        except SessionError as error:
            await self.refuse(error)
        except EngineError as error:  # the pool was closed
            await self.refuse(_engine_failed(error))

    async def refuse(self, error: SessionError) -> None:
        """Tell the client what is wrong and close."""
        (
            self._metrics.refused if error.problem is Problem.FULL else self._metrics.errors.labels(error.problem.code)
        ).inc()
        message = {"type": "error", "code": error.problem.code, "message": str(error)}
        await self._say_goodbye(message, error.problem.close_code)

    async def _serve(self, start: Start) -> None:
        try:
            stream = AsyncStream(self._pool, latency_ms=start.latency_ms)
        except PoolFullError:
            raise full() from None
        except UsageError as error:
            raise SessionError(Problem.BAD_MESSAGE, f'"latency_ms": {error}') from None
        async with stream:
            await self._send(ready_message(self._manifest, start, stream.total_latency_ms))
            while True:
                take = _Take(PcmDecoder(start.pcm, self._pool.sample_rate))
                ending = await self._transcribe(stream, take)
                if ending is not Command.RESET:
                    break
                await self._send(take.summary("reset"))
                stream.reset()
        await self._conclude(take, ending)

    async def _conclude(self, take: _Take, ending: Command | SessionError | None) -> None:
        """The last message of a session whose hits are all reported."""
        if isinstance(ending, SessionError):
            raise ending
        if ending is None:
            await self._say_goodbye(take.summary("end") | {"reason": "shutdown"}, GOING_AWAY)
        else:
            await self._say_goodbye(take.summary("end"), NORMAL, self._settings.stall_timeout_s)

    async def _transcribe(self, stream: AsyncStream, take: _Take) -> Command | SessionError | None:
        """Hear and report one take to its end; what ended it (None: the server stops)."""
        self._caught_up.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._report(stream, take))
                hearing = tasks.create_task(self._hear_to_the_end(stream, take))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return hearing.result()

    async def _hear_to_the_end(self, stream: AsyncStream, take: _Take) -> Command | SessionError | None:
        """What ended the take; what is still to be found in it goes to `_report`."""
        try:
            ending = await self._hear(stream, take)
            await self._feed(stream, take.decoder.finish())
            stream.finish()
        except EngineError as error:  # `_report` raises it, too, after the hits before it
            return _engine_failed(error)
        return ending

    async def _hear(self, stream: AsyncStream, take: _Take) -> Command | SessionError | None:
        """Feed what the client sends until something else comes, or nothing more may."""
        try:
            while not isinstance(message := await self._receive(), str):
                await asyncio.sleep(0)  # others have their turn, however many small messages are here already
                for pcm in take.decoder.decode(message):
                    take.arrivals.note(take.decoder.audio_s, time.monotonic())
                    await self._feed(stream, pcm)
            return parse_command(message)
        except SessionError as error:
            return error
        except _Stopped:
            return None

    async def _feed(self, stream: AsyncStream, pcm: Any) -> None:
        await self._caught_up.wait()
        await stream.feed(pcm)
        self._metrics.samples.inc(len(pcm))

    async def _report(self, stream: AsyncStream, take: _Take) -> None:
        """Send hits as they are found, to the end of the stream. Raises SessionError when the engine fails."""
        try:
            while hits := await stream.read():
                self._caught_up.clear()
                await self._send_hits(take, hits)
                self._caught_up.set()
        except EngineError as error:
            raise _engine_failed(error) from None

    async def _send_hits(self, take: _Take, hits: Iterable[Hit]) -> None:
        for hit in hits:
            await self._send(hit_message(hit, self._note_of[hit.code]))
            take.hits += 1
            self._metrics.hits.labels(hit.code).inc()
            waited_s = take.arrivals.waited_s(hit.time_s, time.monotonic())
            if waited_s is not None:
                self._metrics.to_hit_s.observe(waited_s)

    async def _receive(self) -> str | bytes:
        """The next message. Raises _Stopped, SessionError when the client is silent or has been here too long."""
        if self._stopped:
            raise _Stopped
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:  # a timeout would not interrupt who never has to wait for a message
            raise self._timed_out()
        try:
            async with asyncio.timeout(min(self._settings.idle_timeout_s, left_s)) as self._waiting:
                return await self._connection.receive()
        except TimeoutError:
            if self._stopped:
                raise _Stopped from None
            raise self._timed_out() from None
        finally:
            self._waiting = None

    def _timed_out(self) -> SessionError:
        if time.monotonic() >= self._ends_at:
            return SessionError(
                Problem.TOO_LONG, f"a session may last {self._settings.max_session_s:g} s; begin another"
            )
        return SessionError(Problem.IDLE, f"nothing came for {self._settings.idle_timeout_s:g} s")

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._settings.stall_timeout_s):
                await self._connection.send(json.dumps(message))
        except TimeoutError:
            raise SessionError(
                Problem.STALLED, f"no message was taken for {self._settings.stall_timeout_s:g} s; read while you send"
            ) from None

    async def _say_goodbye(self, message: dict[str, Any], close_code: int, within_s: float = _FAREWELL_S) -> None:
        """The last message, for a client that may not be there or not be listening."""
        try:
            async with asyncio.timeout(within_s):
                await self._connection.send(json.dumps(message))
                await self._connection.close(close_code, message.get("code", ""))
        except (TimeoutError, Disconnected):
            return


def _engine_failed(error: EngineError) -> SessionError:
    return SessionError(Problem.ENGINE, f"the engine failed: {error}")
