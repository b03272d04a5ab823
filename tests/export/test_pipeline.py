"""`export-model`: what it makes, that no gate can be passed by a wrong graph, and that nothing half-written remains."""

from __future__ import annotations

import importlib.metadata
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from host_device import plan_engine
from tiny import tiny_checkpoint, write_tiny_checkpoint
from typer.testing import CliRunner

from ghostnote.export import command, onnx_export, parity, pipeline, tensorrt_plan
from ghostnote.export.choices import Precision
from ghostnote.export.request import Request
from ghostnote.export.tensorrt_builder import Profile
from ghostnote.models.checkpoint import Checkpoint
from ghostnote.runtime.cuda_driver import Device, Driver
from ghostnote.runtime.engines import plan_file
from ghostnote.runtime.engines.device import DeviceError
from ghostnote.runtime.engines.flavours import FLAVOURS
from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine
from ghostnote.runtime.engines.opening import model_file
from ghostnote.runtime.engines.plan_engine import PlanEngine
from ghostnote.runtime.engines.sidecar import read_sidecar
from ghostnote.runtime.errors import InputError, OutputError

GPU = Driver("13.0", (Device("some GPU", (9, 0)),), None)
needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed (extra `dev`, Linux on x86-64)"
)


@pytest.fixture(autouse=True)
def short_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long streams show drift; here they need not.

    On their hundred hits one near its threshold is more than the share that reduced precision may change. The slow
    test of the bundled models takes the real lengths and limits.
    """
    monkeypatch.setattr(pipeline, "LONG_S", 20.0)
    monkeypatch.setattr(pipeline, "REFERENCE_LONG_S", 5.0)
    few = {name: replace(limits, hits_f=min(limits.hits_f, 0.95)) for name, limits in parity.TOLERANCES.items()}
    monkeypatch.setattr(pipeline, "TOLERANCES", few | {"float32": parity.TOLERANCES["float32"]})


@pytest.fixture
def stored(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the slow exporter, giving the graph that it gave before."""
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: onnx.load(tiny_onnx))


