"""What a server allows: limits of sessions and uploads, and who may use it from a web page."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import UsageError

__all__ = ["Settings", "is_loopback", "parse_origin"]

_USUAL_PORT = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of one server. Times are wall-clock seconds."""

    latency_ms: float | None = 100.0  # total latency of sessions that ask for none; None: the most accurate
    max_sessions: int = 64  # WebSocket sessions and uploads together
    max_message_bytes: int = 1 << 20
    idle_timeout_s: float = 30.0  # a session that sends nothing for so long is ended
    max_session_s: float = 3600.0
    stall_timeout_s: float = 10.0  # a client that does not take its hits for so long is ended
    max_upload_bytes: int = 256 << 20
    max_upload_s: float = 300.0  # receiving and transcribing a file
    allowed_origins: tuple[str, ...] = ()  # of web pages besides our own; "*" allows every page
    loopback_only: bool = False  # only this machine reaches the server: our own page has a loopback address then


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by itself, without asking anybody what the name means."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False


def parse_origin(text: str) -> str:
    """An origin as browsers send it, with which it is compared letter by letter; `*` and `null` as they are.

    Raises UsageError for what no browser would send.
    """
    if text in ("*", "null"):
        return text
    try:
        url = urlsplit(text)
        is_origin = bool(url.scheme and url.hostname) and url.port != 0 and "@" not in url.netloc
    except ValueError:
        is_origin = False
    if not is_origin or url.path not in ("", "/") or url.query or url.fragment:
        raise UsageError(f"--allow-origin '{text}': expected scheme://host[:port], as https://studio.example, or *")
    return f"{url.scheme}://{url.netloc.lower().removesuffix(_USUAL_PORT.get(url.scheme, ' '))}"
