"""`ghostnote serve`: the server as a command.

Everything heavy is imported inside functions, so that `--help` answers at once and names what is missing.
"""

from __future__ import annotations

import contextlib
import math
import socket
import sys
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..engines.options import PoolThreadsOption
from ..errors import UsageError
from ..number import finite

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from ..engines.protocol import Engine
    from .metrics import Metrics
    from .settings import Settings

__all__ = ["configure", "serve"]

_MAX_WAIT_MS = 5.0  # streams are gathered into one call for so long
_WARM_STREAMS = 64  # that the engines are run with, together, before anybody waits
_GOODBYE_S = 10.0  # for reporting and ending all sessions at the end
_CLOSING_S = 3  # for closing what connections are then left
_UNTAKEN_MS = 30_000  # a connection whose peer takes nothing for so long is dropped by the kernel


def serve(
    engine: Annotated[
        Path | None, typer.Option(help="A model.onnx, or a bundled model: base (default), small.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on. There is no authentication.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8765,
    max_sessions: Annotated[int, typer.Option(min=1, help="Sessions and uploads at a time.")] = 64,
    latency_ms: Annotated[
        float, typer.Option(help="Largest total latency, in ms, of sessions that ask for none.")
    ] = 100.0,
    idle_timeout: Annotated[
        float,
        typer.Option(min=0.1, callback=finite, help="Seconds after which a session that sends nothing is ended."),
    ] = 30.0,
    max_session_minutes: Annotated[
        float, typer.Option(min=0.01, callback=finite, help="Longest session, in minutes.")
    ] = 60.0,
    max_upload_mb: Annotated[
        float, typer.Option(min=0.01, max=1e6, callback=finite, help="Largest file that may be uploaded, in MB.")
    ] = 256.0,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin of web pages that may connect, as https://host; * for all. May be repeated."),
    ] = None,
    threads: PoolThreadsOption = None,
) -> None:
    """Serve hits over WebSocket and HTTP, with a page that shows them live.

    SIGTERM, SIGHUP or Ctrl-C ends every session with the hits of what it has heard; the exit code is then 143, 129 or
    130.
    """
    from ..engines.opening import open_engines
    from .metrics import MeteredEngine, Metrics
    from .settings import Settings, parse_origin

    if not host:  # as of a variable that is not set; to the system it means every network
        raise UsageError("--host '': expected an address; 127.0.0.1 is this machine alone, 0.0.0.0 every network")
    settings = Settings(
        latency_ms=None if latency_ms == math.inf else latency_ms,
        max_sessions=max_sessions,
        idle_timeout_s=idle_timeout,
        max_session_s=60 * max_session_minutes,
        max_upload_bytes=round(1e6 * max_upload_mb),
        allowed_origins=tuple(map(parse_origin, allow_origin or ())),
    )
    metrics = Metrics()
    opened = [MeteredEngine(one, metrics) for one in open_engines(engine, threads)]
    opened[0].manifest.delay_for_latency(latency_ms)  # refuse now what no session could have
    try:
        code = _serve(opened, host, port, settings, metrics)
    finally:
        for one in opened:
            one.close()
    if code:
        raise typer.Exit(code)


def _serve(engines: Sequence[Engine], host: str, port: int, settings: Settings, metrics: Metrics) -> int:
    """Listen, with a pool of these engines, until a signal comes; the exit code. Raises UsageError."""
    from ..streams.pool import StreamPool
    from .app import create_app
    from .settings import is_loopback

    sessions = settings.max_sessions
    warm_streams = min(sessions, _WARM_STREAMS)
    with (
        _listen(host, port) as listener,
        StreamPool(*engines, max_wait_ms=_MAX_WAIT_MS, max_streams=sessions, warm_streams=warm_streams) as pool,
    ):
        shown = f"[{host}]" if ":" in host else host
        heard_by = f"{engines[0].describe()}; {len(engines)} engine(s)"
        greeting = f"listening on http://{shown}:{listener.getsockname()[1]}/  ({heard_by})"
        settings = replace(settings, loopback_only=is_loopback(listener.getsockname()[0].partition("%")[0]))
        return _run(create_app(pool, settings, metrics), listener, settings, greeting)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UsageError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise UsageError(f"cannot listen on {host} port {port} ({error.strerror or error}); choose others") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: ends what the web server would wait for for ever
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNTAKEN_MS)
    return listener


def _run(app: FastAPI, listener: socket.socket, settings: Settings, greeting: str) -> int:
    """Serve until a signal comes; the exit code."""
    import uvicorn

    from ..interrupt import Interruption

    class Server(uvicorn.Server):
        """Says when it is there, and ends the sessions before the connections."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            typer.echo(greeting, err=True)

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield  # uvicorn's own handlers know no SIGHUP, and take signals that whoever started us wants ignored

        async def on_tick(self, counter: int) -> bool:
            return await super().on_tick(counter) or interruption.signum is not None

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await app.state.sessions.stop(_GOODBYE_S)
            await super().shutdown(sockets)

    with Interruption() as interruption:
        Server(configure(app, settings)).run(sockets=[listener])
    return interruption.exit_code


def configure(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn is to run the application: its own limits belong to ours."""
    import uvicorn

    from .frames import LimitedProtocol

    class Protocol(LimitedProtocol):
        max_unfinished_bytes = 2 * settings.max_message_bytes  # sessions refuse what is whole before that, and say why

    return uvicorn.Config(
        app,
        ws=Protocol,
        ws_max_size=sys.maxsize,  # ours above leaves time to say what was heard
        ws_ping_timeout=None,  # a pong waits behind audio that is not read yet; who is silent is ended anyway
        ws_per_message_deflate=False,  # PCM does not shrink, and what unpacks to much more than it weighs is no gift
        timeout_graceful_shutdown=_CLOSING_S,
        log_level="warning",
        access_log=False,
    )
