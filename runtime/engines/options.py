"""The options of `rt-transcribe` that say what hears. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["DeviceName", "EngineOptions"]


class DeviceName(StrEnum):
    """What runs an ONNX file; the same as `opening.DEVICES`, which would load numpy."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What was asked for, as given; see the options' help texts."""

    engine: Annotated[
        Path | None, typer.Option(help="A model.onnx or .plan, or a bundled model: base (default), small.")
    ] = None
    latency_ms: Annotated[
        float | None, typer.Option(help="Largest total latency allowed, in ms. Default: the most accurate setting.")
    ] = None
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of the engine.")] = 1  # as `opening` allows
    device: Annotated[DeviceName, typer.Option(help="What runs an ONNX file. Plans run on their GPU.")] = DeviceName.CPU
