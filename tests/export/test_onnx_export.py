"""The exported file: its signature, what it must not hold, and what is refused when it is read back."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from tiny import tokens_of_audio

from ghostnote.export import onnx_export, parity, pipeline
from ghostnote.models.checkpoint import Checkpoint
from ghostnote.models.torch_engine import TorchEngine
from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine
from ghostnote.runtime.errors import EngineError, InputError
from ghostnote.runtime.manifest import METADATA_KEY, Manifest


@pytest.fixture(scope="module")
def proto(tiny_onnx: Path) -> onnx.ModelProto:
    return onnx.load(tiny_onnx)


def axes(value: onnx.ValueInfoProto) -> list[int | str]:
    """Sizes and names of a graph input's or output's axes."""
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def test_names_and_shapes_are_the_contract(proto: onnx.ModelProto, tiny: Checkpoint) -> None:
    states = {name: ["batch", *shape] for name, shape in tiny.manifest().states.items()}
    heads = {name: ["batch", "2*tokens", 18] for name in ("onset_logits", "velocity", "offset")}
    assert {v.name: axes(v) for v in proto.graph.input} == {
        "audio": ["batch", "882*tokens"],
        "delay": ["batch", 1],
        **states,
    }
    assert {v.name: axes(v) for v in proto.graph.output} == heads | {f"{k}_out": v for k, v in states.items()}
    assert [v.name for v in proto.graph.output][:3] == list(heads)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 20)]


def test_nothing_of_the_exporting_machine_is_in_the_file(tiny_onnx: Path, proto: onnx.ModelProto) -> None:
    content = tiny_onnx.read_bytes()
    places = (str(Path(onnx_export.__file__).resolve().parents[1]), str(Path.home()), sys.prefix, "stack_trace", ".py")
    assert [place for place in places if place.encode() in content] == []
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    assert [entry.key for entry in proto.metadata_props] == [METADATA_KEY]


def test_weights_are_inside_the_file(proto: onnx.ModelProto) -> None:
    assert not any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer)


def test_no_operator_that_engines_lack(proto: onnx.ModelProto) -> None:
    used = {node.op_type for node in proto.graph.node}
    assert used & {"STFT", "DFT", "IsNaN", "Loop", "If", "Scan", "NonZero", "Attention"} == set()
    assert {node.domain for node in proto.graph.node} == {""}


def test_no_node_is_dead_or_could_have_been_computed_before(proto: onnx.ModelProto) -> None:
    graph = proto.graph
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    constants = {tensor.name for tensor in graph.initializer}
    assert [node.name for node in graph.node if read.isdisjoint(node.output)] == []
    assert [node.name for node in graph.node if constants.issuperset(node.input)] == []
    assert sorted(constants - read) == []
    assert "Constant" not in {node.op_type for node in graph.node}


def test_the_manifest_survives_the_trip(tiny_onnx: Path, tiny: Checkpoint) -> None:
    expected = tiny.manifest()
    metadata = onnxruntime.InferenceSession(tiny_onnx, providers=["CPUExecutionProvider"]).get_modelmeta()
    manifest = Manifest.from_json(metadata.custom_metadata_map[METADATA_KEY])
    assert manifest.verified
    assert not expected.verified
    assert manifest.weights_sha256 == tiny.weights_sha256()
    for name in ("delays_ms", "decoder", "states", "classes", "training", "samples_per_token"):
        assert getattr(manifest, name) == getattr(expected, name), name


@pytest.mark.parametrize("streams", [1, 2, 3])
@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 64])
def test_any_batch_and_any_number_of_tokens(
    tiny_torch: TorchEngine, tiny_engine: OnnxRuntimeEngine, streams: int, tokens: int
) -> None:
    rng = np.random.default_rng(tokens)
    audio = tokens_of_audio(tokens, streams)
    delay = rng.integers(0, 6, (streams, 1))
    state = {n: rng.standard_normal(v.shape, np.float32) for n, v in tiny_torch.zero_state(streams).items()}
    one, other = (engine.step(audio, delay, state) for engine in (tiny_torch, tiny_engine))
    for name in ("onset_logits", "velocity", "offset"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=0, atol=1e-4)
    for name, value in one.state.items():
        np.testing.assert_allclose(other.state[name], value, rtol=1e-5, atol=1e-4)


@pytest.mark.slow  # an export more
def test_same_checkpoint_same_bytes(tiny: Checkpoint, tiny_onnx: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "LONG_S", 2.0)  # the file tells nothing of it
    monkeypatch.setattr(parity, "CHUNKS", 4)  # nor of them
    again = tmp_path / "other-name.onnx"
    pipeline.export_onnx(tiny, again)
    assert again.read_bytes() == tiny_onnx.read_bytes()


def test_what_is_read_back_is_ours(tiny_onnx: Path, proto: onnx.ModelProto) -> None:
    graph, manifest = onnx_export.read_graph(tiny_onnx)
    assert graph == proto
    assert manifest.name == "tiny"


def test_weights_outside_of_the_file_are_never_read(tiny_onnx: Path, tmp_path: Path) -> None:
    hostile = onnx.load(tiny_onnx)
    tensor = hostile.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    path = tmp_path / "hostile.onnx"
    path.write_bytes(hostile.SerializeToString())
    with pytest.raises(EngineError, match=r"hostile\.onnx: its weights lie in another file"):
        onnx_export.read_graph(path)


def test_files_that_are_no_export_of_ours(tiny_onnx: Path, tmp_path: Path) -> None:
    foreign = onnx.load(tiny_onnx)
    del foreign.metadata_props[:]
    contents = {"foreign": foreign.SerializeToString(), "cut": tiny_onnx.read_bytes()[:-1000], "text": b"not a graph"}
    for name, content in contents.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(EngineError, match=name):
            onnx_export.read_graph(path)
    with pytest.raises(InputError, match="cannot be read"):
        onnx_export.read_graph(tmp_path / "missing.onnx")
