"""The web application: WebSocket sessions, uploads, health, metrics and the page."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from ... import __version__
from ..errors import GhostnoteError, InputError, OutputError, UsageError
from ..streams.pool import PoolFullError, StreamPool
from . import frames, uploads
from .draining import Draining
from .metrics import Metrics
from .protocol import Problem, SessionError, classes, full
from .session import Disconnected, Session
from .settings import Settings, is_loopback

__all__ = ["Sessions", "create_app"]

# The page is one file that loads nothing; `blob:` is its audio worklet.
_READING = ["GET", "HEAD"]
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; worker-src blob:; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_STATUS_OF: dict[type[GhostnoteError], int] = {
    UsageError: 422,
    InputError: 415,
    OutputError: 507,
    uploads.TooLargeError: 413,
    uploads.TooSlowError: 408,
    uploads.ShutdownError: 503,
}


class Sessions:
    """What is open, so that it can be told to end: sessions, which are counted, and uploads."""

    def __init__(self) -> None:
        self._open: set[Session | _Upload] = set()
        self._stopping = False

    def __len__(self) -> int:
        return sum(isinstance(one, Session) for one in self._open)

    @contextlib.asynccontextmanager
    async def holding(self, one: Session | _Upload) -> AsyncIterator[None]:
        """Know of it while it lasts."""
        self._open.add(one)
        if self._stopping:
            one.stop()
        try:
            yield
        finally:
            self._open.discard(one)

    async def stop(self, within_s: float) -> None:
        """End all, later ones too: sessions report what they have heard, uploads are refused; wait for them."""
        self._stopping = True
        for one in self._open:
            one.stop()
        ends_at = time.monotonic() + within_s
        while self._open and time.monotonic() < ends_at:
            await asyncio.sleep(0.02)


class _SocketConnection:
    """A `Connection` of a session, made of a Starlette WebSocket."""

    def __init__(self, socket: WebSocket, max_message_bytes: int) -> None:
        self._socket = socket
        self._max_message_bytes = max_message_bytes

    async def receive(self) -> str | bytes:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise self._ended_by(message.get("reason"))
        text: str | None = message.get("text")
        content: str | bytes = message["bytes"] if text is None else text
        if len(content) > self._max_message_bytes:
            raise self._too_large()
        return content

    async def send(self, text: str) -> None:
        try:
            await self._socket.send_text(text)
        except WebSocketDisconnect:
            raise Disconnected from None

    async def close(self, code: int, reason: str) -> None:
        try:
            await self._socket.close(code, reason)
        except (WebSocketDisconnect, RuntimeError):  # RuntimeError: the other side closed first
            raise Disconnected from None

    def _ended_by(self, reason: str | None) -> Exception:
        if reason == frames.FLOOD:
            return _flood()
        return self._too_large() if reason == frames.TOO_LARGE else Disconnected()

    def _too_large(self) -> SessionError:
        return SessionError(
            Problem.TOO_LARGE, f"a message of more than {self._max_message_bytes} bytes; send audio in smaller ones"
        )


def _flood() -> SessionError:
    return SessionError(
        Problem.FLOOD,
        f"more than {frames.FRAMES_PER_S} small messages, fragments or pings per second; send audio in messages of "
        f"{frames.LARGE_BYTES} bytes or more, or in real time",
    )


class _Upload:
    """A file that is received and heard, as long as the time allowed, its client and the server last."""

    def __init__(self, request: Request, settings: Settings) -> None:
        self._request = request
        self._max_bytes = settings.max_upload_bytes
        self._limit = asyncio.timeout(settings.max_upload_s)
        self._end: GhostnoteError | ClientDisconnect = uploads.TooSlowError(
            f"the file was not received and transcribed within {settings.max_upload_s:g} s; send a shorter one"
        )

    def stop(self) -> None:
        """The server ends."""
        self._give_up(uploads.ShutdownError("the server ends; send the file again"))

    async def hear(
        self, sessions: Sessions, pool: StreamPool, latency_ms: float | None, threads: Executor
    ) -> uploads.Transcript:
        """Receive and transcribe the file. Raises what `uploads` and `pool.open` raise, and ClientDisconnect."""
        try:
            async with self._limit, sessions.holding(self):
                # Its place first, so that nobody sends a file for nothing.
                with pool.open(latency_ms=latency_ms) as stream, uploads.folder() as folder:
                    path = folder / "upload"
                    await uploads.save(self._request.stream(), path, self._max_bytes)
                    with self._watching():
                        loop = asyncio.get_running_loop()
                        return await loop.run_in_executor(threads, uploads.transcribe, path, stream, pool.sample_rate)
        except TimeoutError:
            raise self._end from None

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """Give up when the client leaves, which nobody else notices once its file has come."""
        watch = asyncio.create_task(self._notice_departure())
        try:
            yield
        finally:
            watch.cancel()

    async def _notice_departure(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._give_up(ClientDisconnect())

    def _give_up(self, why: GhostnoteError | ClientDisconnect) -> None:
        with contextlib.suppress(RuntimeError):  # it is over already
            self._limit.reschedule(asyncio.get_running_loop().time())
            self._end = why


def create_app(pool: StreamPool, settings: Settings | None = None, metrics: Metrics | None = None) -> FastAPI:
    """The application on a pool. `app.state.sessions` is its `Sessions`, to be stopped before the server is.

    Pass the metrics that the pool's engine reports to (`MeteredEngine`), if any.
    """
    settings, metrics = settings or Settings(), metrics or Metrics()
    metrics.watch(pool)
    app = FastAPI(title="ghostnote", version=__version__, docs_url=None, redoc_url=None)
    app.state.sessions = Sessions()
    if settings.allowed_origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(settings.allowed_origins), allow_methods=["GET", "POST"])
    app.add_middleware(Draining)
    _add_pages(app, pool, settings, metrics)
    _add_transcription(app, pool, settings, metrics)
    return app


def _add_pages(app: FastAPI, pool: StreamPool, settings: Settings, metrics: Metrics) -> None:
    page = importlib.resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    manifest = pool.engine.manifest
    totals = [manifest.total_latency_ms(index) for index in range(len(manifest.delays_ms))]

    @app.api_route("/", methods=_READING, response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        headers = {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-cache"}
        return HTMLResponse(page, headers=headers)

    @app.get("/healthz")
    @app.head("/healthz", include_in_schema=False)
    async def health() -> dict[str, Any]:
        """Answers while the server lives; what it runs and how busy it is."""
        return {
            "status": "ok",
            "version": __version__,
            "engine": pool.engine.describe(),
            "model": manifest.name,
            "sample_rate": manifest.sample_rate,
            "total_latencies_ms": totals,
            "default_latency_ms": settings.latency_ms,
            "classes": classes(manifest),
            "sessions": len(app.state.sessions),
            "max_sessions": settings.max_sessions,
        }

    @app.api_route("/metrics", methods=_READING, include_in_schema=False)
    async def show_metrics() -> Response:
        return Response(metrics.text(), media_type=metrics.content_type)


def _add_transcription(app: FastAPI, pool: StreamPool, settings: Settings, metrics: Metrics) -> None:
    sessions: Sessions = app.state.sessions
    # As many threads as places: with fewer, whoever writes what arrives would wait for whoever transcribes.
    threads = ThreadPoolExecutor(settings.max_sessions, thread_name_prefix="ghostnote-upload")

    @app.websocket("/v1/transcribe")
    async def transcribe_stream(socket: WebSocket) -> None:
        if not _is_welcome(socket.headers.get("origin"), socket.headers.get("host"), settings):
            metrics.errors.labels("origin").inc()
            await socket.close()  # before it is accepted: HTTP 403
            return
        await socket.accept()
        session = Session(_SocketConnection(socket, settings.max_message_bytes), pool, settings, metrics)
        if len(sessions) >= settings.max_sessions:
            await session.refuse(full())
            return
        metrics.opened.inc()
        async with sessions.holding(session):
            with metrics.sessions.track_inprogress():
                await session.run()

    @app.exception_handler(RequestValidationError)
    async def refuse(_: Request, error: RequestValidationError) -> JSONResponse:
        metrics.errors.labels(UsageError.__name__).inc()
        return JSONResponse({"detail": _told(error)}, 422)

    @app.post("/v1/transcribe", responses={422: {"description": "No such latency"}})
    async def transcribe_file(request: Request, latency_ms: float | None = None) -> dict[str, Any]:
        """Hits of the audio file in the request's body; `latency_ms` as in a session, by default the most accurate."""
        if not _is_welcome(request.headers.get("origin"), request.headers.get("host"), settings):
            metrics.errors.labels("origin").inc()
            raise HTTPException(403, "this page may not use the server; see --allow-origin")
        try:
            uploads.check_announced(request.headers, settings.max_upload_bytes)
            transcript = await _Upload(request, settings).hear(sessions, pool, latency_ms, threads)
        except GhostnoteError as error:
            raise _http_error(error, metrics) from None
        except ClientDisconnect:
            metrics.errors.labels("disconnected").inc()
            raise HTTPException(400, "the file is incomplete") from None
        metrics.uploads.inc()
        return transcript.document(pool.engine.manifest.note_of)


