"""Reduced precision, written into the graph: `retype` for float16 and bfloat16, `quantise` for int8 and float8.

Inputs, outputs and states stay float32, so that every variant is called like the float32 graph, unless `retype` is told
that states become float16, too. What computes in float32 inside is said by `Island`; docs/export.md has the measurement
behind each.
Letters: B streams, F frames, C classes, K inputs and N outputs of a product.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["FORMATS", "ISLANDS", "Format", "Island", "copied", "quantise", "retype", "weight_products"]


class Island(StrEnum):
    """A part of the graph that stays float32 when the rest is retyped."""

    FRONT_END = "front-end"  # from the waveform to the logarithms of band powers and their rise: 90 dB of range
    ENCODERS = "encoders"  # what reads those logarithms, before anything is normalised
    NORMS = "norms"  # sums of squares, which overflow float16
    SOFTMAX = "softmax"  # with the sums over heads' channels before the one of views, and what spreads it again
    RESIDUAL = "residual"  # the sums that run through all blocks, less their means, and the convolutions (ONNX has none
    # in bfloat16)
    HEAD = "head"  # the last product: neighbouring frames are compared by their logits


ISLANDS = frozenset(Island) - {Island.ENCODERS}  # of float16 and bfloat16
# Products that int8 and float8 leave alone.
UNQUANTISED = frozenset({Island.FRONT_END, Island.ENCODERS, Island.SOFTMAX, Island.HEAD})


@dataclass(frozen=True)
class Format:
    """A number format that products can be quantised to."""

    element: int  # TensorProto's name for it
    dtype: np.dtype
    largest: float  # what a tensor's peak becomes


FORMATS = {
    "int8": Format(TensorProto.INT8, np.dtype(np.int8), 127.0),
    "float8": Format(TensorProto.FLOAT8E4M3FN, np.dtype(ml_dtypes.float8_e4m3fn), 448.0),
}
_FLOATS = {
    "float16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bfloat16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}
_SINGLE = frozenset({"Range"})  # ONNX has none of these in 16 bits
_RESIDUAL = ("Add", "Sub", "ReduceMean", "Reshape", "Transpose", "Conv", "Concat")


def retype(
    proto: onnx.ModelProto, precision: str, islands: Collection[Island] = ISLANDS, states: Collection[str] = ()
) -> onnx.ModelProto:
    """A copy of a float32 graph that computes in `precision` ("float16" or "bfloat16") outside of `islands`.

    `states` come in and go out in that type, too.
    """
    element, dtype = _FLOATS[precision]
    proto = copied(proto)
    types = _element_types(proto)
    kept = _nodes_of(proto, islands)
    outside = {*states, *(f"{name}_out" for name in states)}
    retyper = _Retyper(proto, types, element, dtype, outside)
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    for node in nodes:
        single = node.name in kept or node.op_type in _SINGLE
        retyper.place(node, TensorProto.FLOAT if single else element)
    retyper.finish()
    return _tidied(proto)


def quantise(proto: onnx.ModelProto, peaks: Mapping[str, float], precision: str) -> onnx.ModelProto:
    """A copy of a float32 graph whose products with weights are "int8" or "float8", by explicit Q/DQ pairs.

    `peaks` gives the largest magnitude to represent for the activation of every such product (calibration.py). One
    scale per activation tensor, one per output channel of the weights, no zero points: what NVIDIA's builders take.
    """
    fmt = FORMATS[precision]
    proto = copied(proto)
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    products = {node.name for node in weight_products(proto)}
    nodes, quantised = list(proto.graph.node), {}
    del proto.graph.node[:]
    for node in nodes:
        if node.name in products:
            activation, weight = node.input
            if activation not in quantised:
                quantised[activation] = _add_activation(proto, activation, peaks[activation], fmt)
            node.input[0] = quantised[activation]
            node.input[1] = _add_weight(proto, weights[weight], fmt)
        proto.graph.node.append(node)
    return _tidied(proto)


def weight_products(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The matrix products with trained weights that `quantise` changes: all but those of `UNQUANTISED`."""
    weights = {tensor.name for tensor in proto.graph.initializer if len(tensor.dims) == 2}
    kept = _nodes_of(proto, UNQUANTISED)
    return [
        node
        for node in proto.graph.node
        if node.op_type == "MatMul" and node.input[1] in weights and node.name not in kept
    ]


