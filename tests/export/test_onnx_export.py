"""The exported file: its signature, what it must not hold, and that a failed gate leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from tiny import tiny_checkpoint, tokens_of_audio, write_tiny_checkpoint
from typer.testing import CliRunner

from ghostnote.export import command, onnx_export
from ghostnote.models.checkpoint import Checkpoint
from ghostnote.models.torch_engine import TorchEngine
from ghostnote.runtime.engine import OnnxRuntimeEngine
from ghostnote.runtime.errors import InputError, OutputError
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


def test_same_checkpoint_same_bytes(tiny: Checkpoint, tiny_onnx: Path, tmp_path: Path) -> None:
    again = tmp_path / "other-name.onnx"
    assert onnx_export.export_onnx(tiny, again).passed
    assert again.read_bytes() == tiny_onnx.read_bytes()


def stored_graph(tiny_onnx: Path):
    """A stand-in for the slow exporter, giving the graph that it gave before."""
    return lambda _model: onnx.load(tiny_onnx)


def damaged(proto: onnx.ModelProto, amount: float) -> onnx.ModelProto:
    """`proto` with one number of one weight changed: an entry of the matrix before the heads."""
    weights = max((t for t in proto.graph.initializer if "head" in t.name), key=lambda t: len(t.raw_data))
    values = onnx.numpy_helper.to_array(weights).copy()
    values.flat[0] += amount
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    return proto


@pytest.mark.parametrize("amount", [0.01, np.nan])
def test_a_damaged_graph_is_refused_and_leaves_nothing(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, amount: float
) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: damaged(onnx.load(tiny_onnx), amount))
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt.pt"]
    streams = capsys.readouterr()
    assert len(streams.err.strip().splitlines()) == 1
    assert ("FAIL" in streams.out) == np.isfinite(amount)


def test_a_graph_that_the_checker_refuses(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = onnx.load(tiny_onnx)
    graph.graph.node[0].input[0] = "nobody"
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: graph)
    with pytest.raises(onnx_export.CheckError, match="checker"):
        onnx_export.export_onnx(tiny_checkpoint(), tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_older_artifact_survives_a_failed_export(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "ckpt.onnx"
    out.write_bytes(b"older")
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: damaged(onnx.load(tiny_onnx), 0.01))
    assert not onnx_export.export_onnx(tiny_checkpoint(), out).passed
    assert out.read_bytes() == b"older"


def test_the_command_writes_beside_the_checkpoint(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", stored_graph(tiny_onnx))
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint) == 0
    assert (tmp_path / "ckpt.onnx").read_bytes() == tiny_onnx.read_bytes()
    shown = capsys.readouterr().out
    for word in ("onset_logits", "velocity", "offset", "state_cache_out", "PASS", "1.0e-04"):
        assert word in shown
    assert "FAIL" not in shown


def test_the_command_writes_where_it_is_told(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", stored_graph(tiny_onnx))
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint, "--out", tmp_path / "other.onnx") == 0
    assert (tmp_path / "other.onnx").exists()
    assert not (tmp_path / "ckpt.onnx").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_what_is_no_checkpoint_of_ours(tmp_path: Path, monkeypatch, capsys, content: bytes | None) -> None:
    path = tmp_path / "alien.pt"
    if content is not None:
        path.write_bytes(content)
    assert run_main(monkeypatch, path) == InputError.exit_code
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "alien.pt" in error
    assert not (tmp_path / "alien.onnx").exists()


def test_an_unwritable_output_is_found_out_first(tiny: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: pytest.fail("the work began"))
    with pytest.raises(OutputError, match="cannot be written"):
        onnx_export.export_onnx(tiny, tmp_path / "missing" / "out.onnx")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(command, "LIBRARIES", ("torch", "no_such_library"))
    assert run_main(monkeypatch, tmp_path / "ckpt.pt") == 4
    assert "no_such_library is not installed; pip install 'ghostnote[export]'" in capsys.readouterr().err


def test_help_is_a_subcommand_too() -> None:
    import typer

    app = typer.Typer()
    app.command()(command.export)
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "--out" in result.output


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `export-model ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["export-model", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        command.main()
    return int(stop.value.code or 0)