def _told(error: RequestValidationError) -> str:
    """What is wrong with a request's parameters, as every other refusal: in one text."""
    return "; ".join(f"{wrong['loc'][-1]} {wrong['input']!r:.40}: {wrong['msg']}" for wrong in error.errors())


def _http_error(error: GhostnoteError, metrics: Metrics) -> HTTPException:
    if isinstance(error, PoolFullError):
        metrics.refused.inc()
        return HTTPException(503, str(full()), {"Retry-After": "5"})
    kind = type(error)
    metrics.errors.labels(kind.__name__).inc()
    status = next((status for known, status in _STATUS_OF.items() if issubclass(kind, known)), 500)
    return HTTPException(status, str(error))


def _is_welcome(origin: str | None, host: str | None, settings: Settings) -> bool:
    """Whether a request may come from a page of this origin; programs that are no browsers send none."""
    if origin is None or "*" in settings.allowed_origins or origin in settings.allowed_origins:
        return True
    try:
        url = urlsplit(origin)
        # Equality is no proof on this machine: a name of somebody else's may lead to it, too (DNS rebinding).
        is_ours = not settings.loopback_only or is_loopback(url.hostname or "")
        return is_ours and host is not None and url.netloc.lower() == host.lower()
    except ValueError:  # no URL, as "http://["
        return False