class _Retyper:
    """Puts nodes back into the graph one by one, with casts wherever a value is needed in another type."""

    def __init__(
        self, proto: onnx.ModelProto, types: Mapping[str, int], element: int, dtype: np.dtype, outside: Collection[str]
    ):
        """`outside`: inputs and outputs of the graph that change their type."""
        self.graph, self.element, self.dtype = proto.graph, element, dtype
        self.constants = {t.name: t for t in proto.graph.initializer if t.data_type == TensorProto.FLOAT}
        self.floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT} | set(self.constants)
        for value in (*proto.graph.input, *proto.graph.output):
            if value.name in outside:
                value.type.tensor_type.elem_type = element
        # Element types of values as they are now, and of the graph's outputs as they must be in the end.
        self.types = {value.name: _element(value) for value in proto.graph.input if value.name in self.floats}
        self.outputs = {value.name: _element(value) for value in proto.graph.output if value.name in self.floats}
        self.renamed: dict[str, str] = {}  # a graph output's name -> the value of another type that it is cast from
        self.cast: dict[tuple[str, int], str] = {}

    def place(self, node: onnx.NodeProto, element: int) -> None:
        """Append `node`, computing in `element` where it computes in floats."""
        if any(name in self.floats for name in (*node.input, *node.output)):
            for i, name in enumerate(node.input):
                if name in self.floats:
                    node.input[i] = self.as_type(name, element)
            for i, name in enumerate(node.output):
                node.output[i] = self._declare(name, element)
        self.graph.node.append(node)

    def as_type(self, name: str, element: int) -> str:
        """The name of the value in the wanted type; a cast or a converted constant is made once."""
        name = self.renamed.get(name, name)
        if name not in self.constants and self.types[name] == element:
            return name
        if name in self.constants and element == TensorProto.FLOAT:
            return name
        key = (name, element)
        if key not in self.cast:
            self.cast[key] = self._converted(name, element)
        return self.cast[key]

    def finish(self) -> None:
        """Cast the graph's outputs to the types that they must have, under their own names."""
        for name, typed in self.renamed.items():
            cast = helper.make_node("Cast", [typed], [name], name=f"cast_{name}", to=self.outputs[name])
            self.graph.node.append(cast)

    def _declare(self, name: str, element: int) -> str:
        if self.outputs.get(name, element) != element:
            self.renamed[name] = name = f"{name}_{_suffix(element)}"
        self.types[name] = element
        return name

    def _converted(self, name: str, element: int) -> str:
        typed = f"{name}_{_suffix(element)}"
        if name in self.constants:
            values = numpy_helper.to_array(self.constants[name]).astype(self.dtype)
            self.graph.initializer.append(_tensor(values, typed, element))
        else:
            self.graph.node.append(helper.make_node("Cast", [name], [typed], name=f"cast_{typed}", to=element))
        return typed


def _nodes_of(proto: onnx.ModelProto, islands: Collection[Island]) -> set[str]:
    """Names of the nodes that belong to the islands."""
    producers = {name: node for node in proto.graph.node for name in node.output}
    norms = _norms(proto)
    found: set[str] = set()
    if Island.FRONT_END in islands:
        found |= _front_end(proto, producers)
    if Island.ENCODERS in islands:
        found |= _encoders(norms, producers)
    if Island.HEAD in islands:
        found |= _head(proto, norms, producers)
    if Island.RESIDUAL in islands:
        found |= _residual(norms, producers)
    if Island.NORMS in islands:
        found |= _names(norms)
    if Island.SOFTMAX in islands:
        found |= {node.name for node in proto.graph.node if node.op_type == "Softmax" or _module(node) == "softmax"}
    return found


def _module(node: onnx.NodeProto) -> str:
    """The last part of the name of the module that a node was exported from."""
    return node.name.rpartition("/")[0].rpartition(".")[2]


def _norms(proto: onnx.ModelProto) -> list[list[onnx.NodeProto]]:
    """The nodes of each normalisation: those of one module whose name ends in `norm`, or one LayerNormalization."""
    norms: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        module, _, _ = node.name.rpartition("/")
        if module.endswith("norm"):
            norms.setdefault(module, []).append(node)
        elif node.op_type == "LayerNormalization":  # in graphs that were exported before they were folded
            norms[node.name] = [node]
    return list(norms.values())


def _front_end(proto: onnx.ModelProto, producers: Mapping[str, onnx.NodeProto]) -> set[str]:
    """All that leads to a logarithm, and what else belongs to the module that takes it."""
    logs = [node for node in proto.graph.node if node.op_type == "Log"]
    views = {node.name.rpartition("/")[0] for node in logs} - {""}
    inside = {node.name for node in proto.graph.node if node.name.rpartition("/")[0] in views}
    return inside | _ancestors((name for node in logs for name in node.output), producers)


