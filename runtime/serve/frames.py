"""uvicorn's WebSocket, with limits on what no application sees: frames without end that hardly carry anything, messages
that do not end.

A frame costs much the same however little is in it, and pings and fragments are dealt with below the application.
uvicorn's own limit of messages would close at once: what was heard before is never told then, and a client that is
still sending is cut off before it reads why.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode

__all__ = ["BURST_FRAMES", "FLOOD", "FRAMES_PER_S", "LARGE_BYTES", "TOO_LARGE", "Allowance", "LimitedProtocol"]

# Reasons of a disconnection: too many frames, a message that does not end.
FLOOD = "flood"
TOO_LARGE = "too_large"
# An audio worklet sends 375 frames per second at 48 kHz, and what it could not send for a while at once.
FRAMES_PER_S = 2000
BURST_FRAMES = 8000
LARGE_BYTES = 1024  # of audio: frames of this size cost less than hearing them, and are as welcome as they can be heard

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_PORTION_BYTES = 8192  # read at a time, between which other connections have their turn
_CLOSING_S = 1.0  # for a client to read why, until its connection is cut


class Allowance:
    """Permits `per_s` things per second of wall-clock time, and those that were saved up, `burst` at most."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._at = time.monotonic()

    def take(self, count: int) -> bool:
        """Whether there may be so many more now."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + self._per_s * (now - self._at)) - count
        self._at = now
        return self._left >= 0


class LimitedProtocol(WebSocketsSansIOProtocol, asyncio.BufferedProtocol):
    """After too much nothing more is heard; the application receives a disconnection because of FLOOD or TOO_LARGE.

    It comes behind all messages before it, and the application may still send and close.
    """

    max_unfinished_bytes: int  # of one message with its headers and the pings between; whole ones are the application's

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._portion = bytearray(_PORTION_BYTES)
        self._allowance = Allowance(FRAMES_PER_S, BURST_FRAMES)
        self._unfinished_bytes = 0  # that came since the last message was whole, headers and pings among them
        self._deaf = False

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the size is ours
        """Where the event loop puts what has come."""
        return self._portion

    def buffer_updated(self, nbytes: int) -> None:
        """So much has come."""
        if not self._deaf:
            self._unfinished_bytes += nbytes
            self.data_received(bytes(self._portion[:nbytes]))

    def handle_events(self) -> None:
        """Deal with the frames in what has come, and count them."""
        frames = [event for event in self.conn.events if isinstance(event, Frame)]
        super().handle_events()
        if any(frame.fin and frame.opcode in _DATA for frame in frames):
            self._unfinished_bytes = 0
        if not self._allowance.take(sum(map(_is_small, frames))):
            self.transport.pause_reading()
            self.read_paused = False  # so that nobody resumes it
            self._disconnect(1008, FLOOD)
        elif self._unfinished_bytes > self.max_unfinished_bytes:
            self._deaf = True  # but reads on: who is cut off while sending may never see why
            self._disconnect(1009, TOO_LARGE)

    def _disconnect(self, code: int, reason: str) -> None:
        self.close_timeout = _CLOSING_S
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})


def _is_small(frame: Frame) -> bool:
    return frame.opcode not in (Opcode.BINARY, Opcode.CONT) or len(frame.data) < LARGE_BYTES
