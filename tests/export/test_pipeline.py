"""From checkpoint to graph and variants: no wrong graph passes a gate, and nothing half-written remains."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from exporting import damaged, product_inputs, run_main
from tiny import tiny_checkpoint, write_tiny_checkpoint

from ghostnote.export import onnx_export, parity, pipeline
from ghostnote.export.choices import Precision, Target
from ghostnote.export.onnxruntime_facts import RelativeCost
from ghostnote.export.request import Request
from ghostnote.models.checkpoint import Checkpoint
from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine
from ghostnote.runtime.engines.opening import model_file
from ghostnote.runtime.errors import OutputError, UsageError

pytestmark = pytest.mark.usefixtures("short_streams")


@pytest.mark.parametrize("amount", [0.01, np.nan])
def test_a_damaged_graph_is_refused_and_leaves_only_its_worst_chunk(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, amount: float
) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: damaged(onnx.load(tiny_onnx), amount))
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint) == 3
    streams = capsys.readouterr()
    assert len(streams.err.strip().splitlines()) == 1
    assert ("FAIL" in streams.out) == np.isfinite(amount)
    if np.isfinite(amount):
        with np.load(tmp_path / "ckpt.onnx.failed.npz") as worst:
            difference = np.abs(worst["reference_onset_logits"] - worst["other_onset_logits"]).max()
            assert difference > 1e-4
            assert {"audio", "delay", "reference_state_keys_00", "other_state_values_00"} <= set(worst.files)
        (tmp_path / "ckpt.onnx.failed.npz").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt.pt"]


def test_a_graph_that_the_checker_refuses(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = onnx.load(tiny_onnx)
    graph.graph.node[0].input[0] = "nobody"
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: graph)
    with pytest.raises(pipeline.CheckError, match="checker"):
        pipeline.export_onnx(tiny_checkpoint(), tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_older_artifact_survives_a_failed_export(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "ckpt.onnx"
    out.write_bytes(b"older")
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: damaged(onnx.load(tiny_onnx), 0.01))
    with pytest.raises(pipeline.GateError):
        pipeline.export_onnx(tiny_checkpoint(), out)
    assert out.read_bytes() == b"older"


FEW_CHUNKS = 16  # the reference evaluator is slow; the slow tests stream them all


@pytest.fixture(scope="module")
def small() -> Path:
    """A trained model: the hits of one with random weights change with every rounding."""
    return Path(str(model_file("small")))


@pytest.mark.parametrize("precision", list(Precision)[1:])
def test_every_precision_is_what_it_says(
    small: Path, tmp_path: Path, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the float32 graph alone: PyTorch is not needed."""
    monkeypatch.setattr(parity, "CHUNKS", FEW_CHUNKS)
    artifact = pipeline.export_variant(small, tmp_path / "out.onnx", precision, for_cpu=False)
    name = precision.manifest_name
    assert artifact.manifest.precision == name
    assert artifact.manifest.verified
    assert artifact.manifest.notes
    assert artifact.products[name]["MatMul"] > artifact.products["float32"]["MatMul"] / 2
    assert artifact.report is not None
    assert artifact.report.passed
    assert artifact.report.outputs[0].max_abs > 1e-4  # it really computes in less than float32
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx"]
    if precision.on_cpu:
        engine = OnnxRuntimeEngine(tmp_path / "out.onnx")  # and is called like the float32 file
        assert engine.manifest == artifact.manifest
        engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("precision", list(Precision)[1:])
