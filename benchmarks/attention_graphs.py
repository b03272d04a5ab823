"""Attention written in four ways, and what TensorRT for RTX makes of each; no GPU is needed, so nothing is run.

    python -m ghostnote.benchmarks.attention_graphs

The graphs are the attention of `narrow`: layers of normalisation, query-key-value product, attention over a window of W
cached tokens and the call, output product, residual sum. Keys and values are cached by concatenating and slicing (as in
our graph) or are written into a cache in place (TensorScatter, opset 24); attention is written out or one `Attention`
node. Letters: B streams, T tokens, H heads, D width, N = W + T positions (in place: W + the largest T).
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..export.tensorrt_builder import collector, load_flavour
from ..runtime.engines.cuda_driver import probe_driver
from ..runtime.engines.flavours import FLAVOURS
from ..runtime.errors import GhostnoteError

LAYERS, HEADS, WIDTH, WINDOW = 4, 3, 96, 64
BATCH, TOKENS = (1, 1, 32), (1, 1, 50)
OPSET = 24
ELEMENTS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
RTX = FLAVOURS["tensorrt-rtx"]


class Graph:
    """A graph that grows node by node; `add` gives the name of what a node makes."""

    def __init__(self, element: int) -> None:
        self.element = element
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def add(self, kind: str, *inputs: str, count: int = 1, **attributes: Any) -> Any:
        made = [f"{kind}_{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, made, f"{kind}_{len(self.nodes)}", **attributes))
        return made[0] if count == 1 else made

    def weights(self, *shape: int) -> str:
        values = np.random.default_rng(len(self.constants)).standard_normal(shape) * 0.1
        dtype = helper.tensor_dtype_to_np_dtype(self.element)
        return self.constant(values.astype(dtype))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def constant(self, values: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def takes(self, name: str, axes: list[str | int], element: int | None = None) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, element or self.element, axes))
        return name

    def gives(self, made: str, name: str, axes: list[str | int]) -> None:
        # Renamed, not copied: what is written in place must be an output itself.
        for node in self.nodes:
            node.input[:] = [name if given == made else given for given in node.input]
            node.output[:] = [name if given == made else given for given in node.output]
        self.outputs.append(helper.make_tensor_value_info(name, self.element, axes))

    def finish(self) -> bytes:
        graph = helper.make_graph(self.nodes, "attention", self.inputs, self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


def attention_graph(element: int, *, in_place: bool, fused: bool) -> bytes:
    """The serialised graph of one variant."""
    g = Graph(element)
    positions: str | int = WINDOW + TOKENS[2] if in_place else f"{WINDOW}+tokens"
    cached = WINDOW + TOKENS[2] if in_place else WINDOW
    x = g.takes("x", ["batch", "tokens", WIDTH])
    mask = g.takes("mask", ["batch", HEADS, "tokens", positions])
    where = g.takes("where", ["batch"], TensorProto.INT64) if in_place else ""
    for layer in range(LAYERS):
        past = [g.takes(f"{kind}_{layer}", ["batch", HEADS, cached, WIDTH // HEADS]) for kind in ("keys", "values")]
        x, caches = attention_layer(g, x, mask, where, past, fused=fused)
        for kind, cache in zip(("keys", "values"), caches, strict=True):
            g.gives(cache, f"{kind}_{layer}_out", ["batch", HEADS, cached, WIDTH // HEADS])
    g.gives(x, "y", ["batch", "tokens", WIDTH])
    return g.finish()


def attention_layer(g: Graph, x: str, mask: str, where: str, past: list[str], *, fused: bool) -> tuple[str, list[str]]:
    """One pre-norm residual layer: what it gives on, and the new caches of keys and values."""
    normed = g.add("LayerNormalization", x, g.weights(WIDTH), g.weights(WIDTH), axis=-1)
    mixed = g.add("MatMul", normed, g.weights(WIDTH, 3 * WIDTH))
    parts = g.add("Split", mixed, count=3, axis=2, num_outputs=3)
    shape = g.integers(0, 0, HEADS, WIDTH // HEADS)
    query, *new = [g.add("Transpose", g.add("Reshape", part, shape), perm=[0, 2, 1, 3]) for part in parts]
    if where:
        seen = [g.add("TensorScatter", old, part, where, axis=2) for old, part in zip(past, new, strict=True)]
        caches = seen
    else:
        seen = [g.add("Concat", old, part, axis=2) for old, part in zip(past, new, strict=True)]
        last, end, axis = g.integers(-WINDOW), g.integers(2**31), g.integers(2)
        caches = [g.add("Slice", all_of_them, last, end, axis) for all_of_them in seen]
    attended = attend(g, query, seen, mask, fused=fused)
    flat = g.add("Reshape", g.add("Transpose", attended, perm=[0, 2, 1, 3]), g.integers(0, 0, WIDTH))
    return g.add("Add", x, g.add("MatMul", flat, g.weights(WIDTH, WIDTH))), caches


def attend(g: Graph, query: str, seen: list[str], mask: str, *, fused: bool) -> str:
    """[B, H, T, D / H] of queries over keys and values [B, H, N, D / H]."""
    keys, values = seen
    scale = (WIDTH // HEADS) ** -0.5
    if fused:
        return g.add("Attention", query, keys, values, mask, scale=scale)
    scaled = g.add("Mul", query, g.constant(np.array(scale, helper.tensor_dtype_to_np_dtype(g.element))))
    scores = g.add("Add", g.add("MatMul", scaled, g.add("Transpose", keys, perm=[0, 1, 3, 2])), mask)
    return g.add("MatMul", g.add("Softmax", scores, axis=-1), values)


def shapes_of(name: str, axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The three shapes of an input for the profile: batch first, tokens second in `x`, third in `mask`."""
    shapes = []
    for batch, tokens in zip(BATCH, TOKENS, strict=True):
        shape = [batch, *axes[1:]]
        if name == "x":
            shape[1] = tokens
        if name == "mask":
            shape[2] = tokens
            shape[3] = WINDOW + tokens if axes[3] < 0 else axes[3]
        shapes.append(tuple(shape))
    return shapes


