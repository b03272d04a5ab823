"""The options of `rt-transcribe` that say what hears. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .choices import MOST_BY_DEFAULT, MOST_THREADS, DeviceName

__all__ = ["EngineOptions", "PoolThreadsOption", "ThreadsOption"]

ThreadsOption = Annotated[int, typer.Option("--threads", min=1, max=MOST_THREADS, help="Threads of the engine.")]
PoolThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        max=MOST_THREADS,
        help=f"Each hears its share of the streams. Default: one per core, at most {MOST_BY_DEFAULT}.",
    ),
]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What was asked for, as given; see the options' help texts."""

    engine: Annotated[
        Path | None, typer.Option(help="A model.onnx or .plan, or a bundled model: base (default), small.")
    ] = None
    latency_ms: Annotated[
        float | None, typer.Option(help="Largest total latency allowed, in ms. Default: the most accurate setting.")
    ] = None
    threads: ThreadsOption = 1
    device: Annotated[DeviceName, typer.Option(help="What runs an ONNX file. Plans run on their GPU.")] = DeviceName.CPU
