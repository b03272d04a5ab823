"""What a model file holds, of any kind that the project makes, without running it.

Files may come from strangers. Nothing is unpickled, no external data is opened, no plan is deserialised, and whatever
is wrong with a file ends as an error of one line: code 5 where it cannot be read, 7 where it is not a model of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.engines.sidecar import read_sidecar, sidecar_of
from ..runtime.errors import EngineError, GhostnoteError, InputError, ManifestError
from ..runtime.manifest import Manifest

if TYPE_CHECKING:
    import onnx

__all__ = ["GraphFacts", "Inspection", "Tensor", "as_json", "examine"]

# What Python and the libraries raise for contents that nobody wrote in good faith, or that were cut off.
_UNUSABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph. Sizes that are free have their name, or "?"."""

    name: str
    type: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphFacts:
    """What a graph says of itself; `products` as in `graph_facts.products_by_type`."""

    opset: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: dict[str, int]
    products: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Inspection:
    """What was found in a file; None where a file of its kind does not say."""

    file: str
    kind: str  # "onnx", "checkpoint" or "plan"
    size_bytes: int
    manifest: Manifest
    total_latencies_ms: tuple[float, ...]  # one per delay of the manifest
    parameters: int | None = None  # numbers in weights; those of an ONNX file include fixed filters and scales
    gflop_per_second: float | None = None  # of audio, in calls of 50 tokens
    graph: GraphFacts | None = None
    config: dict[str, Any] | None = None  # of a checkpoint
    build: dict[str, Any] | None = None  # of a plan: what its sidecar says of TensorRT and the build
    remarks: tuple[str, ...] = ()  # what could not be found out, and why

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"manifest": self.manifest.to_dict()}


def examine(path: Path) -> Inspection:
    """Look into a model file. Raises InputError where it cannot be read, EngineError where it is not ours."""
    readers = {".onnx": _examine_onnx, ".pt": _examine_checkpoint, ".plan": _examine_plan}
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a .onnx, a .pt or a .plan")
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a .onnx, a .pt or a .plan")
    if path.suffix.lower() not in readers:
        raise EngineError(f"{path}: not a kind of model file known here; expected a name in .onnx, .pt or .plan")
    with _refusing(path):
        return readers[path.suffix.lower()](path)


def as_json(found: Inspection) -> str:
    """One line of JSON. Raises EngineError where the file's free-form parts are nested too deeply for it."""
    with _refusing(Path(found.file)):
        return json.dumps(found.to_dict(), ensure_ascii=False)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a file is taken apart is an error of one line."""
    try:
        yield
    except GhostnoteError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _UNUSABLE as error:
        raise EngineError(f"{path}: not a usable model file ({_brief(error)}); export or train it again") from error


def _examine_onnx(path: Path) -> Inspection:
    import onnx

    from . import graph_facts
    from .onnx_export import read_graph

    proto, manifest = read_graph(path)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise EngineError(f"{path}: ONNX's checker refuses the graph ({_brief(error)}); export it again") from error
    found = _inspection(path, "onnx", manifest)
    remarks: tuple[str, ...] = ()
    gflop = None
    try:
        gflop = graph_facts.gflop_per_second(proto, manifest)
    except ValueError as error:
        remarks = (f"arithmetic unknown: {_brief(error)}",)
    facts = GraphFacts(
        opset=max((entry.version for entry in proto.opset_import if not entry.domain), default=0),
        inputs=_tensors(proto.graph.input),
        outputs=_tensors(proto.graph.output),
        operators=graph_facts.operators(proto),
        products=graph_facts.products_by_type(proto),
    )
    weights = sum(prod(t.dims) for t in proto.graph.initializer if _is_weight(t.data_type))
    return replace(found, parameters=weights, gflop_per_second=gflop, graph=facts, remarks=remarks)


def _tensors(values: Iterable[onnx.ValueInfoProto]) -> tuple[Tensor, ...]:
    from .graph_facts import element_type

    found = []
    for value in values:
        tensor = value.type.tensor_type
        axes = [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in tensor.shape.dim]
        found.append(Tensor(value.name, element_type(tensor.elem_type), tuple(axes)))
    return tuple(found)


def _is_weight(code: int) -> bool:
    """Whether a constant of this element type holds weights; int64 and bool hold sizes and positions."""
    import onnx

    return code not in (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)


def _examine_checkpoint(path: Path) -> Inspection:
    from ..models.arithmetic import gflop_per_second
    from ..models.checkpoint import load
    from ..models.config import ModelConfig

    try:
        checkpoint = load(path, kind=None)
    except InputError as error:
        raise EngineError(str(error)) from error  # the file is there and was read: it is not ours
    with _naming(path):
        manifest = checkpoint.manifest()
    checkpoint.model()  # refuses weights that do not fit the configuration
    config = checkpoint.config
    remark = f"arithmetic unknown: it is counted for streaming models, and this one is of kind {config.kind}"
    return replace(
        _inspection(path, "checkpoint", manifest),
        parameters=sum(value.numel() for value in checkpoint.weights.values()),
        gflop_per_second=gflop_per_second(config)["total"] if isinstance(config, ModelConfig) else None,
        config={"kind": config.kind} | config.to_dict(),
        remarks=() if isinstance(config, ModelConfig) else (remark,),
    )


def _examine_plan(path: Path) -> Inspection:
    """A plan says nothing about itself that may be trusted or read without its own library: the sidecar speaks."""
    with _refusing(sidecar_of(path)):
        manifest, record = read_sidecar(path)
    return replace(_inspection(path, "plan", manifest), build=record)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with its manifest."""
    try:
        yield
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def _inspection(path: Path, kind: str, manifest: Manifest) -> Inspection:
    totals = tuple(manifest.total_latency_ms(index) for index in range(len(manifest.delays_ms)))
    return Inspection(str(path), kind, path.stat().st_size, manifest, totals)


def _brief(error: BaseException) -> str:
    """An error's text in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
