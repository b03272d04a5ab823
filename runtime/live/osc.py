"""Hits as Open Sound Control messages over UDP (python-osc, extra `live`)."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from ..errors import OutputError, UsageError
from ..events import Hit
from ..number import whole

__all__ = ["ADDRESS", "OscSink", "parse_target"]

ADDRESS = "/ghostnote/hit"


def parse_target(text: str) -> tuple[str, int]:
    """HOST:PORT, [IPV6]:PORT or PORT (this machine). Raises UsageError."""
    host, _, digits = text.rpartition(":")
    port = whole(digits)
    if port is None or not 0 < port < 1 << 16:
        raise UsageError(f"--osc '{text}': expected HOST:PORT, for example 127.0.0.1:9000")
    return host.strip("[]") or "127.0.0.1", port


class OscSink:
    """Sends `/ghostnote/hit time class note velocity confidence` (types f s i f f) for each hit; nobody need listen."""

    def __init__(self, target: str, note_of: Mapping[str, int]) -> None:
        try:
            from pythonosc.udp_client import SimpleUDPClient
        except ModuleNotFoundError:
            raise OutputError("--osc needs python-osc, which is not installed; pip install 'ghostnote[live]'") from None
        host, port = parse_target(target)
        self._note_of = note_of
        self._target = target
        try:
            # The client would look a host name up again for every message, and wait for the answer.
            address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][4][0]
            self._client = SimpleUDPClient(str(address), port, allow_broadcast=True)
        except (OSError, UnicodeError) as error:  # the latter for a name that cannot be one, as in a..b
            raise OutputError(f"OSC {target}: {getattr(error, 'strerror', None) or error}") from None

    def write(self, hits: Iterable[Hit]) -> None:
        """A datagram per hit, without waiting. Raises OutputError where the network refuses."""
        for hit in hits:
            try:
                self._client.send_message(
                    ADDRESS, [hit.time_s, hit.code, self._note_of[hit.code], hit.velocity, hit.confidence]
                )
            except OSError as error:
                raise OutputError(f"OSC {self._target}: cannot be sent ({error.strerror or error})") from None

    def close(self) -> None:
        """Close the socket."""
        self._client.close()

    def discard(self) -> None:
        """Close the socket."""
        self._client.close()