def damaged(proto: onnx.ModelProto, amount: float) -> onnx.ModelProto:
    """`proto` with one number of one weight changed: an entry of the matrix before the heads."""
    weights = max((t for t in proto.graph.initializer if "head" in t.name), key=lambda t: len(t.raw_data))
    values = onnx.numpy_helper.to_array(weights).copy()
    values.flat[0] += amount
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    return proto


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `export-model ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["export-model", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        command.main()
    return int(stop.value.code or 0)


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
            assert {"audio", "delay", "reference_state_cache", "other_state_cache"} <= set(worst.files)
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


def test_the_command_writes_beside_the_checkpoint(
    stored: None, tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture
) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint) == 0
    assert (tmp_path / "ckpt.onnx").read_bytes() == tiny_onnx.read_bytes()
    shown = capsys.readouterr().out
    for word in (
        "Plan",
        "verify",
        "onset_logits",
        "state_cache_out",
        "PASS",
        "1.0e-04",
        "drift",
        "Next: rt-transcribe",
    ):
        assert word in shown, word
    assert "FAIL" not in shown


@pytest.mark.parametrize("name", ["a[b]", "x[/b]", ":smile:"])
def test_a_folder_that_looks_like_markup_is_a_folder(
    stored: None, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    assert run_main(monkeypatch, write_tiny_checkpoint(folder / "ckpt.pt"), "--target", "onnx") == 0
    shown = capsys.readouterr().out
    assert f"load     {folder}/ckpt.pt" in shown
    assert f"Next: rt-transcribe --engine {folder}/ckpt.onnx" in shown
    assert f"{name}/ckpt.onnx" in "".join(character for character in shown if character not in "│ \n")


def test_a_failed_gate_keeps_its_exit_code_in_such_a_folder(
    tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: onnx.load(tiny_onnx))
    monkeypatch.setattr(pipeline, "activation_peaks", lambda *_: dict.fromkeys(_names(tiny_onnx), 0.05))
    folder = tmp_path / "x[/b]"
    folder.mkdir(parents=True)
    checkpoint = write_tiny_checkpoint(folder / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint, "--target", "onnx", "--precision", "int8") == 3
    assert f"{folder}/ckpt.int8.onnx.failed.npz" in capsys.readouterr().err


@pytest.fixture(scope="module")
def small() -> Path:
    """A trained model: the hits of one with random weights change with every rounding."""
    return Path(str(model_file("small")))


@pytest.mark.parametrize("precision", list(Precision)[1:])
def test_every_precision_is_what_it_says(small: Path, tmp_path: Path, precision: Precision) -> None:
    """From the float32 graph alone: PyTorch is not needed."""
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


def test_half_states_are_halves_outside_too(small: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """By the reference evaluator, which computes in float16; onnxruntime takes and gives the same types."""
    monkeypatch.setattr(pipeline, "REFERENCE_REAL_S", 1.0)
    arguments = (small, "--precision", "fp16", "--states", "fp16", "--target", "onnx", "--out", tmp_path)
    assert run_main(monkeypatch, *arguments) == 0
    assert "state_cache [B, " in capsys.readouterr().out
    path = tmp_path / "small.fp16-states.onnx"
    half, single = OnnxRuntimeEngine(path), OnnxRuntimeEngine(small)
    assert (half.manifest.verified, half.manifest.precision) == (True, "float16")
    assert half.manifest.state_types == {"state_cache": "float16", "state_taps": "float16"}
    report = parity.check_parity(
        single, half, parity.trials(single.manifest, long_s=10.0), pipeline.TOLERANCES["float16"]
    )
    assert report.passed
    audio, delay = np.zeros((2, 882), np.float32), np.zeros((2, 1), np.int64)
    state = half.select([(half.step(audio, delay, half.zero_state(2)).state, 1)])
    assert {name: value.dtype.name for name, value in state.items()} == {
        "state_audio": "float32",
        "state_cache": "float16",
        "state_taps": "float16",
    }
    half.close()


def test_half_states_go_with_half_products(tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    assert run_main(monkeypatch, tiny_onnx, "--states", "fp16", "--precision", "bf16", "--out", tmp_path) == 2
    assert "states in fp16 go with products in fp16, not bf16: add --precision fp16" in capsys.readouterr().err


def test_a_variant_that_disagrees_is_refused(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "activation_peaks", lambda *_: dict.fromkeys(_names(tiny_onnx), 0.05))
    with pytest.raises(pipeline.GateError, match="int8 graph disagrees") as caught:
        pipeline.export_variant(tiny_onnx, tmp_path / "out.onnx", Precision.INT8, for_cpu=False)
    assert not caught.value.report.passed
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx.failed.npz"]


def _names(path: Path) -> list[str]:
    from ghostnote.export.precision import weight_products

    return [node.input[0] for node in weight_products(onnx.load(path))]


def test_int8_that_is_slower_is_not_offered(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ghostnote.export.onnxruntime_facts import RelativeCost

    monkeypatch.setattr(pipeline, "relative_cost", lambda *_: RelativeCost(1.2, 1.1))
    with pytest.raises(pipeline.CheckError, match="slower"):
        pipeline.export_variant(small, tmp_path / "out.onnx", Precision.INT8)
    assert list(tmp_path.iterdir()) == []


def test_a_reduced_graph_is_no_source(tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "half.onnx"
    out.write_bytes(pipeline.reduce(*onnx_export.read_graph(tiny_onnx), Precision.FP16).SerializeToString())
    assert run_main(monkeypatch, out, "--precision", "fp16") == 2
    assert "give the float32 graph" in capsys.readouterr().err


# --- plans and repositories


def test_what_cannot_be_built_here_leaves_the_graph(
    stored: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("ghostnote.export.pipeline.probe_driver", lambda: Driver(None, (), "there is no GPU here"))
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint, "--target", "tensorrt") == 4
    streams = capsys.readouterr()
    assert "TensorRT" in streams.err
    assert "Artifacts" in streams.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt.onnx", "ckpt.pt"]


def test_auto_says_why_there_is_no_plan(tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("ghostnote.export.pipeline.probe_driver", lambda: Driver(None, (), "there is no GPU here"))
    assert run_main(monkeypatch, tiny_onnx, "--out", tmp_path) == 0
    shown = capsys.readouterr().out
    assert "no plan: there is no GPU here" in shown
    assert f"nothing was made: {tiny_onnx} is float32 ONNX already" in shown


@needs_rtx
def test_a_plan_for_rtx_by_the_command(tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    source = tmp_path / "tiny.onnx"
    source.write_bytes(tiny_onnx.read_bytes())
    assert run_main(monkeypatch, source, "--target", "tensorrt-rtx", "--batch", "1,2,4", "--tokens", "1,2,8") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.onnx", "tiny.rtx.plan", "tiny.rtx.plan.json"]
    shown = capsys.readouterr().out
    assert "not verified" in shown
    assert "ghostnote inspect" in shown


@pytest.fixture
def runs_here(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """A machine with a GPU on which every plan runs: as the model.onnx that is named."""

    def as_model(path: Path) -> None:
        monkeypatch.setattr(tensorrt_plan, "probe_driver", lambda: GPU)
        monkeypatch.setattr(tensorrt_plan, "start_plan", lambda *_: plan_engine(path, batch=(2, 2), tokens=(3, 3)))

    return as_model


def export_a_plan(monkeypatch: pytest.MonkeyPatch, source: Path, folder: Path) -> int:
    sizes = ("--batch", "2,2,2", "--tokens", "3,3,3")
    return run_main(monkeypatch, source, "--target", "tensorrt-rtx", "--out", folder, *sizes)


@needs_rtx
def test_a_plan_that_runs_here_is_verified(runs_here, tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    runs_here(tiny_onnx)
    assert export_a_plan(monkeypatch, tiny_onnx, tmp_path) == 0
    manifest = read_sidecar(tmp_path / "tiny.rtx.plan").manifest
    assert manifest.verified
    assert (
        manifest.notes[-1]
        == "hits compared with the float32 graph's, computed by tiny (float32) on a stand-in, host memory"
    )
    shown = capsys.readouterr().out
    assert "PASS" in shown
    assert "not verified" not in shown
    assert "Next: rt-transcribe --engine" in shown


@needs_rtx
def test_a_plan_that_computes_something_else_is_refused(
    runs_here, tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    wrong = tmp_path / "wrong.onnx"
    onnx.save(damaged(onnx.load(tiny_onnx), 0.01), wrong)
    runs_here(wrong)
    assert export_a_plan(monkeypatch, tiny_onnx, tmp_path) == 3
    assert "FAIL" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.rtx.plan.failed.npz", "wrong.onnx"]
    with np.load(tmp_path / "tiny.rtx.plan.failed.npz") as worst:
        assert worst["other_state_cache"].shape == worst["reference_state_cache"].shape


@needs_rtx
def test_a_plan_that_fails_when_it_runs_is_refused(
    runs_here, tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    runs_here(tiny_onnx)
    monkeypatch.setattr(PlanEngine, "step", lambda *_: (_ for _ in ()).throw(DeviceError("an illegal address")))
    assert export_a_plan(monkeypatch, tiny_onnx, tmp_path) == 3
    assert "the plan loads, but does not run: an illegal address" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@needs_rtx
def test_a_plan_for_another_gpu_says_so(tiny_onnx: Path, tmp_path: Path, monkeypatch) -> None:
    for module in (tensorrt_plan, plan_file):
        monkeypatch.setattr(module, "probe_driver", lambda: GPU)
    assert export_a_plan(monkeypatch, tiny_onnx, tmp_path) == 0
    manifest = read_sidecar(tmp_path / "tiny.rtx.plan").manifest
    assert not manifest.verified
    assert manifest.notes[-1] == (
        "this TensorRT for RTX plan was not run where it was built: tiny.rtx.plan: the plan is for compute capability "
        "8.0, 8.6, 8.9, 12.0, 12.1, some GPU has 9.0"
    )


@needs_rtx
def test_without_onnxruntime_a_plan_is_kept_unverified(tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(tensorrt_plan, "probe_driver", lambda: GPU)
    assert export_a_plan(monkeypatch, tiny_onnx, tmp_path) == 0
    assert "the plan will not be compared: onnxruntime" in capsys.readouterr().out
    assert not read_sidecar(tmp_path / "tiny.rtx.plan").manifest.verified


@pytest.mark.parametrize("options", [(), ("--precision", "int8")])
def test_without_onnxruntime_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, options: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # makes `import onnxruntime` fail
    monkeypatch.setattr(importlib.metadata, "version", _no_distribution)
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: pytest.fail("the work began"))
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint, *options) == 4
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "onnxruntime is not installed; install exactly one: pip install 'ghostnote[cpu]'" in error
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


def _no_distribution(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


def test_a_repository_for_triton_by_the_command(tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    assert run_main(monkeypatch, tiny_onnx, "--target", "triton", "--out", tmp_path) == 0
    assert (tmp_path / "tiny-triton" / "tiny" / "1" / "model.onnx").read_bytes() == tiny_onnx.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ("--batch", "4,2,1"),
        ("--tokens", "1,2"),
        ("--target", "tensorrt-rtx", "--version-compatible"),
        ("--target", "tensorrt", "--hardware-compatibility", "all"),
        ("--target", "auto", "--hardware-compatibility", "all"),
        ("--target", "auto", "--workspace-mib", "-3"),
        ("--target", "onnx", "--workspace-mib", "-3"),
    ],
)
def test_impossible_profiles_and_options_are_found_out_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: pytest.fail("the work began"))
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint, *options) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


@pytest.mark.parametrize("target", ["onnx", "triton"])
@pytest.mark.parametrize(
    ("options", "builders"),
    [
        (("--timing-cache", "cache"), "tensorrt or auto"),
        (("--hardware-compatibility", "ampere_plus"), "tensorrt or auto"),
        (("--version-compatible",), "tensorrt or auto"),
        (("--detailed",), "tensorrt, tensorrt-rtx or auto"),
        (("--workspace-mib", "512"), "tensorrt, tensorrt-rtx or auto"),
        (("--batch", "1,1,64"), "tensorrt, tensorrt-rtx or auto"),
        (("--tokens", "1,2,96"), "tensorrt, tensorrt-rtx or auto"),
    ],
)
def test_options_that_the_target_cannot_use_are_refused(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture, target: str, options: tuple[str, ...], builders: str
) -> None:
    assert run_main(monkeypatch, tmp_path / "ckpt.pt", "--target", target, *options) == 2
    error = capsys.readouterr().err
    assert f"{options[0]}: of plans, and --target {target} makes none; give --target {builders}, or" in error


def test_a_plan_that_cannot_be_had_as_asked_is_not_built(tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Of target `auto` only the GPU says which builder it is."""
    monkeypatch.setattr(pipeline, "probe_driver", lambda: Driver("13.0", (Device("some GPU", (8, 9)),), None))
    monkeypatch.setattr(pipeline, "FLAVOURS", {"tensorrt-rtx": FLAVOURS["tensorrt-rtx"]})
    assert run_main(monkeypatch, tiny_onnx, "--out", tmp_path, "--timing-cache", tmp_path / "cache") == 0
    assert "no plan: TensorRT for RTX has no timing cache" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "onnx"), "is float32 ONNX already: add --precision, or choose another --target"),
        (("--target", "onnx", "--verify", "song.wav"), "is float32 ONNX already"),
        (("--target", "triton", "--verify", "song.wav"), "--verify has nothing to compare"),
    ],
)
def test_what_would_do_nothing_is_refused(
    tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys, options: tuple[str, ...], message: str
) -> None:
    assert run_main(monkeypatch, tiny_onnx, "--out", tmp_path, *options) == 2
    streams = capsys.readouterr()
    assert message in streams.err
    assert streams.out == ""


class Runs:
    """A pickle that would run code."""

    def __reduce__(self):
        return (Path.touch, (Path("was-here"),))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps(Runs()), None])
def test_what_is_no_checkpoint_of_ours(tmp_path: Path, monkeypatch, capsys, content: bytes | None) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "alien.pt"
    if content is not None:
        path.write_bytes(content)
    assert run_main(monkeypatch, path) == InputError.exit_code
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "alien.pt" in error
    assert not (tmp_path / "alien.onnx").exists()
    assert not (tmp_path / "was-here").exists()


def test_a_truncated_checkpoint(tmp_path: Path, monkeypatch, capsys) -> None:
    path = write_tiny_checkpoint(tmp_path / "cut.pt")
    path.write_bytes(path.read_bytes()[:-5000])
    assert run_main(monkeypatch, path) == InputError.exit_code
    assert "cut.pt" in capsys.readouterr().err


def test_an_unwritable_output_is_found_out_first(tiny: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: pytest.fail("the work began"))
    with pytest.raises(OutputError, match="cannot be written"):
        pipeline.export_onnx(tiny, tmp_path / "missing" / "out.onnx")
    assert run_main(monkeypatch, tmp_path / "ckpt.pt", "--out", tmp_path / "missing") == OutputError.exit_code


def test_a_full_disk_is_an_error_of_one_line(stored: None, tiny: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        pipeline.export_onnx(tiny, tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(command, "LIBRARIES", ("torch", "no_such_library"))
    assert run_main(monkeypatch, tmp_path / "ckpt.pt") == 4
    assert "no_such_library is not installed; pip install 'ghostnote[export]'" in capsys.readouterr().err


def test_help_is_a_subcommand_too() -> None:
    import typer

    app = typer.Typer()
    app.command()(command.export)
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for option in ("--out", "--target", "--precision", "--verify"):
        assert option in result.output


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


@pytest.mark.parametrize(
    ("tokens", "expected"), [("1,1,96", "at least 882 (20 ms)"), ("3,3,3", "at least 2646 (60 ms)")]
)
def test_recordings_shorter_than_a_call_are_refused_first(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture, tokens: str, expected: str
) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: pytest.fail("the work began"))
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    soundfile.write(tmp_path / "click.wav", np.zeros(881), 44_100)
    assert run_main(monkeypatch, checkpoint, "--verify", tmp_path / "click.wav", "--tokens", tokens) == 5
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "click.wav: 881 samples" in error
    assert expected in error


def test_a_plan_of_long_calls_is_compared_on_what_is_long_enough(tiny_onnx: Path, tmp_path: Path) -> None:
    """300 tokens are 6 s: more than all live chunks together."""
    request = Request(tiny_onnx, tmp_path, profile=Profile((1, 1, 1), (300, 300, 300)))
    engine = OnnxRuntimeEngine(tiny_onnx)
    report = pipeline._verify_plan(request, engine, tmp_path / "tiny.plan")
    assert report.passed
    assert report.drift_s == 18.0
