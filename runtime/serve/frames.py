"""uvicorn's WebSocket, with a limit on what no application sees: frames without end that hardly carry anything.

A frame costs much the same however little is in it, and pings and fragments are dealt with below the application.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode

__all__ = ["BURST_FRAMES", "FLOOD", "FRAMES_PER_S", "LARGE_BYTES", "Allowance", "LimitedProtocol"]

FLOOD = "flood"  # the reason of a disconnection because of too many frames
# An audio worklet sends 375 frames per second at 48 kHz, and what it could not send for a while at once.
FRAMES_PER_S = 2000
BURST_FRAMES = 8000
LARGE_BYTES = 1024  # of audio: frames of this size cost less than hearing them, and are as welcome as they can be heard

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
    """After too many small frames nothing more is read; the application then receives a disconnection because of FLOOD.

    It comes behind all messages before it, and the application may still send and close.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._portion = bytearray(_PORTION_BYTES)
        self._allowance = Allowance(FRAMES_PER_S, BURST_FRAMES)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the size is ours
        """Where the event loop puts what has come."""
        return self._portion

    def buffer_updated(self, nbytes: int) -> None:
        """So much has come."""
        self.data_received(bytes(self._portion[:nbytes]))

    def handle_events(self) -> None:
        """Deal with the frames in what has come, and count them."""
        small = sum(isinstance(event, Frame) and _is_small(event) for event in self.conn.events)
        super().handle_events()
        if not self._allowance.take(small):
            self.transport.pause_reading()
            self.read_paused = False  # so that nobody resumes it
            self.close_timeout = _CLOSING_S
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1008, "reason": FLOOD})


def _is_small(frame: Frame) -> bool:
    return frame.opcode not in (Opcode.BINARY, Opcode.CONT) or len(frame.data) < LARGE_BYTES
