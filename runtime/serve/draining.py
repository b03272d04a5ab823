"""A refusal that is heard: what a client still sends is taken before the connection is closed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Draining"]

DRAIN_S = 2.0  # for what is left of a body; a client that needs longer sees the connection closed


class Draining:
    """ASGI middleware: an error is sent once the request's body has come to its end, or after `DRAIN_S`.

    A server that answers and closes while a body is being sent resets the connection, and the client reports a broken
    pipe instead of what was wrong (RFC 9112, section 9.6). A client that waits for "100 Continue" sends nothing, and
    has its answer at once.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. What the application raises goes on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sending = all(name != b"expect" for name, _ in scope["headers"])

        async def take() -> Message:
            nonlocal sending
            message = await receive()
            sending = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def drain() -> None:
            while sending:
                await take()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                with suppress(TimeoutError):
                    await asyncio.wait_for(drain(), DRAIN_S)
            await send(message)

        await self._app(scope, take, answer)
