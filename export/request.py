"""What a user asks of `export-model`, which files that makes, and the plan of it in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..runtime.engines.flavours import FLAVOURS
from ..runtime.errors import UsageError
from . import onnx_export
from .choices import Precision, StatePrecision, Target
from .tensorrt_builder import DEFAULTS, TENSORRT_ALONE, Options, Profile, changed

__all__ = ["Request", "planned"]


@dataclass(frozen=True)
class Request:
    """What a user asks for. `source`: a checkpoint, or a float32 .onnx file of ours (then PyTorch is not needed).

    Raises UsageError for what makes no sense together, before any work: options that the target has no use for, too.
    Of target `auto` it is not known yet which builder there is.
    """

    source: Path
    folder: Path
    target: Target = Target.AUTO
    precision: Precision = Precision.FP32
    states: StatePrecision = StatePrecision.FP32
    recordings: tuple[Path, ...] = ()
    profile: Profile = field(default_factory=Profile)
    options: Options = DEFAULTS

    def __post_init__(self) -> None:
        if self.states is StatePrecision.FP16 and self.precision is not Precision.FP16:
            raise UsageError(f"states in fp16 go with products in fp16, not {self.precision}: add --precision fp16")
        if self.target in FLAVOURS:
            self.options.check(FLAVOURS[self.target])
        elif self.target is not Target.AUTO:
            self._check_without_plan()

    @property
    def from_graph(self) -> bool:
        return self.source.suffix.lower() == ".onnx"

    @property
    def float32(self) -> Path:
        return self.source if self.from_graph else self.folder / f"{self.source.stem}.onnx"

    @property
    def graph(self) -> Path:
        """The ONNX file in the precision asked for."""
        return self.float32 if self.precision is Precision.FP32 else self.folder / f"{self._name}.onnx"

    def plan(self, flavour: str) -> Path:
        """Where a plan goes. One for RTX GPUs is told from the others by its name, too."""
        return self.folder / (f"{self._name}.plan" if flavour == Target.TENSORRT else f"{self._name}.rtx.plan")

    @property
    def repository(self) -> Path:
        return self.folder / f"{self._name}-triton"

    def _check_without_plan(self) -> None:
        """Raises UsageError for what only a plan could use, and where nothing is left to make or to compare."""
        unused = [*changed(self.profile), *changed(self.options)]
        if unused:
            named = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
            builders = "tensorrt, tensorrt-rtx" if set(unused).isdisjoint(TENSORRT_ALONE) else "tensorrt"
            raise UsageError(
                f"{named}: of plans, and --target {self.target} makes none; give --target {builders} or auto, "
                "or leave it out"
            )
        if self.target is Target.TRITON and not self.precision.on_cpu:
            raise UsageError(
                f"--precision {self.precision}: Triton runs the ONNX file on onnxruntime, which cannot compute in it; "
                "give fp32, fp16 or int8, or build a plan (--target tensorrt) and serve that"
            )
        if not self.from_graph or self.precision is not Precision.FP32:
            return
        if self.target is Target.ONNX:
            raise UsageError(f"{self.source} is float32 ONNX already: add --precision, or choose another --target")
        if self.recordings:
            raise UsageError(
                f"--verify has nothing to compare: {self.source} was verified when it was made, and --target "
                f"{self.target} computes nothing: add --precision, give the checkpoint, or leave it out"
            )

    @property
    def _name(self) -> str:
        stem = self.source.stem
        if self.precision is Precision.FP32:
            return stem
        return f"{stem}.{self.precision}-states" if self.states is StatePrecision.FP16 else f"{stem}.{self.precision}"


def planned(request: Request) -> list[str]:
    """What `export_model` will do, a line per stage."""
    lines = []
    if request.from_graph:
        lines.append(f"load     {request.source}, a float32 graph that was verified when it was made")
    else:
        lines += [
            f"load     {request.source}",
            f"to_onnx  the float32 graph, opset {onnx_export.OPSET}, weights inside",
            "check    ONNX's checker, types and shapes of every node",
            f"verify   against PyTorch, on onnxruntime -> {request.float32}",
        ]
    if request.precision is not Precision.FP32:
        states = ", states, too" if request.states is StatePrecision.FP16 else ""
        lines += [
            f"reduce   to {request.precision.manifest_name}{states}",
            "check    ONNX's checker, types and shapes of every node",
            f"verify   against the float32 graph, on {request.precision.computed_by} -> {request.graph}",
        ]
    if request.target is Target.AUTO:
        lines.append("build    a plan, where TensorRT can build one for a GPU of this machine")
    elif request.target in FLAVOURS:
        lines.append(f"build    a plan with {FLAVOURS[request.target].product} -> {request.plan(request.target)}")
    elif request.target is Target.TRITON:
        lines.append(f"write    a model repository for Triton -> {request.repository}")
    return lines