def _encoders(norms: Sequence[Sequence[onnx.NodeProto]], producers: Mapping[str, onnx.NodeProto]) -> set[str]:
    """All that lies before the first normalisations (the front-end, too)."""
    names = _names(norms)
    before = (_ancestors(_inputs(norm), producers) for norm in norms)
    return set().union(*(found for found in before if names.isdisjoint(found)))


def _head(
    proto: onnx.ModelProto, norms: Sequence[Sequence[onnx.NodeProto]], producers: Mapping[str, onnx.NodeProto]
) -> set[str]:
    """From the last normalisation to the heads: what lies between a head and the first normalisation before it."""
    states = {value.name for value in proto.graph.output if value.name.startswith("state_")}
    heads = [value.name for value in proto.graph.output if value.name not in states]
    return _ancestors(heads, producers, until=_names(norms))


def _residual(norms: Sequence[Sequence[onnx.NodeProto]], producers: Mapping[str, onnx.NodeProto]) -> set[str]:
    """The sums between one normalisation and the next, with the convolution that lies there, and no matrix product."""
    found: set[str] = set()
    for norm in norms:
        waiting = _inputs(norm)
        while waiting:
            node = producers.get(waiting.pop())
            if node is not None and node.op_type in _RESIDUAL and node.name not in found:
                found.add(node.name)
                waiting += node.input
    return found - _names(norms)


def _names(norms: Iterable[Iterable[onnx.NodeProto]]) -> set[str]:
    return {node.name for norm in norms for node in norm}


def _inputs(norm: Sequence[onnx.NodeProto]) -> list[str]:
    """What the nodes of a normalisation read that none of them made."""
    made = {name for node in norm for name in node.output}
    return [name for node in norm for name in node.input if name not in made]


def _ancestors(names: Iterable[str], producers: Mapping[str, onnx.NodeProto], until: Collection[str] = ()) -> set[str]:
    """Names of the nodes that values come from, without going past those in `until`."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.name not in found and node.name not in until:
            found.add(node.name)
            waiting += node.input
    return found


def _add_activation(proto: onnx.ModelProto, name: str, peak: float, fmt: Format) -> str:
    """A quantised and dequantised copy of an activation; its name."""
    scale, zero = f"{name}_scale", f"{name}_zero"
    step = np.float32(max(peak, 1e-6) / fmt.largest)
    proto.graph.initializer.append(numpy_helper.from_array(np.asarray(step), scale))
    proto.graph.initializer.append(_tensor(np.zeros((), fmt.dtype), zero, fmt.element))
    proto.graph.node.append(
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"], name=f"quantise_{name}")
    )
    proto.graph.node.append(
        helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_dq"], name=f"dequantise_{name}")
    )
    return f"{name}_dq"


def _add_weight(proto: onnx.ModelProto, tensor: TensorProto, fmt: Format) -> str:
    """Weights [K, N] as quantised constants with a scale per column, and their dequantised name."""
    name = tensor.name
    values = numpy_helper.to_array(tensor)
    scales = (np.maximum(np.abs(values).max(axis=0), 1e-8) / fmt.largest).astype(np.float32)
    steps = np.clip(values / scales, -fmt.largest, fmt.largest)
    stored = (np.rint(steps) if fmt.element == TensorProto.INT8 else steps).astype(fmt.dtype)
    proto.graph.initializer.append(_tensor(stored, f"{name}_q", fmt.element))
    proto.graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
    proto.graph.initializer.append(_tensor(np.zeros(len(scales), fmt.dtype), f"{name}_zero", fmt.element))
    inputs = [f"{name}_q", f"{name}_scale", f"{name}_zero"]
    proto.graph.node.append(
        helper.make_node("DequantizeLinear", inputs, [f"{name}_dq"], name=f"dequantise_{name}", axis=1)
    )
    return f"{name}_dq"


def _tensor(values: np.ndarray, name: str, element: int) -> TensorProto:
    """A constant of any element type, stored as its bytes."""
    return helper.make_tensor(name, element, values.shape, values.tobytes(), raw=True)


def _element(value: onnx.ValueInfoProto) -> int:
    """Element type of an input or output."""
    return value.type.tensor_type.elem_type


def _suffix(element: int) -> str:
    return TensorProto.DataType.Name(element).lower()


def _element_types(proto: onnx.ModelProto) -> dict[str, int]:
    """Element type of every value in the graph."""
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    values = [*inferred.input, *inferred.value_info, *inferred.output]
    return {value.name: value.type.tensor_type.elem_type for value in values}


def copied(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A graph of its own."""
    twin = onnx.ModelProto()
    twin.CopyFrom(proto)
    return twin


def _tidied(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Without constants that nothing reads any more."""
    used = {name for node in proto.graph.node for name in node.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto
