"""What a graph itself says: its operators, the element type of its products, its arithmetic. Nothing is run.

Facts come from a walk over the nodes in their order. ONNX's own rules give types and shapes, one node at a time; the
small integers that sizes are computed from are worked out on the way, which ONNX's inference of whole graphs gives up
on. Graphs are taken to have passed ONNX's checker (sorted, no circles). Only the main graph is looked at: an export has
no subgraphs. External data is never read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import prod

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto
from onnx.reference import ReferenceEvaluator

from ..runtime.manifest import Manifest

__all__ = ["GFLOP_TOKENS", "element_type", "gflop_per_second", "operators", "products_by_type"]

GFLOP_TOKENS = 50  # tokens in the call that arithmetic is counted for: one second of the shipped presets
PRODUCTS = ("MatMul", "MatMulInteger", "Gemm", "Conv")
# Between a DequantizeLinear and its product, engines move these out of the way: the product stays quantised.
_RESHAPING = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
# What sizes and positions are computed with; other nodes are never evaluated, whatever file they come from.
_SIZE_OPERATORS = {"Add", "Cast", "Concat", "Div", "Gather", "Identity", "Max", "Min", "Mod", "Mul", "Neg", "Reshape"}
_SIZE_OPERATORS |= {"Size", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where"}
_SIZE_ELEMENTS = 64  # the largest tensor that still is taken for sizes
_EVALUATION_ERRORS = (ValueError, TypeError, KeyError, IndexError, RuntimeError, ArithmeticError)
# In the manifest's words: the formats of eight bits are one precision each.
_NAMES = {"float": "float32", "double": "float64", "uint8": "int8"}
# A product of two types is computed in the one further left.
_WIDEST_FIRST = ("float64", "float32", "bfloat16", "float16", "float8", "int8")


def operators(proto: ModelProto) -> dict[str, int]:
    """Number of nodes by operator, the most frequent first; operators of other domains as `domain.operator`."""
    names = Counter(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in proto.graph.node)
    return dict(sorted(names.items(), key=lambda item: (-item[1], item[0])))


def products_by_type(proto: ModelProto) -> dict[str, dict[str, int]]:
    """Number of products by element type, then by operator: `{"float16": {"MatMul": 40}, "float32": {"MatMul": 10}}`.

    The type is that of the inputs, in the words of the manifest's `precision`. An input that comes out of a
    DequantizeLinear counts as the quantised type of that node; with one quantised and one plain input, the product is
    computed in the plain one's type (weights stored in fewer bits do not make a quantised product). "unknown" where
    the graph does not say.
    """
    makers = {output: node for node in proto.graph.node for output in node.output}
    known = _Known(proto)
    for _ in known.walk():
        pass
    counts: dict[str, Counter[str]] = {}
    for node in _products(proto.graph.node):
        found = [_factor_type(name, known, makers) for name in node.input[:2]]
        counts.setdefault(_widest(found), Counter())[node.op_type] += 1
    return {kind: dict(counts[kind]) for kind in sorted(counts)}


def gflop_per_second(proto: ModelProto, manifest: Manifest) -> float:
    """GFLOP for one second of audio, batch 1, in calls of 50 tokens; a multiply-add is 2 FLOP, only products count.

    Raises ValueError where the shapes of a product do not follow from those of the inputs.
    """
    sized = _with_input_sizes(proto, manifest)
    known = _Known(sized)
    flop = sum(_flop(node, known) for node in _products(known.walk()))
    return flop / (GFLOP_TOKENS * manifest.token_s) / 1e9


def element_type(code: int) -> str:
    """Name of an ONNX element type in the words of the manifest's `precision`: "float32", "int8", "float8" ..."""
    try:
        name = TensorProto.DataType.Name(code).lower()
    except ValueError:  # a file may hold any number here
        return "unknown"
    if code == TensorProto.UNDEFINED:
        return "unknown"
    return "float8" if name.startswith("float8") else _NAMES.get(name, name)


