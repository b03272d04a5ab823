"""The GPU suite on whatever there is: its arithmetic, its names, what does not fit; never how fast anything is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from host_device import GraphPlan, plan_engine
from typer.testing import CliRunner

from ghostnote.benchmarks import command
from ghostnote.benchmarks.result import Result
from ghostnote.benchmarks.suites import gpu
from ghostnote.models.arithmetic import gflop_per_second
from ghostnote.models.checkpoint import Checkpoint, save
from ghostnote.models.config import PRESETS
from ghostnote.runtime import EngineError, UsageError
from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine
from ghostnote.runtime.engines.plan_engine import PlanEngine
from ghostnote.runtime.engines.sidecar import RECORD, sidecar_of
from ghostnote.runtime.manifest import Manifest


def test_the_gpu_suite_on_whatever_there_is(
    tiny: Checkpoint, tiny_engine: OnnxRuntimeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "CALLS", 3)
    save(tmp_path / "tiny.pt", tiny)
    limits, rates = gpu.device_figures("cpu")
    assert all(figure.value > 0 for figure in limits)
    for caller in (gpu.torch_caller(tmp_path / "tiny.pt", "cpu"), gpu.engine_caller(tiny_engine)):
        figures, series = gpu.gpu(caller, tiny_engine.manifest, "here", rates, batches=(1, 3), tokens=(1, 2))
        assert len(figures) == 4 * 3
        assert all(figure.value > 0 for figure in figures)
        assert set(series["call_ms"]) == {"1", "3"}


def test_the_gpu_suite_counts_a_models_arithmetic_once(
    tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []

    def suite(_caller: gpu.Caller, _manifest: Manifest, _label: str, device: dict[str, float]) -> tuple[list, dict]:
        told.append(device["gflop"])
        return [], {}

    monkeypatch.setattr(gpu, "device_figures", lambda _device: ([], {"bytes_per_s": 1e9, "flop_per_s": 1e9}))
    monkeypatch.setattr(gpu, "gpu", suite)
    save(tmp_path / "tiny.pt", tiny)
    words = ["gpu", str(tmp_path), "--checkpoint", str(tmp_path / "tiny.pt"), "--device", "cpu"]
    ran = CliRunner().invoke(command.bench, words)
    assert ran.exit_code == 0, ran.output
    parts = gflop_per_second(PRESETS["tiny"])
    total = parts.pop("total")
    assert told == [pytest.approx(total)] == [pytest.approx(sum(parts.values()))]


def test_documents_of_the_gpu_suite_that_would_replace_each_other_are_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    words = ["gpu", str(tmp_path), "--device", "cpu"]
    for name in ("a", "b"):
        save(tmp_path / f"{name}.pt", tiny)
        words += ["--checkpoint", str(tmp_path / f"{name}.pt")]
    ran = CliRunner().invoke(command.bench, words)
    assert isinstance(ran.exception, UsageError)
    assert "the documents of both would be of tiny-pytorch; measure one at a time" in str(ran.exception)
    assert not [*tmp_path.glob("*.json")]


def test_figures_of_the_gpu_suite_are_called_the_same_with_a_later_library(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def suite(_caller: gpu.Caller, _manifest: Manifest, label: str, _device: dict[str, float]) -> tuple[list, dict]:
        told.append(label)
        return [], {}

    def opened(path: Path, device: str = "cpu") -> PlanEngine:
        assert device == "cpu"  # what --device says: figures are called after it
        return plan_engine(tiny_onnx)

    monkeypatch.setattr(gpu, "device_figures", lambda _device: ([], {}))
    monkeypatch.setattr(gpu, "gpu", suite)
    monkeypatch.setattr(command, "open_engine", opened)
    monkeypatch.setattr(command, "CHECKPOINTS", tmp_path)
    manifest = OnnxRuntimeEngine(tiny_onnx).manifest
    plan = tmp_path / "tiny.plan"
    plan.write_bytes(b"")
    sidecar_of(plan).write_text(json.dumps(manifest.to_dict() | {RECORD: {"flavour": "tensorrt"}}))
    for library in ("TensorRT 11.4.0.106", "TensorRT 11.4.1.3"):
        monkeypatch.setattr(GraphPlan, "library", library)
        words = ["gpu", str(tmp_path), "--engine", str(plan), "--engine", str(tiny_onnx), "--device", "cpu"]
        ran = CliRunner().invoke(command.bench, words)
        assert ran.exit_code == 0, ran.output
        document = Result.from_json((tmp_path / "gpu-tiny.onnx.json").read_text())
        assert library in document.card["engine"]
    assert told == ["TensorRT, float32", "onnxruntime, float32"] * 2


def out_of_memory() -> None:
    raise RuntimeError("CUDA out of memory\nand more")


def too_many() -> None:
    raise EngineError("4 streams; the plan takes at most 3")


@pytest.mark.parametrize(
    ("fails", "words"),
    [(out_of_memory, "CUDA out of memory"), (too_many, "4 streams; the plan takes at most 3")],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_size_that_does_not_fit_ends_its_row(
    tiny_engine: OnnxRuntimeEngine, fails: Callable[[], None], words: str, at_once: bool
) -> None:
    def caller(batch: int, tokens: int) -> Callable[[], None]:
        if batch == 1:
            return lambda: None
        if at_once:
            fails()
        return fails

    rates = {"bytes_per_s": 1e9, "flop_per_s": 1e9}
    figures, series = gpu.gpu(caller, tiny_engine.manifest, "here", rates, batches=(1, 4, 16), tokens=(1, 2))
    missing = [figure.name for figure in figures if figure.value is None]
    assert missing == [f"here, 4 x {tokens} tokens: {words}" for tokens in (1, 2)]
    assert set(series["call_ms"]) == {"1"}
