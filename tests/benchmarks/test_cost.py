"""The benchmark's functions on tiny inputs; never how fast anything is."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from ghostnote.benchmarks import cost
from ghostnote.export.signals import drum_like
from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine

PYTHON = (sys.executable, "-c")


def test_drum_like_audio_is_bounded_seeded_and_starts_soon() -> None:
    audio = drum_like(3, 2.0)
    assert audio.shape == (88200,)
    assert audio.dtype == np.float32
    assert 0.05 < np.abs(audio).max() <= 1
    assert np.abs(audio[: 4410 - 1]).max() < 0.02 < np.abs(audio[4410 : 4410 + 2205]).max()
    assert np.array_equal(audio, drum_like(3, 2.0))
    assert not np.array_equal(audio, drum_like(4, 2.0))


@pytest.mark.parametrize(
    ("value", "limit", "verdict"), [(1.0, 1.0, "pass"), (1.1, 1.0, "FAIL"), (None, 1.0, "FAIL"), (9.0, None, "")]
)
def test_verdicts(value: float | None, limit: float | None, verdict: str) -> None:
    assert cost.Figure("", value, "", limit).verdict == verdict


@pytest.mark.parametrize(("name", "file", "chunk"), [("base", 0.75, 4), ("small", 0.45, 2), ("other", None, None)])
def test_limits_are_those_of_the_model(tiny_engine: OnnxRuntimeEngine, name: str, file: float, chunk: float) -> None:
    named = SimpleNamespace(manifest=replace(tiny_engine.manifest, name=name))
    assert cost.limits_of(named) == cost.Limits(file, chunk)


def test_percentiles() -> None:
    assert cost.percentiles(range(1, 101)) == pytest.approx({"p50": 50.5, "p95": 95.05, "p99": 99.01, "max": 100})


@pytest.mark.parametrize("seconds", [0.5, 31.25])
def test_wav_files_have_the_length_asked_for(tmp_path: Path, seconds: float) -> None:
    info = soundfile.info(cost.write_wav(tmp_path / "a.wav", seconds, 8000))
    assert (info.frames, info.channels, info.subtype) == (seconds * 8000, 1, "PCM_16")


def test_matrix_product_speed_is_a_number() -> None:
    assert cost.matrix_product_gflops(size=32, seconds=0.01) > 0


def test_every_chunk_is_timed(tiny_engine: OnnxRuntimeEngine) -> None:
    wall_ms, cpu_ms = cost.chunk_times_ms(tiny_engine, 1764, count=20, warm_up=5)
    assert len(wall_ms) == len(cpu_ms) == 20
    assert min(wall_ms) > 0


def test_whole_file_figures(tiny_engine: OnnxRuntimeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "matrix_product_gflops", lambda: 50.0)
    speed, cpu_ms, equivalents = cost.whole_file_figures(tiny_engine, tmp_path, seconds=1, repeats=1)
    assert speed.value == 50
    assert equivalents.value == pytest.approx(50 * cpu_ms.value / 1000)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_peak_memory_sees_what_was_allocated() -> None:
    small = cost.peak_memory_mb([*PYTHON, "import time; time.sleep(.3)"])
    large = cost.peak_memory_mb([*PYTHON, "import time; x = bytearray(b'x' * 50_000_000); time.sleep(.3)"])
    assert 40 < large - small < 120


def test_peak_memory_of_a_command_that_fails() -> None:
    with pytest.raises(RuntimeError, match="exit code 3: too bad"):
        cost.peak_memory_mb([*PYTHON, "import sys; sys.stderr.write('too bad'); sys.exit(3)"])


def test_first_line() -> None:
    assert cost.first_line_s([*PYTHON, "print('hit', flush=True); import time; time.sleep(60)"]) < 30
    assert cost.first_line_s([*PYTHON, "pass"]) is None


def test_first_hit_of_the_real_command(tiny_onnx: Path, tmp_path: Path) -> None:
    wav = cost.write_wav(tmp_path / "a.wav", 2, 44100)
    assert cost.first_line_s([*cost.TRANSCRIBE, str(wav), "--engine", str(tiny_onnx)]) > 0


def test_the_report_ends_with_one_line_of_json(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("whole_file_figures", "chunk_figures", "command_figures"):
        monkeypatch.setattr(cost, part, lambda *_, part=part: [cost.Figure(part, 1.25, "ms", 2.0)])
    monkeypatch.setattr(cost, "pin_to_one_core", lambda: None)
    cost.bench(engine=tiny_onnx, chunks=100, minutes=1)
    lines = capsys.readouterr().out.splitlines()
    document = json.loads(lines[-1])
    assert [figure["value"] for figure in document["figures"]] == [1.25] * 3
    assert document["card"]["model"] == "tiny"
    assert len(document["card"]["file_sha256"]) == 64
    assert any("chunk_figures" in line and "pass" in line for line in lines[:-1])
