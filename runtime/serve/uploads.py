"""A whole file by HTTP: its bytes to a temporary file within limits, then through the pool like any other stream."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GhostnoteError, InputError, OutputError
from ..events import Hit
from ..input.audio import AudioReader
from ..output.writers import json_fields
from ..streams.pooled_stream import PooledStream
from ..streams.stream import silenced_text

__all__ = [
    "ShutdownError",
    "TooLargeError",
    "TooSlowError",
    "Transcript",
    "check_announced",
    "folder",
    "save",
    "transcribe",
]

Floats = NDArray[np.float32]

_PIECE_S = 0.5  # fed at once; less than a stream's buffer


class TooLargeError(GhostnoteError):
    """The file is longer than the server allows."""


class TooSlowError(GhostnoteError):
    """The file was not received or not transcribed in the time allowed."""


class ShutdownError(GhostnoteError):
    """The server ends before the file was transcribed."""


@dataclass
class Transcript:
    """What was heard in a file."""

    hits: list[Hit] = field(default_factory=list)
    audio_s: float = 0.0
    warnings: list[str] = field(default_factory=list)

    def document(self, note_of: dict[str, int]) -> dict[str, Any]:
        """As JSON, hits in order of time."""
        ordered = sorted(self.hits, key=lambda hit: hit.time_s)
        return {
            "audio_s": round(self.audio_s, 6),
            "hits": [json_fields(hit, note_of[hit.code]) for hit in ordered],
            "warnings": self.warnings,
        }


def check_announced(headers: Mapping[str, str], max_bytes: int) -> None:
    """Refuse by its headers what need not be sent. Raises TooLargeError; InputError for the form of a web page."""
    if headers.get("content-type", "").startswith("multipart/"):
        raise InputError(
            "a form (multipart) came, expected the file itself as the body: curl --data-binary @FILE, or fetch with "
            "the file as its body"
        )
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for one upload, gone afterwards. Raises OutputError where the disk has no place for it."""
    try:
        made = tempfile.TemporaryDirectory(prefix="ghostnote-")
    except OSError as error:
        raise _no_place(error) from None
    with made as name:
        yield Path(name)


async def save(chunks: AsyncIterator[bytes], path: Path, max_bytes: int) -> None:
    """Write a request's body. Raises TooLargeError as soon as that is certain, OutputError when the disk refuses."""
    size = 0
    try:
        with path.open("wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                await asyncio.to_thread(file.write, chunk)
    except OSError as error:
        raise _no_place(error) from None


def transcribe(path: Path, stream: PooledStream, sample_rate: int) -> Transcript:
    """All hits of a file; blocks, for a thread of its own, which ends when the stream is closed.

    A file that breaks half-way gives the hits up to there and a warning. Raises InputError for what is no audio,
    EngineError.
    """
    transcript = Transcript()
    with _open(path, sample_rate) as reader:
        try:
            for piece in _pieces(reader, int(_PIECE_S * sample_rate)):
                stream.feed(piece)
                transcript.hits += stream.read()
        except InputError as error:
            transcript.warnings.append(_without(path, str(error)))
            for piece in reader.rest():
                stream.feed(piece)
        transcript.hits += stream.flush()
        transcript.audio_s = stream.samples_fed / sample_rate
        transcript.warnings += [_without(path, warning) for warning in reader.warnings]
        transcript.warnings += silenced_text(reader.non_finite_samples + stream.non_finite_samples)
    return transcript


def _too_large(max_bytes: int) -> TooLargeError:
    return TooLargeError(f"the file is larger than {max_bytes} bytes, the limit of this server")


def _no_place(error: OSError) -> OutputError:
    return OutputError(f"the server has no place for the file ({error.strerror})")


def _open(path: Path, sample_rate: int) -> AudioReader:
    try:
        return AudioReader(path, sample_rate)
    except InputError as error:
        raise InputError(_without(path, str(error))) from None


def _pieces(blocks: AudioReader, samples: int) -> Iterator[Floats]:
    for block in blocks:
        for first in range(0, len(block), samples):
            yield block[first : first + samples]


def _without(path: Path, text: str) -> str:
    """The name of our temporary file is nobody's business."""
    return text.replace(str(path), "the file")
