"""One checkpoint to one ONNX file: graph, manifest, checker, streaming parity, and only then the final name.

The graph is `DrumTransformer.step` with batch and tokens dynamic; names and shapes are the streaming contract of
docs/architecture.md. The same checkpoint gives the same bytes: nothing of the machine or the time enters the file.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.checkpoint import Checkpoint
from ..models.torch_engine import TorchEngine
from ..models.transformer import DrumTransformer, state_shapes
from ..runtime.engine import OnnxRuntimeEngine
from ..runtime.errors import EngineError, OutputError
from ..runtime.manifest import METADATA_KEY, Manifest
from .errors import CheckError
from .parity import HEADS, ParityReport, check_parity

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSET", "attach_manifest", "export_onnx", "graph_of"]

OPSET = 20  # read by onnxruntime and TensorRT alike; from 23 on attention becomes a node that TensorRT-RTX refuses


def export_onnx(checkpoint: Checkpoint, out: Path) -> ParityReport:
    """Write `out` if the exported graph passes the checker and streaming parity; returns the report, passed or not.

    Raises CheckError where ONNX's checker refuses the graph or it does not run, OutputError where `out` cannot be
    written (found out before the work begins).
    """
    model = checkpoint.model()
    # The file is given its name only once it is verified, so it may say so from the start.
    manifest = replace(checkpoint.manifest(), verified=True)
    with _written_aside(out) as aside:
        graph = graph_of(model)
        attach_manifest(graph, manifest)
        with _writing(out):
            aside.write_bytes(graph.SerializeToString(deterministic=True))
        _check_graph(aside)
        report = _compare(TorchEngine(model, manifest), aside)
        if report.passed:
            with _writing(out):
                aside.replace(out)
    return report


def graph_of(model: DrumTransformer) -> onnx.ModelProto:
    """The ONNX graph of `model.step`: dynamic batch and tokens, weights inside, nothing of the machine that made it."""
    import torch

    c, states = model.config, model.zero_state(2)
    names = tuple(state_shapes(model.config))
    example = (torch.zeros(2, 3 * c.samples_per_token), torch.zeros(2, 1, dtype=torch.int64), *states)
    batch, tokens = torch.export.Dim("batch", min=1, max=65536), torch.export.Dim("tokens", min=1, max=65536)
    with _quiet():
        program = torch.onnx.export(
            model.eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
            input_names=["audio", "delay", *names],
            output_names=[*HEADS, *(f"{name}_out" for name in names)],
            dynamic_shapes={
                "audio": {0: batch, 1: c.samples_per_token * tokens},
                "delay": {0: batch},
                "states": tuple({0: batch} for _ in names),
            },
        )
    if program is None:
        raise CheckError("the ONNX exporter returned nothing; is this a supported version of torch?")
    proto: onnx.ModelProto = program.model_proto
    _strip(proto)
    _name_frames(proto, f"{c.frames_per_token}*tokens")
    return proto


def attach_manifest(proto: onnx.ModelProto, manifest: Manifest) -> None:
    """Store the manifest in the file's metadata, in place of one that is there."""
    import onnx

    others = {entry.key: entry.value for entry in proto.metadata_props if entry.key != METADATA_KEY}
    onnx.helper.set_model_props(proto, others | {METADATA_KEY: manifest.to_json()})


def _check_graph(path: Path) -> None:
    """ONNX's own checker, with shape inference of every node."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CheckError(f"the ONNX checker refuses the graph: {' '.join(str(error).split())[:400]}") from error


def _compare(reference: TorchEngine, path: Path) -> ParityReport:
    """Streaming parity of an ONNX file with `reference`."""
    try:
        exported = OnnxRuntimeEngine(path)
        try:
            return check_parity(reference, exported)
        finally:
            exported.close()
    except EngineError as error:
        raise CheckError(f"the exported graph does not run: {error}") from error


@contextmanager
def _written_aside(out: Path) -> Iterator[Path]:
    """An empty file beside `out` to write to, gone at the end unless it was renamed."""
    aside = out.with_name(f".{out.name}.{os.getpid()}.partial")
    with _writing(out):
        aside.touch()
    try:
        yield aside
    finally:
        with suppress(OSError):
            aside.unlink()


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error})") from error


def _strip(proto: onnx.ModelProto) -> None:
    """Remove what tells of the exporting machine or helps nobody: stack traces, documentation, inferred shapes."""
    proto.doc_string = ""
    proto.graph.doc_string = ""
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.graph.value_info[:]
    parts = [*proto.graph.node, *proto.graph.initializer, *proto.graph.input, *proto.graph.output]
    for function in proto.functions:
        parts += [function, *function.node]
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]


def _name_frames(proto: onnx.ModelProto, name: str) -> None:
    """Give the frame axis of the heads a name that says something (the exporter numbers it)."""
    for value in proto.graph.output:
        if value.name in HEADS:
            value.type.tensor_type.shape.dim[1].dim_param = name


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes about packages that we do not use and about its own deprecations."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
