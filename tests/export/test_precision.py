"""Graphs in reduced precision: what stays float32, what does not, and that quantised numbers are the nearest ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from ghostnote.export.calibration import activation_peaks
from ghostnote.export.errors import MissingLibraryError
from ghostnote.export.onnx_export import manifest_of
from ghostnote.export.precision import FORMATS, ISLANDS, Island, quantise, retype, weight_products
from ghostnote.export.reference_engine import ReferenceEngine, check_evaluator


@pytest.fixture(scope="module")
def proto(tiny_onnx: Path) -> onnx.ModelProto:
    return onnx.load(tiny_onnx)


def element_types(proto: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(proto).graph
    return {v.name: v.type.tensor_type.elem_type for v in [*graph.input, *graph.value_info, *graph.output]}


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_inputs_outputs_and_states_stay_float32(proto: onnx.ModelProto, precision: str) -> None:
    reduced = retype(proto, precision)
    onnx.checker.check_model(reduced, full_check=True)
    assert list(reduced.graph.input) == list(proto.graph.input)
    assert list(reduced.graph.output) == list(proto.graph.output)


def test_islands_stay_float32(proto: onnx.ModelProto) -> None:
    reduced = retype(proto, "float16")
    types = element_types(reduced)
    kept = {node.op_type for node in reduced.graph.node if types.get(node.output[0]) == onnx.TensorProto.FLOAT}
    half = {node.op_type for node in reduced.graph.node if types.get(node.output[0]) == onnx.TensorProto.FLOAT16}
    assert {"Log", "Sqrt", "Softmax"} <= kept
    assert {"Sqrt", "ReduceMean", "Softmax", "Log"}.isdisjoint(half)
    assert {"MatMul", "Gelu", "Concat"} <= half


@pytest.mark.filterwarnings("ignore:overflow")  # constants of the front-end do not fit into float16
@pytest.mark.parametrize("island", sorted(ISLANDS))
def test_an_island_can_be_flooded(proto: onnx.ModelProto, island: Island) -> None:
    """Each island keeps some nodes that nothing else keeps, and the graph is whole without it."""
    with_it, without = retype(proto, "float16"), retype(proto, "float16", ISLANDS - {island})
    onnx.checker.check_model(without, full_check=True)
    counts = [list(element_types(graph).values()).count(onnx.TensorProto.FLOAT) for graph in (with_it, without)]
    assert counts[0] > counts[1]


def test_the_graph_that_was_given_is_not_changed(proto: onnx.ModelProto) -> None:
    before = proto.SerializeToString()
    retype(proto, "float16")
    quantise(proto, dict.fromkeys((node.input[0] for node in weight_products(proto)), 1.0), "int8")
    assert proto.SerializeToString() == before


def test_the_same_graph_gives_the_same_bytes(proto: onnx.ModelProto) -> None:
    assert retype(proto, "float16").SerializeToString() == retype(proto, "float16").SerializeToString()


@pytest.mark.parametrize("precision", sorted(FORMATS))
def test_products_are_fed_by_pairs_without_zero_points(proto: onnx.ModelProto, precision: str) -> None:
    peaks = activation_peaks(proto, manifest_of(proto))
    reduced = quantise(proto, peaks, precision)
    onnx.checker.check_model(reduced, full_check=True)
    makers = {name: node for node in reduced.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in reduced.graph.initializer}
    names = {node.name for node in weight_products(proto)}
    products = [node for node in reduced.graph.node if node.name in names]
    assert len(products) == len(names) > 5
    for product in products:
        for name in product.input:
            dequantise = makers[name]
            assert dequantise.op_type == "DequantizeLinear"
            assert not numpy_helper.to_array(constants[dequantise.input[2]]).astype(np.float32).any()
    assert all(peak > 0 for peak in peaks.values())


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(1e-3, 100))
def test_quantised_weights_are_nearest(seed: int, size: float) -> None:
    """x @ W with W [6, 5]: every weight is off by at most half a step of its column."""
    weights = (size * np.random.default_rng(seed).standard_normal((6, 5))).astype(np.float32)
    proto = product_of(weights)
    reduced = quantise(proto, {"normed": 1.0}, "int8")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in reduced.graph.initializer}
    restored = stored["w_q"].astype(np.float32) * stored["w_scale"]
    steps = np.abs(weights).max(axis=0) / 127
    assert (np.abs(restored - weights) <= steps / 2 * 1.001).all()


def product_of(weights: np.ndarray) -> onnx.ModelProto:
    """x [N, K] normalised twice, times weights [K, N]: a product that lies behind the first normalisation."""
    from onnx import TensorProto, helper

    k, n = weights.shape
    ones = numpy_helper.from_array(np.ones(k, np.float32), "ones")
    nodes = [
        helper.make_node("LayerNormalization", ["x", "ones"], ["first"], name="first_norm/node"),
        helper.make_node("LayerNormalization", ["first", "ones"], ["normed"], name="second_norm/node"),
        helper.make_node("MatMul", ["normed", "w"], ["y"], name="product"),
        helper.make_node("LayerNormalization", ["y", "after"], ["z"], name="third_norm/node"),
    ]
    after = numpy_helper.from_array(np.ones(n, np.float32), "after")
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", k), ("z", n))
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [numpy_helper.from_array(weights, "w"), ones, after])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_the_reference_evaluator_is_an_engine(proto: onnx.ModelProto, tiny_engine) -> None:
    """In float32 it says what onnxruntime says."""
    reference = ReferenceEngine(proto, manifest_of(proto))
    audio = 0.1 * np.random.default_rng(0).standard_normal((2, 3 * 882)).astype(np.float32)
    delay = np.array([[0], [3]])
    one, other = (engine.step(audio, delay, engine.zero_state(2)) for engine in (reference, tiny_engine))
    np.testing.assert_allclose(one.onset_logits, other.onset_logits, atol=1e-4)
    for name, value in one.state.items():
        np.testing.assert_allclose(value, other.state[name], atol=1e-4)
    assert "onnx.reference" in reference.describe()


def test_bfloat16_asks_for_an_onnx_whose_evaluator_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_evaluator("bfloat16")
    monkeypatch.setattr(onnx, "__version__", "1.22.1")
    check_evaluator("float16")
    with pytest.raises(MissingLibraryError, match=r"that of onnx 1\.22\.1 has no products in it; pip install"):
        check_evaluator("bfloat16")
