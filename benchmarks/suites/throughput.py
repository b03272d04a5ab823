"""Whole files on one core, and streams per core: how much audio a second of computing serves."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from ...runtime.engines.protocol import Engine
from ...runtime.job import transcribe_file
from ..measuring import Figure, copy_gigabytes_per_s, matrix_product_gflops, state_bytes, write_wav
from .arithmetic import gflop_per_second

__all__ = ["throughput"]

# GFLOP-equivalents per second of audio that the bundled models may cost on one core (docs/budget.md).
COST_LIMITS = {"base": 0.75, "small": 0.45}
BATCHES = (1, 4, 16, 64)


def throughput(engine: Engine, path: Path | None) -> list[Figure]:
    """Cost of a whole file from reading to hits, and real-time streams that batches of single tokens allow."""
    with tempfile.TemporaryDirectory() as folder:
        figures = whole_file_figures(engine, path, Path(folder))
    return figures + stream_figures(engine, path)


def whole_file_figures(
    engine: Engine, path: Path | None, folder: Path, seconds: float = 60, repeats: int = 7
) -> list[Figure]:
    """CPU time of a file of `seconds`, from reading to hits, the model already loaded; the median of `repeats`."""
    wav = write_wav(folder / "file.wav", seconds, engine.manifest.sample_rate)
    speeds = [matrix_product_gflops()]
    costs = []
    for _ in range(repeats):
        start = time.process_time()
        transcribe_file(wav, engine)
        costs.append((time.process_time() - start) / seconds)
    speeds.append(matrix_product_gflops())
    cost, speed = statistics.median(costs), statistics.mean(speeds)
    arithmetic = gflop_per_second(path)
    at_best = None if arithmetic is None else 1000 * arithmetic / speed
    return [
        Figure("matrix product, float32", speed, "GFLOP/s"),
        Figure("copying", copy_gigabytes_per_s(), "GB/s"),
        Figure("whole file, CPU time per s of audio", 1000 * cost, "ms", theory=at_best),
        Figure("whole file, times real time", 1 / cost, ""),
        Figure(
            "whole file, cost per s of audio",
            cost * speed,
            "GFLOP-eq",
            COST_LIMITS.get(engine.manifest.name),
            theory=arithmetic,
            better="less",
        ),
    ]


def stream_figures(engine: Engine, path: Path | None, repeats: int = 30) -> list[Figure]:
    """Streams that one core serves in real time when so many share each call of one token; at best what binds first.

    That is arithmetic, or moving the state: a call reads all of it and writes the next one, which is copying it once.
    """
    manifest = engine.manifest
    most = manifest.token_s / (state_bytes(manifest) / (1e9 * copy_gigabytes_per_s()))
    if (arithmetic := gflop_per_second(path)) is not None:
        most = min(most, matrix_product_gflops() / arithmetic)
    figures = []
    for batch in BATCHES:
        step_s = step_time_s(engine, batch, 1, repeats)
        figures.append(
            Figure(
                f"streams per core, {batch} per call of one token",
                batch * manifest.token_s / step_s,
                "",
                theory=most,
                better="more",
            )
        )
    return figures


def step_time_s(engine: Engine, batch: int, tokens: int, repeats: int, warm_up: int = 3) -> float:
    """CPU seconds of one call of the network: the median."""
    manifest = engine.manifest
    audio = 0.1 * np.random.default_rng(0).standard_normal((batch, tokens * manifest.samples_per_token))
    delay = np.full((batch, 1), manifest.default_delay, np.int64)
    state, times_s = engine.zero_state(batch), []
    for _ in range(warm_up + repeats):
        start = time.process_time()
        state = engine.step(audio.astype(np.float32), delay, state).state
        times_s.append(time.process_time() - start)
    return statistics.median(times_s[warm_up:])