def report(trt: Any, data: bytes, *, decomposable: bool) -> str:
    """What the builder says of a graph, as the cells of a table's row."""
    log = collector(trt, RTX)
    builder = trt.Builder(log)
    network = builder.create_network()
    parser = trt.OnnxParser(network, log)
    if not parser.parse(data):
        return f"refused by the parser: {parser.get_error(0).desc().splitlines()[0]}"
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    for layer in layers:
        if decomposable and layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # the bindings give layers as their base class
            layer.attention.decomposable = True
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    ranges = builder.create_optimization_profile()
    for tensor in map(network.get_input, range(network.num_inputs)):
        ranges.set_shape(tensor.name, *shapes_of(tensor.name, tuple(tensor.shape)))
    config.add_optimization_profile(ranges)
    begun = time.monotonic()
    plan = builder.build_serialized_network(network, config)
    seconds = time.monotonic() - begun
    if plan is None:
        return f"no plan: {log.last_errors()[:200]}"
    kinds = Counter(layer.kind for layer in log.engine_layers())
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    scratch = log.memory_bytes()["scratch"] / 1e6
    return f"{len(layers)} | {sum(kinds.values())}: {listed} | {scratch:.2f} | {plan.nbytes / 1e6:.2f} | {seconds:.1f}"


def main() -> None:
    """Print a table, a row per variant."""
    trt = load_flavour(RTX, probe_driver())
    print("| type | cache | attention | network layers | kernels | scratch MB | plan MB | build s |")
    print("|---|---|---|---|---|---|---|---|")
    for name, element in ELEMENTS.items():
        for in_place in (False, True):
            for fused in (False, True):
                data = attention_graph(element, in_place=in_place, fused=fused)
                cache, way = "in place" if in_place else "concat, slice", "one node" if fused else "written out"
                print(f"| {name} | {cache} | {way} | {report(trt, data, decomposable=False)} |", flush=True)
                if fused:
                    print(f"| {name} | {cache} | {way}, decomposable | {report(trt, data, decomposable=True)} |")


if __name__ == "__main__":
    try:
        main()
    except GhostnoteError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
