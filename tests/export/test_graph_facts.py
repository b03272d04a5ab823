"""Facts counted from graphs: element types of products, arithmetic, operators."""

from __future__ import annotations

from pathlib import Path

import click_model
import numpy as np
import onnx
import pytest
from exporting import exported_gflop
from onnx import TensorProto, helper, numpy_helper

from ghostnote.export.graph_facts import element_type, gflop_per_second, operators, products_by_type
from ghostnote.models.checkpoint import Checkpoint


def graph(*nodes: onnx.NodeProto, **constants: onnx.TensorProto | np.ndarray) -> onnx.ModelProto:
    """A graph from x [b, 4] float32 to y [b, 4] with these nodes; constants by name."""
    tensors = []
    for name, value in constants.items():
        tensor = numpy_helper.from_array(value) if isinstance(value, np.ndarray | np.generic) else value
        tensor.name = name
        tensors.append(tensor)
    info = helper.make_tensor_value_info
    parts = helper.make_graph(
        list(nodes), "g", [info("x", TensorProto.FLOAT, ["b", 4])], [info("y", TensorProto.FLOAT, ["b", 4])], tensors
    )
    return helper.make_model(parts, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def product(left: str, right: str, kind: str = "MatMul") -> onnx.NodeProto:
    return helper.make_node(kind, [left, right], ["y"])


def quantised(code: int, *, input_too: bool) -> onnx.ModelProto:
    """x times a transposed weight that is stored in type `code`; with Q and DQ around x if `input_too`."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "scale", "zero"], ["x_dq"]),
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["w_dq"]),
        helper.make_node("Transpose", ["w_dq"], ["w_t"], perm=[1, 0]),
        product("x_dq" if input_too else "x", "w_t"),
    ]
    w, zero = helper.make_tensor("w", code, [4, 4], [0] * 16), helper.make_tensor("zero", code, [], [0])
    return graph(*nodes, w=w, zero=zero, scale=np.float32(1))


@pytest.mark.parametrize(
    ("code", "kind"),
    [(TensorProto.INT8, "int8"), (TensorProto.UINT8, "int8"), (TensorProto.FLOAT8E4M3FN, "float8")],
)
def test_a_quantised_product_has_two_quantised_inputs(code: int, kind: str) -> None:
    assert products_by_type(quantised(code, input_too=True)) == {kind: {"MatMul": 1}}
    assert products_by_type(quantised(code, input_too=False)) == {"float32": {"MatMul": 1}}


def test_a_half_graph_that_is_float_inside_is_seen() -> None:
    """The complaint that this is for: a file called fp16 whose products are float32."""
    half = helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16)
    mul = helper.make_node("MatMul", ["h", "w"], ["p"])
    back = helper.make_node("Cast", ["p"], ["f"], to=TensorProto.FLOAT)
    proto = graph(half, mul, back, product("f", "v"), w=np.eye(4, dtype=np.float16), v=np.eye(4, dtype=np.float32))
    assert products_by_type(proto) == {"float16": {"MatMul": 1}, "float32": {"MatMul": 1}}


def test_an_operator_of_another_domain_leaves_its_output_unknown() -> None:
    strange = helper.make_node("Strange", ["x"], ["s"], domain="elsewhere")
    proto = graph(product("x", "w"), w=np.eye(4, dtype=np.float32))
    proto.graph.node.insert(0, strange)
    proto.graph.node[1].input[0] = "s"
    assert products_by_type(proto) == {"unknown": {"MatMul": 1}}
    assert operators(proto) == {"MatMul": 1, "elsewhere.Strange": 1}
    with pytest.raises(ValueError, match="do not follow"):
        gflop_per_second(proto, click_model.make_manifest())


def test_an_export_computes_what_the_checkpoint_does(tiny_onnx: Path, tiny: Checkpoint) -> None:
    proto = onnx.load(tiny_onnx)
    total = exported_gflop(tiny)
    # The convolutions of blocks, which the checkpoint does element by element, are products in the graph.
    assert total <= gflop_per_second(proto, tiny.manifest()) <= 1.02 * total
    counts = operators(proto)
    assert products_by_type(proto) == {"float32": {kind: counts[kind] for kind in ("Conv", "MatMul")}}
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


@pytest.mark.parametrize(
    ("node", "weight", "flop"),
    [
        (product("x", "w", "Gemm"), (4, 4), 2 * 4 * 4 * 7),
        (helper.make_node("Gemm", ["w", "x"], ["y"], transA=1), (7, 3), 2 * 3 * 4 * 7),
        (product("x", "w", "MatMul"), (4, 4), 2 * 4 * 4 * 7),
    ],
)
def test_flop_of_products(node: onnx.NodeProto, weight: tuple[int, int], flop: int) -> None:
    """x is [7, 4] here: its batch is no input of the contract, so it is written into the graph."""
    proto = graph(node, w=np.ones(weight, np.float32))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((7, 4), np.float32), "x"))
    del proto.graph.input[:]
    assert gflop_per_second(proto, click_model.make_manifest()) == pytest.approx(flop / 1e9)


def test_flop_of_a_convolution() -> None:
    conv = helper.make_node("Conv", ["image", "w"], ["c"], group=2)
    proto = graph(conv, image=np.ones((1, 4, 12), np.float32), w=np.ones((6, 2, 3), np.float32))
    assert gflop_per_second(proto, click_model.make_manifest()) == pytest.approx(2 * 6 * 10 * 2 * 3 / 1e9)


def test_numbers_outside_the_file_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.bin").write_bytes(np.array([4, 4]).tobytes())
    proto = graph(helper.make_node("Reshape", ["x", "shape"], ["r"]), product("r", "w"), w=np.eye(4, dtype=np.float32))
    shape = TensorProto(name="shape", data_type=TensorProto.INT64, dims=[2], data_location=TensorProto.EXTERNAL)
    shape.external_data.add(key="location", value="weights.bin")
    proto.graph.initializer.append(shape)
    with pytest.raises(ValueError, match="do not follow"):
        gflop_per_second(proto, click_model.make_manifest())


def test_names_of_element_types() -> None:
    codes = (TensorProto.FLOAT, TensorProto.BFLOAT16, TensorProto.FLOAT8E5M2, TensorProto.INT8, 0, 12345)
    assert [element_type(code) for code in codes] == ["float32", "bfloat16", "float8", "int8", "unknown", "unknown"]
