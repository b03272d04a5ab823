"""A model's ONNX graph: made, given its manifest, checked, and read back.

The graph is `DrumTransformer.step`, folded (folding.py), with batch and tokens dynamic; names and shapes are the
streaming contract of docs/architecture.md. The same checkpoint gives the same bytes: nothing of the machine or the time
enters the file.
"""

from __future__ import annotations

import logging
import warnings
from ast import literal_eval
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.engines.protocol import HEADS
from ..runtime.errors import EngineError, InputError
from ..runtime.manifest import METADATA_KEY, Manifest
from .choices import LARGEST_AXIS
from .errors import CheckError

if TYPE_CHECKING:
    import onnx
    from google.protobuf.message import Message

    from ..models.transformer import DrumTransformer

__all__ = ["OPSET", "attach_manifest", "check_graph", "graph_of", "manifest_of", "read_graph"]

SCOPES = "pkg.torch.onnx.name_scopes"  # the exporter's note on a node: modules from the outermost on, then the node
_SCOPES_OF_NO_MODULE = ("", "_empty_nn_module_stack_from_metadata_hook")
OPSET = 20  # read by onnxruntime and TensorRT alike; from 23 on attention becomes a node that TensorRT-RTX refuses


def graph_of(model: DrumTransformer) -> onnx.ModelProto:
    """The ONNX graph of `model.step`: dynamic batch and tokens, weights inside, nothing of the machine that made it."""
    import torch

    from ..models.transformer import state_shapes
    from .folding import folded

    c, states = model.config, model.zero_state(2)
    names = tuple(state_shapes(model.config))
    example = (torch.zeros(2, 3 * c.samples_per_token), torch.zeros(2, 1, dtype=torch.int64), *states)
    batch, tokens = (torch.export.Dim(name, min=1, max=LARGEST_AXIS) for name in ("batch", "tokens"))
    with _quiet():
        program = torch.onnx.export(
            folded(model),
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
    _name_nodes(proto)
    _strip(proto)
    _name_frames(proto, f"{c.frames_per_token}*tokens")
    return proto


def attach_manifest(proto: onnx.ModelProto, manifest: Manifest) -> None:
    """Store the manifest in the file's metadata, in place of one that is there."""
    import onnx

    others = {entry.key: entry.value for entry in proto.metadata_props if entry.key != METADATA_KEY}
    onnx.helper.set_model_props(proto, others | {METADATA_KEY: manifest.to_json()})


def check_graph(proto: onnx.ModelProto) -> None:
    """ONNX's own checker, with shape inference of every node. Raises CheckError."""
    import onnx

    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CheckError(f"the ONNX checker refuses the graph: {' '.join(str(error).split())[:400]}") from error


def read_graph(path: Path) -> tuple[onnx.ModelProto, Manifest]:
    """A graph that ghostnote exported, and its manifest. Raises EngineError for any other file.

    Nothing outside of the file is read: one that keeps its weights elsewhere is refused.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (DecodeError, ValueError) as error:
        raise EngineError(f"{path}: not an ONNX file, or cut off ({error}); export the model again") from error
    try:
        manifest = manifest_of(proto)
    except EngineError as error:
        raise type(error)(f"{path}: {error}") from None
    _refuse_external_data(path, proto)
    return proto, manifest


def _refuse_external_data(path: Path, proto: onnx.ModelProto) -> None:
    """Weights in other files are never opened: an export holds its own, and the name may lead anywhere."""
    import onnx

    for tensor in _messages(proto, onnx.TensorProto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "?")
            raise EngineError(
                f"{path}: its weights lie in another file ({location!r}), which is not opened; "
                "export it again, or save it with its weights inside"
            )


def _messages(message: Message, kind: type[Message]) -> Iterator[Any]:
    """All parts of a protobuf message that are of one kind, however deep: graphs may hide in attributes."""
    if isinstance(message, kind):
        yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for part in value if isinstance(value, Iterable) else (value,):
                yield from _messages(part, kind)


def manifest_of(proto: onnx.ModelProto) -> Manifest:
    """The manifest in a graph's metadata. Raises EngineError where there is none, ManifestError for a wrong one."""
    text = next((entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY), None)
    if text is None:
        raise EngineError(f"not a ghostnote model (no '{METADATA_KEY}' metadata); make one with export-model")
    return Manifest.from_json(text)


def _name_nodes(proto: onnx.ModelProto) -> None:
    """Put the module that a node comes from before its name (`blocks.0.feed_norm/node_sqrt_4`): see precision.py."""
    for node in proto.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
        module = [*literal_eval(scopes)][-2:-1]
        if module and module[0] in _SCOPES_OF_NO_MODULE:
            module = []
        node.name = "/".join([*module, node.name])


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
