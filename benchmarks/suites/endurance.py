"""A day of audio through one stream: memory stays flat, and the end is as good as the beginning.

The audio is drum-like and never repeats in step with anything: half a minute per seed, seeds one after another. The
last hour's hits are compared with those of a fresh stream that begins one receptive field (layers x window) before
that hour, which is as far back as the model can look. Memory is the resident size after each hour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ...export.signals import drum_like
from ...runtime.engines.protocol import Engine
from ...runtime.errors import UsageError
from ...runtime.events import Hit
from ...runtime.manifest import Manifest
from ...runtime.pairing import same_hits
from ...runtime.streams.stream import FILE_TOKENS_PER_CALL, StreamingTranscriber
from ..measuring import Figure, resident_mb

__all__ = ["endurance"]

CLIP_S = 30
SAME_S = 1e-4
SPREAD_LIMIT = 4.0  # per cent

Floats = NDArray[np.float32]


def endurance(engine: Engine, hours: float) -> list[Figure]:
    """Memory hour by hour, and the hits of the last hour against those of a fresh stream.

    Raises UsageError for a model whose manifest does not tell how far back it looks.
    """
    per_hour = 3600 // CLIP_S
    clips = round(hours * per_hour)
    last = max(0, clips - per_hour)  # the clip with which the last hour begins
    before = math.ceil(receptive_field_s(engine.manifest) / CLIP_S)  # raises for what cannot be judged hours later
    transcriber, memory, hits = _transcriber(engine), [], []
    for number in range(clips):
        found = transcriber.feed(_clip(engine, number))
        if number >= last:
            hits += found
        if (number + 1) % max(1, min(per_hour, clips // 4)) == 0:
            memory.append(resident_mb())
    hits += transcriber.flush()
    fresh = list(_fresh(engine, max(0, last - before), clips))
    start_s = last * CLIP_S
    one, other = ([h for h in found if h.time_s >= start_s] for found in (hits, fresh))
    _, different = same_hits(one, other, SAME_S)
    return [
        Figure("hits of the last hour", len(one), ""),
        Figure("of these different from a fresh start", len(different), "", 0),
        *_memory_figures(memory),
    ]


def _memory_figures(memory_mb: Sequence[float | None]) -> list[Figure]:
    """Of the resident size after each part; where the system does not tell it, nothing has been measured."""
    known = [size for size in memory_mb if size is not None]
    settled = known[1:] or known
    return [
        Figure("resident memory after the first part", known[0] if known else None, "MB"),
        Figure("resident memory, largest after it", max(settled, default=None), "MB"),
        Figure(
            "resident memory, spread after the first part",
            100 * (max(settled) / min(settled) - 1) if settled else None,
            "%",
            SPREAD_LIMIT,
        ),
    ]


def receptive_field_s(manifest: Manifest) -> float:
    """How far back the model can look, in seconds: layers x window of its cache."""
    windows = [shape[1] for name, shape in manifest.states.items() if name.startswith("state_keys_")]
    if not windows:
        raise UsageError(f"{manifest.name} has no 'state_keys_*': its file is of an earlier version; export it again")
    return sum(windows) * manifest.token_s


def _fresh(engine: Engine, first: int, clips: int) -> Iterator[Hit]:
    """Hits of a stream that begins with a later clip, at their time in the whole."""
    transcriber, offset_s = _transcriber(engine), first * CLIP_S
    for number in range(first, clips):
        yield from (_moved(hit, offset_s) for hit in transcriber.feed(_clip(engine, number)))
    yield from (_moved(hit, offset_s) for hit in transcriber.flush())


def _transcriber(engine: Engine) -> StreamingTranscriber:
    return StreamingTranscriber(engine, latency_ms=100, tokens_per_call=FILE_TOKENS_PER_CALL)


def _clip(engine: Engine, number: int) -> Floats:
    return drum_like(number, CLIP_S, engine.manifest.sample_rate)


def _moved(hit: Hit, offset_s: float) -> Hit:
    return Hit(hit.time_s + offset_s, hit.code, hit.velocity, hit.confidence)
