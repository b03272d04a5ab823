"""Graphs in reduced precision, as simple as can be: what NVIDIA's parser and builder have to take.

Every product with trained weights computes in the wanted type, everything else in float32. Scales are made up: no test
that uses these looks at numbers.
"""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ghostnote.export.onnx_export import attach_manifest
from ghostnote.runtime.manifest import METADATA_KEY, Manifest

_ELEMENTS = {
    "float16": (TensorProto.FLOAT16, np.float16),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "int8": (TensorProto.INT8, np.int8),
    "float8": (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
}


def reduced(proto: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """`proto`, a float32 graph of ours, changed to "float16", "bfloat16", "int8" or "float8", its manifest too."""
    element, dtype = _ELEMENTS[precision]
    change = _retype if precision in ("float16", "bfloat16") else _quantise
    weights = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer if len(t.dims) == 2}
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    for node in nodes:
        if node.op_type == "MatMul" and node.input[1] in weights:
            change(proto.graph, node, weights[node.input[1]], element, np.dtype(dtype))
        else:
            proto.graph.node.append(node)
    (text,) = (entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY)
    attach_manifest(proto, replace(Manifest.from_json(text), precision=precision))
    return proto


def _retype(graph: onnx.GraphProto, node: onnx.NodeProto, weight: np.ndarray, element: int, dtype: np.dtype) -> None:
    activation, name = node.input[0], node.name
    _constant(graph, f"{name}_weight", weight.astype(dtype), element)
    graph.node.extend(
        [
            helper.make_node("Cast", [activation], [f"{name}_in"], f"{name}_cast_in", to=element),
            helper.make_node("MatMul", [f"{name}_in", f"{name}_weight"], [f"{name}_out"], name),
            helper.make_node("Cast", [f"{name}_out"], [node.output[0]], f"{name}_cast_out", to=TensorProto.FLOAT),
        ]
    )


def _quantise(graph: onnx.GraphProto, node: onnx.NodeProto, weight: np.ndarray, element: int, dtype: np.dtype) -> None:
    """Explicit Q/DQ: one scale for the activation, one per column of the weights."""
    activation, name = node.input[0], node.name
    steps = np.maximum(np.abs(weight).max(axis=0), 1e-6) / 100
    _constant(graph, f"{name}_weight", (weight / steps).astype(dtype), element)
    _constant(graph, f"{name}_steps", steps.astype(np.float32), TensorProto.FLOAT)
    _constant(graph, f"{name}_zeros", np.zeros(len(steps), dtype), element)
    _constant(graph, f"{name}_step", np.float32(0.05), TensorProto.FLOAT)
    _constant(graph, f"{name}_zero", np.zeros((), dtype), element)
    scale, scales = [f"{name}_step", f"{name}_zero"], [f"{name}_steps", f"{name}_zeros"]
    graph.node.extend(
        [
            helper.make_node("QuantizeLinear", [activation, *scale], [f"{name}_q"], f"{name}_quantise"),
            helper.make_node("DequantizeLinear", [f"{name}_q", *scale], [f"{name}_dq"], f"{name}_dequantise"),
            helper.make_node(
                "DequantizeLinear", [f"{name}_weight", *scales], [f"{name}_weight_dq"], f"{name}_weights", axis=1
            ),
            helper.make_node("MatMul", [f"{name}_dq", f"{name}_weight_dq"], [node.output[0]], name),
        ]
    )


def _constant(graph: onnx.GraphProto, name: str, values: np.ndarray | np.generic, element: int) -> None:
    graph.initializer.append(helper.make_tensor(name, element, np.shape(values), values.tobytes(), raw=True))
