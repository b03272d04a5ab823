"""The options of `export-model`, as typer reads them, and what they ask for. Imports no torch, no onnx."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..runtime.errors import OutputError, UsageError
from .choices import Precision, StatePrecision, Target
from .tensorrt_builder import BATCH, DEFAULTS, TOKENS, Options, Profile, Range

__all__ = ["ArtifactOptions", "PlanOptions"]


def _shown(sizes: Range) -> str:
    return ",".join(map(str, sizes))


@dataclass(frozen=True, slots=True)
class ArtifactOptions:
    """What is made, where it goes, and what it is compared on."""

    target: Annotated[
        Target, typer.Option(help="auto: ONNX, and a plan where TensorRT can build one for a GPU of this machine.")
    ] = Target.AUTO
    precision: Annotated[Precision, typer.Option(help="Of the products inside; inputs and outputs stay float32.")] = (
        Precision.FP32
    )
    states: Annotated[
        StatePrecision, typer.Option(help="Of streams' states, with --precision fp16: half the memory and copying.")
    ] = StatePrecision.FP32
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the artifacts. [default: the model's]")] = (
        None
    )
    verify: Annotated[list[Path] | None, typer.Option(help="Recordings to compare on, too. May be repeated.")] = None

    def folder(self, model: Path) -> Path:
        """Where artifacts of a model go. Raises OutputError where that is no folder."""
        folder = self.out or model.parent
        if not folder.is_dir():
            raise OutputError(f"{folder}: cannot be written to, as it is no folder; make it first")
        return folder


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The shapes of a plan, and what is asked of its builder."""

    batch: Annotated[str, typer.Option(metavar="MIN,OPT,MAX", help="Streams per call of a plan.")] = _shown(BATCH)
    tokens: Annotated[str, typer.Option(metavar="MIN,OPT,MAX", help="Tokens per call of a plan.")] = _shown(TOKENS)
    workspace_mib: Annotated[int | None, typer.Option(help="Memory that the builder of a plan may use.")] = None
    timing_cache: Annotated[Path | None, typer.Option(help="TensorRT: file that makes a second build fast.")] = None
    version_compatible: Annotated[bool, typer.Option(help="TensorRT: loads in later 11.x versions, too.")] = False
    hardware_compatibility: Annotated[
        str, typer.Option(help="TensorRT: none, same_compute_capability or ampere_plus.")
    ] = DEFAULTS.hardware_compatibility
    detailed: Annotated[bool, typer.Option(help="The plan keeps what its layers are, for profilers.")] = False

    def profile(self) -> Profile:
        """Raises UsageError for ranges that make no sense."""
        return Profile(_range("--batch", self.batch), _range("--tokens", self.tokens))

    def builder(self) -> Options:
        """What is asked of the builder. Raises UsageError for what no builder can do."""
        return Options(
            self.workspace_mib, self.timing_cache, self.version_compatible, self.hardware_compatibility, self.detailed
        )


def _range(option: str, text: str) -> Range:
    try:
        low, preferred, high = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text}: expected MIN,OPT,MAX, three whole numbers") from None
    return low, preferred, high