class _Known:
    """Types, shapes and small integer values of a graph's tensors, as far as a walk over it has come."""

    def __init__(self, proto: ModelProto) -> None:
        self._proto = proto
        self._opsets = {entry.domain: entry.version for entry in proto.opset_import}
        self.types: dict[str, TypeProto] = {}
        self.sizes: dict[str, np.ndarray] = {}
        for value in proto.graph.input:
            self.types[value.name] = value.type
        for tensor in proto.graph.initializer:
            self.types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            self._keep_size(tensor.name, tensor)

    def walk(self) -> Iterator[NodeProto]:
        """Every node, its outputs known by then as far as they can be."""
        for node in self._proto.graph.node:
            self._infer(node)
            self._evaluate(node)
            yield node

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape, None where a size is missing."""
        tensor = self.types[name].tensor_type if name in self.types else None
        if tensor is None or not tensor.HasField("shape"):
            return None
        sizes = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim)
        return None if any(size < 0 for size in sizes) else sizes

    def element_type(self, name: str) -> str:
        """The element type, "unknown" where it is."""
        return element_type(self.types[name].tensor_type.elem_type) if name in self.types else "unknown"

    def _infer(self, node: NodeProto) -> None:
        """Types of the node's outputs by ONNX's own rule for it."""
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get(node.domain, 1), node.domain)
            types = onnx.shape_inference.infer_node_outputs(
                schema,
                node,
                {name: self.types[name] for name in node.input if name in self.types},
                {name: _as_tensor(name, self.sizes[name]) for name in node.input if name in self.sizes},
                opset_imports=list(self._proto.opset_import),
                ir_version=self._proto.ir_version,
            )
        except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, *_EVALUATION_ERRORS):
            return  # an operator that ONNX does not know, or one that is used wrongly: its outputs stay unknown
        self.types.update(types)

    def _evaluate(self, node: NodeProto) -> None:
        """The node's output, where it is a few integers computed from known ones."""
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    self._keep_size(node.output[0], attribute.t)
        elif node.op_type == "Shape":
            self._measure(node)
        elif node.op_type in _SIZE_OPERATORS and not node.domain and self._is_small(node):
            inputs = {name: self.sizes[name] for name in node.input if name}
            try:
                with np.errstate(all="ignore"):
                    value = _run(node, inputs, self._proto)
            except _EVALUATION_ERRORS:
                return
            self.sizes[node.output[0]] = value

    def _is_small(self, node: NodeProto) -> bool:
        shape = self.shape(node.output[0]) if len(node.output) == 1 else None
        given = all(name in self.sizes for name in node.input if name)
        return given and shape is not None and prod(shape) <= _SIZE_ELEMENTS

    def _measure(self, node: NodeProto) -> None:
        """The value of a Shape node."""
        shape = self.shape(node.input[0])
        if shape is not None:
            bounds = {attribute.name: attribute.i for attribute in node.attribute}
            self.sizes[node.output[0]] = np.array(shape[bounds.get("start", 0) : bounds.get("end")], np.int64)

    def _keep_size(self, name: str, tensor: TensorProto) -> None:
        """Remember a constant if it is a few numbers that lie in the file itself."""
        inside = tensor.data_location != TensorProto.EXTERNAL
        if inside and all(size >= 0 for size in tensor.dims) and prod(tensor.dims) <= _SIZE_ELEMENTS:
            try:
                self.sizes[name] = onnx.numpy_helper.to_array(tensor)
            except _EVALUATION_ERRORS:
                return  # fewer numbers than its shape says


def _run(node: NodeProto, inputs: dict[str, np.ndarray], proto: ModelProto) -> np.ndarray:
    """The one output of a node, by ONNX's reference evaluator."""
    values = [onnx.helper.make_tensor_value_info(name, _code(value), value.shape) for name, value in inputs.items()]
    outputs = [onnx.helper.make_empty_tensor_value_info(node.output[0])]
    graph = onnx.helper.make_graph([node], "one", values, outputs)
    model = onnx.helper.make_model(graph, opset_imports=list(proto.opset_import))
    (value,) = ReferenceEvaluator(model).run(None, inputs)
    return np.asarray(value)


def _as_tensor(name: str, value: np.ndarray) -> TensorProto:
    return onnx.numpy_helper.from_array(value, name)


def _code(value: np.ndarray) -> int:
    return onnx.helper.np_dtype_to_tensor_dtype(value.dtype)


def _products(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    return (node for node in nodes if node.op_type in PRODUCTS and not node.domain and len(node.input) >= 2)


def _factor_type(name: str, known: _Known, makers: dict[str, NodeProto]) -> str:
    """Element type of a product's input; that before the DequantizeLinear where it comes out of one."""
    source = name
    while source in makers and makers[source].op_type in _RESHAPING:
        source = makers[source].input[0]
    if source in makers and makers[source].op_type == "DequantizeLinear":
        return known.element_type(makers[source].input[0])
    return known.element_type(name)


def _widest(types: Sequence[str]) -> str:
    return next((kind for kind in _WIDEST_FIRST if kind in types), types[0]) if "unknown" not in types else "unknown"


def _flop(node: NodeProto, known: _Known) -> int:
    """FLOP of one product. Raises ValueError where a shape is unknown."""
    left, right, out = (known.shape(name) for name in (*node.input[:2], node.output[0]))
    if left is None or right is None or out is None:
        raise ValueError(f"the shapes of {node.op_type} '{node.name}' do not follow from those of the inputs")
    return 2 * prod(out) * _terms(node, left, right)


def _terms(node: NodeProto, left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Number of products that are added up for one output value."""
    if node.op_type == "Conv":
        return prod(right[1:])  # weights are [out, in / groups, *kernel]
    if node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute):
        return left[0]
    return left[-1]


def _with_input_sizes(proto: ModelProto, manifest: Manifest) -> ModelProto:
    """`proto` with inputs for one stream and one call of GFLOP_TOKENS tokens."""
    sizes: dict[str, tuple[int, ...]] = {
        "audio": (1, GFLOP_TOKENS * manifest.samples_per_token),
        "delay": (1, 1),
        **{name: (1, *shape) for name, shape in manifest.states.items()},
    }
    sized = ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    sized.graph.CopyFrom(GraphProto(node=proto.graph.node, initializer=proto.graph.initializer))
    for value in proto.graph.input:
        shape = sizes.get(value.name)
        code = value.type.tensor_type.elem_type
        sized.graph.input.append(onnx.helper.make_tensor_value_info(value.name, code, shape))
    return sized
