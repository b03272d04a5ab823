"""A whole file by HTTP: its bytes to a temporary file within limits, then through the pool like any other stream."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audio import AudioReader
from ..errors import GhostnoteError, InputError
from ..events import Hit
from ..pool import StreamPool
from ..writers import json_fields

__all__ = ["TooLargeError", "TooSlowError", "Transcript", "save", "transcribe"]

Floats = NDArray[np.float32]

_PIECE_S = 0.5  # fed at once; less than a stream's buffer


class TooLargeError(GhostnoteError):
    """The file is longer than the server allows."""


class TooSlowError(GhostnoteError):
    """The file was not received or not transcribed in the time allowed."""


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


async def save(chunks: AsyncIterator[bytes], path: Path, max_bytes: int) -> None:
    """Write a request's body. Raises TooLargeError as soon as that is certain."""
    size = 0
    with path.open("wb") as file:
        async for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise TooLargeError(f"the file is larger than {max_bytes} bytes, the limit of this server")
            await asyncio.to_thread(file.write, chunk)


def transcribe(
    path: Path, pool: StreamPool, latency_ms: float | None, ends_at: float, given_up: threading.Event
) -> Transcript:
    """All hits of a file; blocks, for a thread of its own, which ends soon after `given_up` is set.

    A file that breaks half-way gives the hits up to there and a warning. Raises InputError for what is no audio,
    PoolFullError, EngineError, UsageError, TooSlowError after the time `ends_at` (time.monotonic).
    """
    transcript = Transcript()
    with pool.open(latency_ms=latency_ms) as stream, _open(path, pool.sample_rate) as reader:
        try:
            for piece in _pieces(reader, int(_PIECE_S * pool.sample_rate)):
                if time.monotonic() > ends_at or given_up.is_set():
                    raise TooSlowError("the file takes longer than this server allows; send a shorter one")
                stream.feed(piece)
                transcript.hits += stream.read()
        except InputError as error:
            transcript.warnings.append(_without(path, str(error)))
        transcript.hits += stream.flush()
        transcript.audio_s = stream.samples_fed / pool.sample_rate
        transcript.warnings += [_without(path, warning) for warning in reader.warnings]
    return transcript


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
