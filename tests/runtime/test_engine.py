"""The onnxruntime engine: the laws of the contract, and model files that are not ours."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import click_model
import laws
import numpy as np
import onnx
import pytest

from ghostnote.runtime import Engine, EngineError, UsageError, open_engine
from ghostnote.runtime.engines.opening import MOST_THREADS

TOKENS = 150


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """Noise of changing loudness [B, N], loud enough for many hits."""
    rng = np.random.default_rng(3)
    shape = (4, TOKENS, click_model.TOKEN)
    return (rng.uniform(-1, 1, shape) * rng.random((4, TOKENS, 1))).reshape(4, -1).astype(np.float32)


def test_any_chunking(click_engine: Engine, audio: np.ndarray) -> None:
    laws.assert_any_chunking(click_engine, audio[0], 3, tolerance=0.0)


def test_batch_is_alone(click_engine: Engine, audio: np.ndarray) -> None:
    laws.assert_batch_is_alone(click_engine, audio, (0, 3, 5, 2), tolerance=0.0)


def test_streams_that_begin_share_memory_that_nobody_writes_to(click_engine: Engine, audio: np.ndarray) -> None:
    many = click_engine.zero_state(5)
    one, two = click_engine.zero_state(1), click_engine.zero_state(2)
    assert all(np.shares_memory(one[name], two[name]) and np.shares_memory(two[name], many[name]) for name in one)
    assert not any(zeros.flags.writeable or zeros.any() for zeros in two.values())
    delay = np.zeros((2, 1), np.int64)
    before = click_engine.step(audio[:2], delay, two)
    after = click_engine.step(audio[:2], delay, click_engine.zero_state(2))
    np.testing.assert_array_equal(before.onset_logits, after.onset_logits)


def test_reset_matters(click_engine: Engine, audio: np.ndarray) -> None:
    laws.assert_reset_matters(click_engine, audio[0], 0)


def test_causal(click_engine: Engine, audio: np.ndarray) -> None:
    laws.assert_causal(click_engine, audio[0], audio[1], token=90, delay_index=4)


def test_describe_and_close(click_path: Path) -> None:
    engine = open_engine(click_path, threads=2)
    assert engine.describe().startswith("click (float32) on onnxruntime ")
    state = engine.zero_state(1)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.step(np.zeros((1, 882), np.float32), np.zeros((1, 1), np.int64), state)


@pytest.mark.parametrize("device", ["gpu", "CUDA", ""])
def test_an_unknown_device_does_not_quietly_become_the_cpu(click_path: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"device '{device}'; expected one of cpu, cuda"):
        open_engine(click_path, device=device)


def test_threads_without_number_are_refused(click_path: Path) -> None:
    """A hundred thousand took more than a gigabyte, and minutes."""
    with pytest.raises(UsageError, match="257 threads; expected 1 to 256"):
        open_engine(click_path, threads=MOST_THREADS + 1)
    with pytest.raises(UsageError, match="0 threads; expected 1 to 256"):  # to the library, as many as it likes
        open_engine(click_path, threads=0)


def test_a_failing_step_is_an_engine_error(click_engine: Engine) -> None:
    with pytest.raises(EngineError, match="onnxruntime failed"):
        click_engine.step(np.zeros((1, 882), np.float32), np.full((1, 1), 99, np.int64), click_engine.zero_state(1))


def test_output_that_is_not_finite_is_an_engine_error(click_engine: Engine) -> None:
    with pytest.raises(EngineError, match="not finite"):
        click_engine.step(np.full((1, 882), np.inf, np.float32), np.zeros((1, 1), np.int64), click_engine.zero_state(1))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_stays_what_the_largest_call_needs() -> None:
    """In a process of its own: 600 calls of 1 to 50 tokens in any order, after each size was seen once."""
    script = """
import numpy as np
from ghostnote.runtime import open_engine
engine = open_engine("small")
def call(tokens):
    engine.step(np.zeros((1, 882 * tokens), np.float32), np.zeros((1, 1), np.int64), engine.zero_state(1))
def resident():
    return int(open("/proc/self/statm").read().split()[1])
mixture = np.random.default_rng(0).integers(1, 51, 600).tolist()
for tokens in (*range(1, 51), *range(50, 0, -1)):
    call(tokens)
before = resident()
for tokens in mixture:
    call(tokens)
print(resident() / before)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 1.02


def _foreign(path: Path) -> Path:
    return click_model.build(path, metadata=None)


def _newer(path: Path) -> Path:
    return click_model.build(path, metadata='{"schema_version": 2, "surprise": true}')


def _broken_manifest(path: Path) -> Path:
    return click_model.build(path, metadata="{}")


def _corrupt(path: Path) -> Path:
    data = bytearray(click_model.build(path).read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(data)
    return path


def _short(path: Path) -> Path:
    path.write_bytes(click_model.build(path).read_bytes()[:500])
    return path


def _text(path: Path) -> Path:
    path.write_text("no model at all")
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _other_state(path: Path) -> Path:
    return click_model.build_with_states(path, {"state_audio": (99,), "state_cache": (4, 1)})


def _missing_state(path: Path) -> Path:
    return click_model.build_with_states(path, {"state_audio": (9702,)})


def _extra_output(path: Path) -> Path:
    model = onnx.load(click_model.build(path))
    model.graph.output.append(onnx.helper.make_tensor_value_info("peak", onnx.TensorProto.FLOAT, None))
    onnx.save(model, path)
    return path


def _absent(path: Path) -> Path:
    return path


BAD_MODELS = [
    (_absent, "no such model file"),
    (_empty, "onnxruntime can load"),
    (_text, "onnxruntime can load"),
    (_short, "onnxruntime can load"),
    (_corrupt, "onnxruntime can load"),
    (_foreign, "not a ghostnote model"),
    (_newer, "newer version; upgrade"),
    (_broken_manifest, "schema_version"),
    (_other_state, "'state_audio'"),
    (_missing_state, "state_cache"),
    (_extra_output, "peak"),
]


@pytest.mark.parametrize(("make", "words"), BAD_MODELS)
def test_bad_model_files(make, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path / "bad.onnx")
    with pytest.raises(EngineError, match=words) as caught:
        open_engine(path)
    assert caught.value.exit_code == 7
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # the library's own log lines would say it a second time


@pytest.mark.parametrize(
    ("present", "words"),
    [(set(), "not installed; install exactly one"), ({"onnxruntime", "onnxruntime-gpu"}, "both installed")],
)
def test_onnxruntime_absent_or_twice(
    present: set[str], words: str, click_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name in present:
            return "1.0"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # makes `import onnxruntime` fail
    with pytest.raises(EngineError, match=words):
        open_engine(click_path)


def test_onnxruntime_that_does_not_load(click_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", _only_cpu)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match="does not load"):
        open_engine(click_path)


def _only_cpu(name: str) -> str:
    if name == "onnxruntime":
        return "1.0"
    raise importlib.metadata.PackageNotFoundError(name)


def test_a_checkpoint_is_told_from_a_model(tmp_path: Path) -> None:
    (tmp_path / "my model.PT").write_bytes(b"PK")
    with pytest.raises(EngineError, match="a checkpoint; export it first: export-model "):
        open_engine(tmp_path / "my model.PT")
