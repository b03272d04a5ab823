"""Latency: every chunk of a live stream, the start of the command, and what of the total is whose."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from ...export.signals import drum_like
from ...runtime.engines.protocol import Engine
from ...runtime.streams.stream import StreamingTranscriber
from ..measuring import TRANSCRIBE, Figure, first_line_s, matrix_product_gflops, median, percentiles, write_wav
from .arithmetic import gflop_per_second
from .throughput import BATCHES, step_time_s

__all__ = ["latency"]

CHUNK_TOKENS = (1, 2, 4, 8)
P99_LIMITS_MS = {"base": 4.0, "small": 2.0}  # of a 40 ms chunk
CORE_SHARE = 0.1  # of one core that single-token chunks of `small` may use
STARTS = 7
FIRST_HIT_LIMIT_S = 1.0


def latency(engine: Engine, path: Path | None, chunks: int) -> tuple[list[Figure], dict[str, Any]]:
    """Figures, and the series that the pictures are drawn from."""
    chunk_rows, distribution = chunk_figures(engine, path, chunks)
    by_batch = {str(b): {str(t): 1000 * step_time_s(engine, b, t, 15) for t in CHUNK_TOKENS} for b in BATCHES}
    token = f"{1000 * engine.manifest.token_s:.0f} ms chunk, p99"
    p99_ms = next(row.value for row in chunk_rows if row.name == token)
    figures = [*chunk_rows, *start_figures(path, engine.manifest.sample_rate), *budget_figures(engine, p99_ms or 0.0)]
    return figures, {"distribution_ms": distribution, "step_ms": by_batch}


def chunk_figures(engine: Engine, path: Path | None, count: int) -> tuple[list[Figure], dict[str, list[float]]]:
    """Latency of chunks of 1 to 8 tokens, in milliseconds, and their distributions (400 quantiles each)."""
    import numpy as np

    manifest = engine.manifest
    arithmetic, speed = gflop_per_second(path), matrix_product_gflops()
    figures, distribution = [], {}
    for tokens in CHUNK_TOKENS:
        samples = tokens * manifest.samples_per_token
        wall_ms, cpu_ms = chunk_times_ms(engine, samples, count)
        chunk_s = samples / manifest.sample_rate
        label = f"{1000 * chunk_s:.0f} ms chunk"
        at_best = None if arithmetic is None else 1000 * arithmetic * chunk_s / speed
        for name, value in percentiles(wall_ms).items():
            limit = P99_LIMITS_MS.get(manifest.name) if tokens == 2 and name == "p99" else None
            middle = name == "p50"
            figures.append(
                Figure(
                    f"{label}, {name}",
                    value,
                    "ms",
                    limit,
                    at_best if middle else None,
                    better="less" if middle else None,
                )
            )
        figures.append(Figure(f"{label}, p99 of CPU time", percentiles(cpu_ms)["p99"], "ms"))
        if tokens == 1:
            share = sum(cpu_ms) / len(cpu_ms) / 1000 / chunk_s
            limit = CORE_SHARE if manifest.name == "small" else None
            figures.append(Figure(f"{label}, share of one core", share, "", limit))
        distribution[label] = np.quantile(wall_ms, np.linspace(0, 1, 400)).round(4).tolist()
    return figures, distribution


def chunk_times_ms(engine: Engine, samples: int, count: int, warm_up: int = 100) -> tuple[list[float], list[float]]:
    """Wall-clock and CPU milliseconds of each of `count` calls of `feed` with `samples` samples."""
    audio = drum_like(0, 30, engine.manifest.sample_rate)
    pieces = [audio[i : i + samples] for i in range(0, len(audio) - samples + 1, samples)]
    transcriber = StreamingTranscriber(engine)
    wall_ms, cpu_ms = [], []
    for i in range(warm_up + count):
        wall, cpu = time.perf_counter(), time.process_time()
        transcriber.feed(pieces[i % len(pieces)])
        wall_ms.append(1000 * (time.perf_counter() - wall))
        cpu_ms.append(1000 * (time.process_time() - cpu))
    return wall_ms[warm_up:], cpu_ms[warm_up:]


def start_figures(path: Path | None, sample_rate: int) -> list[Figure]:
    """From starting the command to its first line."""
    options = [] if path is None else ["--engine", str(path)]
    with tempfile.TemporaryDirectory() as folder:
        wav = write_wav(Path(folder) / "start.wav", 60, sample_rate)
        waits_s = [first_line_s([*TRANSCRIBE, str(wav), *options]) for _ in range(STARTS)]
    slowest = None if None in waits_s else max(filter(None, waits_s))
    return [
        Figure("start to first hit, median", median(waits_s), "s", FIRST_HIT_LIMIT_S, better="less"),
        Figure("start to first hit, slowest", slowest, "s"),
    ]


def budget_figures(engine: Engine, computing_ms: float) -> list[Figure]:
    """From attack to report at every delay: the model's delay and the decoder's look-ahead, a token, computing."""
    manifest = engine.manifest
    token_ms = 1000 * manifest.token_s
    lookahead_ms = 1000 * manifest.decoder.lookahead_frames * manifest.frame_s
    return [
        Figure(
            f"attack to report: {delay + lookahead_ms:g} ms algorithm, {token_ms:g} ms buffer, computing",
            manifest.total_latency_ms(i) + computing_ms,
            "ms",
            theory=manifest.total_latency_ms(i),
        )
        for i, delay in enumerate(manifest.delays_ms)
    ]
