"""`export-model --target tensorrt...`: what is built, verified, refused or left unbuilt, on machines of every kind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from exporting import damaged, run_main
from host_device import plan_engine
from tiny import write_tiny_checkpoint

from ghostnote.export import pipeline, tensorrt_plan
from ghostnote.export.request import Request
from ghostnote.export.tensorrt_builder import Profile
from ghostnote.runtime.engines import plan_file
from ghostnote.runtime.engines.cuda_driver import Device, Driver
from ghostnote.runtime.engines.device import DeviceError
from ghostnote.runtime.engines.flavours import FLAVOURS
from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine
from ghostnote.runtime.engines.plan_engine import PlanEngine
from ghostnote.runtime.engines.sidecar import read_sidecar

pytestmark = pytest.mark.usefixtures("short_streams")

GPU = Driver("13.0", (Device("some GPU", (9, 0)),), None)
needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed (extra `dev`, Linux on x86-64)"
)


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
        assert worst["other_state_keys_00"].shape == worst["reference_state_keys_00"].shape


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


def test_a_plan_that_cannot_be_had_as_asked_is_not_built(tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Of target `auto` only the GPU says which builder it is."""
    monkeypatch.setattr(pipeline, "probe_driver", lambda: Driver("13.0", (Device("some GPU", (8, 9)),), None))
    monkeypatch.setattr(pipeline, "FLAVOURS", {"tensorrt-rtx": FLAVOURS["tensorrt-rtx"]})
    assert run_main(monkeypatch, tiny_onnx, "--out", tmp_path, "--timing-cache", tmp_path / "cache") == 0
    assert "no plan: TensorRT for RTX has no timing cache" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_plan_of_long_calls_is_compared_on_what_is_long_enough(tiny_onnx: Path, tmp_path: Path) -> None:
    """300 tokens are 6 s: more than all live chunks together."""
    request = Request(tiny_onnx, tmp_path, profile=Profile((1, 1, 1), (300, 300, 300)))
    engine = OnnxRuntimeEngine(tiny_onnx)
    report = pipeline._verify_plan(request, engine, tmp_path / "tiny.plan")
    assert report.passed
    assert report.drift_s == 18.0
