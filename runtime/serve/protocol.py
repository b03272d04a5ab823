"""The messages of a WebSocket session, and what is wrong with those that are none. See docs/serve.md."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..events import Hit
from ..input.pcm import PcmFormat
from ..input.source import HIGHEST_RATE, LOWEST_RATE
from ..manifest import Manifest
from ..output.writers import json_fields
from ..vocabulary import NAME_OF

__all__ = [
    "Command",
    "Problem",
    "SessionError",
    "Start",
    "classes",
    "full",
    "hit_message",
    "parse_command",
    "parse_start",
    "ready_message",
]

ENCODINGS = ("f32le", "s16le")
MAX_CHANNELS = 32
_MAX_SHOWN = 40  # characters of a value that is refused
_LONGEST_LATENCY_MS = sys.float_info.max  # what a float can hold; whole numbers of JSON have no end
_MAX_TEXT = 4096  # characters of a JSON message; none of ours comes near


class Problem(Enum):
    """Why a session is ended early: the `code` of the error message, and the WebSocket close code (RFC 6455, 7.4)."""

    BAD_JSON = ("bad_json", 1007)
    BAD_MESSAGE = ("bad_message", 1008)
    FULL = ("full", 1013)
    IDLE = ("idle", 1008)
    TOO_LONG = ("too_long", 1008)
    STALLED = ("stalled", 1008)
    FLOOD = ("flood", 1008)
    TOO_LARGE = ("too_large", 1009)
    ENGINE = ("engine", 1011)

    def __init__(self, code: str, close_code: int) -> None:
        self.code = code
        self.close_code = close_code


class SessionError(Exception):
    """What ends one session early; the text is for the client."""

    def __init__(self, problem: Problem, text: str) -> None:
        super().__init__(text)
        self.problem = problem


def full() -> SessionError:
    """What a client is told that there is no room for."""
    return SessionError(Problem.FULL, "all sessions of this server are taken; try again later")


class Command(Enum):
    """What a client may say once its audio flows."""

    END = "end"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Start:
    """The first message: how the audio lies in the binary messages, and the total latency allowed."""

    pcm: PcmFormat
    latency_ms: float | None


def parse_start(message: str | bytes, latency_ms: float | None) -> Start:
    """The first message of a session, with the server's latency where it names none. Raises SessionError."""
    if isinstance(message, bytes):
        raise SessionError(
            Problem.BAD_MESSAGE, 'audio came before {"type": "start", ...}; say first how the samples lie in it'
        )
    fields = _parse(message)
    if fields["type"] != "start":
        raise SessionError(Problem.BAD_MESSAGE, f'the first message must be of type "start", found {fields["type"]!r}')
    rate = _integer(fields, "sample_rate", LOWEST_RATE, HIGHEST_RATE)
    channels = _integer(fields, "channels", 1, MAX_CHANNELS, default=1)
    encoding = fields.get("encoding", ENCODINGS[0])
    if encoding not in ENCODINGS:
        raise SessionError(Problem.BAD_MESSAGE, f'"encoding" must be one of {_listed(ENCODINGS)}, found {encoding!r}')
    return Start(PcmFormat(encoding, rate, channels), _latency(fields, latency_ms))


def parse_command(message: str) -> Command:
    """A text message after the first one. Raises SessionError."""
    kind = _parse(message)["type"]
    try:
        return Command(kind)
    except ValueError:
        raise SessionError(
            Problem.BAD_MESSAGE, f'expected a message of type "end" or "reset", found {kind!r}'
        ) from None


def ready_message(manifest: Manifest, start: Start, total_latency_ms: float) -> dict[str, Any]:
    """The answer to `start`."""
    return {
        "type": "ready",
        "model": manifest.name,
        "precision": manifest.precision,
        "sample_rate": manifest.sample_rate,
        "resampled": manifest.sample_rate != start.pcm.rate,
        "total_latency_ms": total_latency_ms,
        "classes": classes(manifest),
    }


def classes(manifest: Manifest) -> list[dict[str, Any]]:
    """Code, MIDI note and English name of every class, in channel order."""
    return [{"code": c.code, "note": c.note, "name": NAME_OF.get(c.code, c.code)} for c in manifest.classes]


def hit_message(hit: Hit, note: int) -> dict[str, Any]:
    """A hit; besides its type, the fields of a JSON line of `rt-transcribe`."""
    return {"type": "hit", **json_fields(hit, note)}


def _parse(message: str) -> dict[str, Any]:
    """A JSON object with a type."""
    if len(message) > _MAX_TEXT:
        raise SessionError(Problem.BAD_MESSAGE, f"a text message of {len(message)} characters; at most {_MAX_TEXT}")
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        raise SessionError(Problem.BAD_JSON, f"expected JSON, found {message[:40]!r}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise SessionError(Problem.BAD_MESSAGE, f'expected a JSON object with a "type", found {message[:40]!r}')
    return fields


def _integer(fields: dict[str, Any], key: str, low: int, high: int, default: int | None = None) -> int:
    value = fields.get(key, default)
    if isinstance(value, float) and value.is_integer():  # languages without integers write 48000.0
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SessionError(
            Problem.BAD_MESSAGE, f'"{key}" must be a whole number {low} to {high}, found {_shown(value)}'
        )
    return value


def _latency(fields: dict[str, Any], default: float | None) -> float | None:
    value = fields.get("latency_ms", default)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= _LONGEST_LATENCY_MS:
        raise SessionError(Problem.BAD_MESSAGE, f'"latency_ms" must be a number of milliseconds, found {_shown(value)}')
    return float(value)


def _shown(value: object) -> str:
    """A value as it stands in a message for people, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f'"{word}"' for word in words)