@pytest.mark.parametrize("model", ["base", "small"])
def test_the_bundled_models_pass_every_gate(
    model: str, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    path = Path(str(model_file(model)))
    artifact = pipeline.export_variant(path, tmp_path / "out.onnx", precision, for_cpu=False)
    assert artifact.report is not None
    assert artifact.report.passed


@pytest.mark.slow  # float16 twice by the reference evaluator, which is another test's
def test_half_states_are_halves_outside_too(small: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """By the reference evaluator, which computes in float16; onnxruntime takes and gives the same types."""
    monkeypatch.setattr(pipeline, "REFERENCE_REAL_S", 1.0)
    monkeypatch.setattr(parity, "CHUNKS", FEW_CHUNKS)
    arguments = (small, "--precision", "fp16", "--states", "fp16", "--target", "onnx", "--out", tmp_path)
    assert run_main(monkeypatch, *arguments) == 0
    assert "state_keys_00 to state_keys_03 [B, 4, 64, 32] float16" in " ".join(capsys.readouterr().out.split())
    path = tmp_path / "small.fp16-states.onnx"
    half, single = OnnxRuntimeEngine(path), OnnxRuntimeEngine(small)
    assert (half.manifest.verified, half.manifest.precision) == (True, "float16")
    halves = dict.fromkeys(single.manifest.states, "float16") | dict.fromkeys(pipeline.KEPT_STATES, "float32")
    assert half.manifest.states == single.manifest.states
    assert {name: half.manifest.state_type(name) for name in half.manifest.states} == halves
    report = parity.check_parity(
        single, half, parity.trials(single.manifest, long_s=10.0), pipeline.TOLERANCES["float16"]
    )
    assert report.passed
    audio, delay = np.zeros((2, 882), np.float32), np.zeros((2, 1), np.int64)
    state = half.select([(half.step(audio, delay, half.zero_state(2)).state, 1)])
    assert {name: value.dtype.name for name, value in state.items()} == halves
    half.close()


def test_a_variant_that_disagrees_is_refused(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "activation_peaks", lambda *_: dict.fromkeys(product_inputs(tiny_onnx), 0.05))
    with pytest.raises(pipeline.GateError, match="int8 graph disagrees") as caught:
        pipeline.export_variant(tiny_onnx, tmp_path / "out.onnx", Precision.INT8, for_cpu=False)
    assert not caught.value.report.passed
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx.failed.npz"]


def test_int8_that_is_slower_is_not_offered(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "relative_cost", lambda *_: RelativeCost(1.2, 1.1))
    with pytest.raises(pipeline.CheckError, match="slower"):
        pipeline.export_variant(small, tmp_path / "out.onnx", Precision.INT8)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_of_one_line(stored: None, tiny: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        pipeline.export_onnx(tiny, tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a signal of POSIX")
@pytest.mark.parametrize("seconds", [1.0, 4.0, 7.0, 10.0, 14.0])
def test_killed_at_any_time_leaves_whole_files_or_none(tmp_path: Path, seconds: float) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    arguments = [sys.executable, "-m", "ghostnote.export.command", str(checkpoint), "--precision", "bf16"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for name in ("ckpt.onnx", "ckpt.bf16.onnx"):
        if (tmp_path / name).exists():
            onnx.checker.check_model(onnx.load(tmp_path / name), full_check=True)
            assert onnx_export.read_graph(tmp_path / name)[1].verified


def test_recordings_of_one_name_are_all_tried(tmp_path: Path) -> None:
    paths = (tmp_path / "a" / "groove.flac", tmp_path / "b" / "groove.flac")
    for path in paths:
        path.parent.mkdir()
        soundfile.write(path, np.zeros(100), 44_100)
    tried = pipeline._recordings(paths, 44_100)
    assert [len(audio) for audio in tried.values()][1:] == [100, 100]
    assert list(tried)[1:] == [str(path) for path in paths]


def test_a_recording_of_the_bundled_ones_name_is_tried_beside_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("groove.flac", np.zeros(100), 44_100)
    bundled, own = pipeline._recordings((Path("groove.flac"),), 44_100).values()
    assert len(bundled) > len(own) == 100


@pytest.mark.parametrize("precision", list(Precision)[1:])
def test_a_graph_whose_nodes_were_renamed_is_not_reduced_in_name_only(tiny_onnx: Path, precision: Precision) -> None:
    """Parts of a graph are known by their nodes' names; without them nothing was changed but the manifest."""
    graph = onnx.load(tiny_onnx)
    for node in graph.graph.node:
        node.name = ""
    with pytest.raises(
        pipeline.CheckError, match=f"no product of this graph would compute in {precision.manifest_name}"
    ):
        pipeline.reduce(graph, onnx_export.manifest_of(graph), precision)


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP8])
def test_triton_gets_no_graph_that_its_backend_cannot_compute(precision: Precision) -> None:
    with pytest.raises(UsageError, match=f"--precision {precision}: Triton runs the ONNX file on onnxruntime"):
        Request(Path("tiny.onnx"), Path("out"), target=Target.TRITON, precision=precision)


def test_of_a_long_recording_the_loudest_part_is_heard_by_the_slow_evaluator() -> None:
    audio = np.zeros(1000, np.float32)
    audio[700:750] = 1
    assert pipeline._loudest(audio, 100).sum() == 50
    assert pipeline._loudest(audio, 1000) is audio
