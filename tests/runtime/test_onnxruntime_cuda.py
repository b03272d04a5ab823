"""The CUDA provider's engine: its binding of inputs and outputs on the CPU provider, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click_model
import laws
import numpy as np
import onnxruntime
import pytest

from ghostnote.runtime import Engine, EngineError, OnnxRuntimeEngine, open_engine
from ghostnote.runtime.engines import onnxruntime_cuda
from ghostnote.runtime.engines.cuda_driver import Device, Driver
from ghostnote.runtime.engines.onnxruntime_cuda import OnnxRuntimeCudaEngine
from ghostnote.runtime.engines.onnxruntime_engine import open_session

GPU = Driver("13.0", (Device("Some GPU", (9, 0)),), None)


class OnTheCpu(OnnxRuntimeCudaEngine):
    """The same calls, on the provider that is there."""

    provider = ("CPUExecutionProvider", {})
    device = "cpu"

    def _check_available(self, provider: str) -> None:
        assert provider in self._ort.get_available_providers()


@pytest.fixture(scope="module")
def engine(click_path: Path) -> Iterator[OnTheCpu]:
    opened = OnTheCpu(click_path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """[4, N], noise of changing loudness."""
    rng = np.random.default_rng(3)
    shape = (4, 150, click_model.TOKEN)
    return (rng.uniform(-1, 1, shape) * rng.random((4, 150, 1))).reshape(4, -1).astype(np.float32)


def test_the_laws(engine: OnTheCpu, audio: np.ndarray) -> None:
    laws.assert_any_chunking(engine, audio[0], 3, tolerance=0.0)
    laws.assert_batch_is_alone(engine, audio, (0, 3, 5, 2), tolerance=0.0)
    laws.assert_reset_matters(engine, audio[0], 0)
    laws.assert_causal(engine, audio[0], audio[1], token=90, delay_index=4)


def test_outputs_and_states_are_those_of_the_cpu_engine(
    engine: OnTheCpu, click_engine: OnnxRuntimeEngine, audio: np.ndarray
) -> None:
    found, expected = (laws.run_engine(one, audio, (0, 1, 2, 3), laws.every(7)) for one in (engine, click_engine))
    laws.assert_same_heads(found, expected, 0.0, "bound")
    assert all(np.array_equal(found.state[name], value) for name, value in expected.state.items())
    assert len(found.state) == len(expected.state)


def test_select_copies_rows(engine: OnTheCpu, audio: np.ndarray) -> None:
    state = laws.run_engine(engine, audio[:2], (0, 1), [20, 130]).state
    before = dict(state)
    chosen = engine.select([(state, 1), (engine.zero_state(3), 2), (state, 0)])
    for name, value in before.items():
        assert np.array_equal(chosen[name], [value[1], np.zeros_like(value[0]), value[0]])
        assert np.array_equal(state[name], value)


def test_a_failing_step_and_a_closed_engine(click_path: Path) -> None:
    engine = OnTheCpu(click_path)
    one = np.zeros((1, 882), np.float32)
    with pytest.raises(EngineError, match=r"click\.onnx: onnxruntime failed"):
        engine.step(one, np.full((1, 1), 99, np.int64), engine.zero_state(1))
    with pytest.raises(EngineError, match="not finite"):
        engine.step(np.full_like(one, np.inf), np.zeros((1, 1), np.int64), engine.zero_state(1))
    state = engine.zero_state(1)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.step(one, np.zeros((1, 1), np.int64), state)


def test_without_a_driver(click_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_cuda, "probe_driver", lambda: Driver(None, (), "there is no driver"))
    with pytest.raises(
        EngineError, match=r"no GPU to run on, as there is no driver; leave --device cuda out"
    ) as refused:
        open_engine(click_path, device="cuda")
    assert refused.value.exit_code == 7


def test_a_package_for_cpus(click_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    monkeypatch.setattr(onnxruntime_cuda, "probe_driver", lambda: GPU)
    with pytest.raises(EngineError, match=r"is made for CPUs; pip uninstall -y onnxruntime && pip install"):
        open_engine(click_path, device="cuda")


def test_a_session_that_fell_back_to_the_cpu_is_refused(click_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def on_the_cpu(ort: Any, path: Path, threads: int, *, providers: Any) -> Any:
        asked.extend(providers)
        return open_session(ort, path, threads, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime_cuda, "probe_driver", lambda: GPU)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: asked.append("libraries"))
    monkeypatch.setattr(onnxruntime_cuda, "open_session", on_the_cpu)
    with pytest.raises(
        EngineError, match=r"cannot start CUDA and fell back to the CPU; .*onnxruntime-gpu\[cuda,cudnn\]"
    ):
        open_engine(click_path, device="cuda")
    assert asked[0] == "libraries"
    assert asked[1][1]["use_tf32"] == "0"


def test_it_keeps_the_protocol(engine: OnTheCpu) -> None:
    kept: Engine = engine
    assert kept.describe() == f"click (float32) on onnxruntime {onnxruntime.__version__}, CUDA"
    assert SimpleNamespace(**kept.zero_state(2))
