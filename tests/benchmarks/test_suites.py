"""The suites on tiny inputs; never how fast anything is."""

from __future__ import annotations

import math
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
import typer
from host_device import plan_engine
from typer.testing import CliRunner

from ghostnote.benchmarks import command, measuring
from ghostnote.benchmarks.pauses import Pauses, watching
from ghostnote.benchmarks.result import Result
from ghostnote.benchmarks.suites import (
    accuracy,
    arithmetic,
    endurance,
    gpu,
    latency,
    memory,
    parity,
    streams,
    throughput,
    training,
)
from ghostnote.export.parity import TOLERANCES
from ghostnote.export.signals import drum_like
from ghostnote.models.baselines import onsets_and_frames as oaf
from ghostnote.models.checkpoint import Checkpoint, save
from ghostnote.runtime import EngineError, InputError, OutputError, UsageError, open_engine
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
    assert measuring.Figure("", value, "", limit).verdict == verdict


def test_percentiles() -> None:
    assert measuring.percentiles(range(1, 101)) == pytest.approx({"p50": 50.5, "p95": 95.05, "p99": 99.01, "max": 100})


@pytest.mark.parametrize("seconds", [0.5, 31.25])
def test_wav_files_have_the_length_asked_for(tmp_path: Path, seconds: float) -> None:
    info = soundfile.info(measuring.write_wav(tmp_path / "a.wav", seconds, 8000))
    assert (info.frames, info.channels, info.subtype) == (seconds * 8000, 1, "PCM_16")


def test_matrix_product_speed_is_a_number() -> None:
    assert measuring.matrix_product_gflops(size=32, seconds=0.01) > 0


def test_every_chunk_is_timed(tiny_engine: OnnxRuntimeEngine) -> None:
    wall_ms, cpu_ms = latency.chunk_times_ms(tiny_engine, 1764, count=20, warm_up=5)
    assert len(wall_ms) == len(cpu_ms) == 20
    assert min(wall_ms) > 0


def test_whole_file_figures(tiny_engine: OnnxRuntimeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "matrix_product_gflops", lambda: 50.0)
    speed, copying, cpu_ms, times, equivalents = throughput.whole_file_figures(
        tiny_engine, None, tmp_path, seconds=1, repeats=1
    )
    assert speed.value == 50
    assert copying.value > 0
    assert equivalents.value == pytest.approx(50 * cpu_ms.value / 1000)
    assert times.value == pytest.approx(1000 / cpu_ms.value)
    assert 0 < equivalents.theory < 1  # of the bundled `base`: None stands for it


def test_states_are_as_large_as_their_types(tiny_engine: OnnxRuntimeEngine) -> None:
    manifest = tiny_engine.manifest
    full = measuring.state_bytes(manifest)
    assert full == 4 * sum(math.prod(shape) for shape in manifest.states.values())
    halved = replace(manifest, state_types=dict.fromkeys(manifest.states, "float16"))
    assert measuring.state_bytes(halved) == full / 2
    rates = {"bytes_per_s": 1e9, "flop_per_s": 1e9}
    slow, fast = (gpu.gpu(lambda *_: lambda: None, m, "", rates, (1,), (1,))[0][0] for m in (manifest, halved))
    assert slow.theory == pytest.approx(2 * (fast.theory or 0))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_peak_memory_sees_what_was_allocated() -> None:
    small = measuring.peak_memory_mb([*PYTHON, "import time; time.sleep(.3)"])
    script = "import time; x = bytearray(b'x' * 50_000_000); time.sleep(.3)"
    large = measuring.peak_memory_mb([*PYTHON, script])
    wrapped = measuring.peak_memory_mb(["sh", "-c", f"{shlex.join([*PYTHON, script])}; true"])
    assert 40 < large - small < 120
    assert wrapped >= large - 5  # the shell's own is beside it


def test_peak_memory_of_a_command_that_fails() -> None:
    with pytest.raises(EngineError, match=r"exit code 3: too bad$"):
        measuring.peak_memory_mb([*PYTHON, "import sys; sys.stderr.write('much\\ntoo bad'); sys.exit(3)"])


def test_first_line() -> None:
    assert measuring.first_line_s([*PYTHON, "print('hit', flush=True); import time; time.sleep(60)"]) < 30
    assert measuring.first_line_s([*PYTHON, "pass"]) is None


def test_first_hit_of_the_real_command(tiny_onnx: Path, tmp_path: Path) -> None:
    wav = measuring.write_wav(tmp_path / "a.wav", 2, 44100)
    assert measuring.first_line_s([*measuring.TRANSCRIBE, str(wav), "--engine", str(tiny_onnx)]) > 0


def test_latency_keeps_distributions_and_adds_up(
    tiny_engine: OnnxRuntimeEngine, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "STARTS", 1)
    monkeypatch.setattr(latency, "matrix_product_gflops", lambda: 50.0)
    figures, series = latency.latency(tiny_engine, tiny_onnx, chunks=100)
    by_name = {figure.name: figure for figure in figures}
    p50, p99 = (by_name[f"40 ms chunk, {name}"].value for name in ("p50", "p99"))
    assert 0 < p50 <= p99
    assert sorted(series["distribution_ms"]["40 ms chunk"]) == series["distribution_ms"]["40 ms chunk"]
    assert set(series["step_ms"]) == {"1", "4", "16", "64"}
    totals = [figure for figure in figures if figure.name.startswith("attack to report")]
    assert [figure.theory for figure in totals] == [40, 60, 80, 100, 150, 250]


def test_memory_of_the_command(tiny_onnx: Path) -> None:
    short, long = memory.memory(tiny_onnx, 44100, minutes=2)
    assert 20 < short.value < 1000
    assert long.name == "peak memory, 2 minutes"


def test_live_streams_have_their_own_hits(tiny_engine: OnnxRuntimeEngine, tiny_onnx: Path) -> None:
    other = OnnxRuntimeEngine(tiny_onnx)
    figures = {figure.name: figure for figure in streams.streams([tiny_engine, other], 3, seconds=2, max_wait_ms=5)}
    assert figures["streams whose hits differ from a run alone"].value == 0
    assert (figures["CPU time of that call"].value or 0) > 0
    assert (figures["longest pause of the machine"].value or 0) > 0
    late, unexplained = figures["late tokens"], figures["late tokens, none after a pause of the machine"]
    assert late.limit == unexplained.limit == 0
    assert (unexplained.value or 0) <= (late.value or 0)


def test_pauses_are_counted_once_for_all_processors() -> None:
    seen = Pauses(0.03, ((1.0, 1.03), (1.001, 1.031), (5.0, 5.02)))
    assert seen.count == 2
    assert seen.touch(0.9, 1.0)
    assert seen.touch(1.02, 1.1)
    assert seen.touch(4.0, 6.0)
    assert not seen.touch(1.1, 4.9)
    assert not Pauses(0.0, ()).touch(0, 1)


def test_a_machine_is_watched_until_asked() -> None:
    with watching() as seen:
        time.sleep(0.2)
        assert 0 < seen().longest_s < 60
    with watching():
        pass  # not asked: it ends nevertheless


def test_a_long_stream_ends_as_a_fresh_one_would(tiny_engine: OnnxRuntimeEngine) -> None:
    figures = {figure.name: figure for figure in endurance.endurance(tiny_engine, hours=0.05)}
    assert figures["hits of the last hour"].value > 100
    assert figures["of these different from a fresh start"].value == 0


def test_a_model_that_cannot_be_judged_in_the_end_is_refused_at_once(
    tiny_engine: OnnxRuntimeEngine, monkeypatch
) -> None:
    older = replace(tiny_engine.manifest, states={"state_audio": (2466,)})
    monkeypatch.setattr(endurance, "_transcriber", engine_never)
    with pytest.raises(UsageError, match="has no 'state_keys_"):
        endurance.endurance(SimpleNamespace(manifest=older), hours=24)


def test_memory_that_nobody_knows_has_not_stayed_flat(
    tiny_engine: OnnxRuntimeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endurance, "resident_mb", lambda: None)
    *_, first, largest, spread = endurance.endurance(tiny_engine, hours=0.02)
    assert first.value is largest.value is spread.value is None
    assert spread.verdict == "FAIL"


def test_memory_is_judged_after_the_first_part() -> None:
    first, largest, spread = endurance._memory_figures([80.0, 100.0, 103.0, 102.0])
    assert (first.value, largest.value, spread.value) == (80, 103, pytest.approx(3))
    assert spread.verdict == "pass"


def test_parity_of_a_model_with_itself_and_with_another(tiny_onnx: Path) -> None:
    figures = parity.parity(tiny_onnx, [tiny_onnx], threads=1, long_s=2)
    assert [figure.value for figure in figures] == [0, 0, 0, 0]
    assert {figure.verdict for figure in figures} == {"pass", ""}
    assert figures[2].name.endswith("1 - F at 0.01 ms")  # the files are float32; a reduced precision has 10 ms
    assert TOLERANCES["float16"].within_s == 0.01
    with pytest.raises(UsageError, match="other weights"):
        parity.parity(None, [tiny_onnx], threads=1, long_s=2)


def test_a_form_of_a_bundled_model_is_held_against_that_one(root: Path, tiny_onnx: Path) -> None:
    for name in ("base", "small"):
        assert parity.counterpart(root / "checkpoints" / f"{name}.pt") == Path(name)
        assert parity.counterpart(root / "runtime" / "assets" / f"{name}.onnx") == Path(name)
    assert parity.counterpart(tiny_onnx) is None


def test_a_bundled_model_is_held_against_its_checkpoint_in_double_precision(root: Path) -> None:
    figures = parity.parity(Path("base"), [root / "checkpoints" / "base.pt"], threads=1, long_s=60)
    assert not [figure for figure in figures if figure.verdict == "FAIL"]


def test_a_plan_is_tried_with_what_it_takes(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_engine(tiny_onnx, batch=(1, 2), tokens=(4, 20))
    monkeypatch.setattr(
        parity, "open_engine", lambda path, threads: plan if path.suffix == ".plan" else open_engine(path)
    )
    for reference, other in ((tiny_onnx, Path("tiny.plan")), (Path("tiny.plan"), tiny_onnx)):
        figures = parity.parity(reference, [other], threads=1, long_s=2)
        assert {figure.verdict for figure in figures} == {"pass", ""}


def test_a_plan_of_long_calls_is_tried_with_one(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_engine(tiny_onnx, batch=(1, 2), tokens=(150, 160))
    monkeypatch.setattr(
        parity, "open_engine", lambda path, threads: plan if path.suffix == ".plan" else open_engine(path)
    )
    figures = parity.parity(tiny_onnx, [Path("tiny.plan")], threads=1, long_s=1)
    assert {figure.verdict for figure in figures} == {"pass", ""}


def test_a_model_that_hears_the_whole_file_has_no_parity(tmp_path: Path) -> None:
    config = oaf.PRESETS["tiny"]
    save(tmp_path / "oaf.pt", Checkpoint(config, oaf.OnsetsAndFrames(config).state_dict()))
    with pytest.raises(InputError, match=r"oaf\.pt: holds a model of kind onsets-and-frames, expected"):
        parity.parity(tmp_path / "oaf.pt", [tmp_path / "oaf.pt"], threads=1, long_s=2)


def test_accuracy_on_the_generated_set_is_of_use() -> None:
    generated = accuracy.GENERATED
    figures, series = accuracy.accuracy(open_engine("small"), generated / "audio", generated / "labels", "five")
    pooled = [figure.value for figure in figures if figure.name.startswith("F, total latency")]
    assert min(pooled) > 0.6
    assert len(series["f_by_latency_ms"]) == 6


def test_accuracy_of_a_checkpoint_is_named_after_the_folder(tiny: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    for name in ("audio", "labels"):
        (tmp_path / "corpus" / name).mkdir(parents=True)
    save(tmp_path / "tiny.pt", tiny)
    monkeypatch.chdir(tmp_path / "corpus")
    soundfile.write("audio/a.wav", drum_like(0, 1.0), 44100)
    Path("labels/a.txt").write_text("0.1\tBD\n")
    words = [
        "accuracy",
        "--audio",
        "audio",
        "--labels",
        "labels",
        "--engine",
        str(tmp_path / "tiny.pt"),
        "--out",
        "out",
    ]
    ran = CliRunner().invoke(command.bench, words)
    assert ran.exit_code == 0, ran.output
    assert Result.from_json(Path("out/accuracy-tiny.json").read_text()).title == (
        "F at 50 ms, five classes, corpus/audio, labels of corpus/labels"
    )
    Path("audio/a.wav").unlink()
    ran = CliRunner().invoke(command.bench, words)
    assert isinstance(ran.exception, InputError)
    assert "audio: no recordings NAME.* of the labels in labels" in str(ran.exception)


def test_arithmetic_is_unknown_of_a_graph_that_does_not_tell_its_shapes(tiny_onnx: Path, tmp_path: Path) -> None:
    """As onnxruntime's optimiser leaves it: operators of its own, whose outputs ONNX knows nothing about."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(str(tiny_onnx), options, providers=["CPUExecutionProvider"])
    assert arithmetic.gflop_per_second(tmp_path / "optimised.onnx") is None
    assert arithmetic.gflop_per_second(tiny_onnx)


def test_a_suite_from_the_command_line(tiny_onnx: Path, tmp_path: Path) -> None:
    ran = CliRunner().invoke(
        command.bench, ["memory", "--engine", str(tiny_onnx), "--minutes", "1", "--out", str(tmp_path)]
    )
    assert ran.exit_code == 0, ran.output
    document = Result.from_json((tmp_path / "memory-tiny.json").read_text())
    assert document.card["model"] == "tiny"
    assert [figure.name for figure in document.figures] == ["peak memory, 1 minute"]


@pytest.mark.parametrize(
    ("suite", "by_default", "words", "more"),
    [
        ("latency", "Latency on one core, one thread", ["--chunks", "200"], ", 200 chunks"),
        ("memory", "Memory of rt-transcribe", ["--minutes", "5"], ", 5 minutes"),
        (
            "training",
            "Training `base`, 1 thread(s)",
            ["--kits", "some/kits", "--backing", "some/songs", "--seconds", "30"],
            ", kits kits, backing songs, 30 s of rendering",
        ),
    ],
)
def test_titles_tell_the_options_that_are_not_those_by_default(
    suite: str,
    by_default: str,
    words: list[str],
    more: str,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "pin_to_one_core", lambda: None)
    monkeypatch.setattr(latency, "latency", lambda *_: ([], {}))
    monkeypatch.setattr(memory, "memory", lambda *_: [])
    monkeypatch.setattr(training, "training", lambda *_: [])
    for given, title in (([], by_default), (words, by_default + more)):
        assert CliRunner().invoke(command.bench, [suite, *given, "--out", str(tmp_path)]).exit_code == 0
        assert Result.from_json((tmp_path / f"{suite}-base.json").read_text()).title == title
    for stored in root.glob(f"benchmarks/baselines/*/{suite}-base.json"):
        assert Result.from_json(stored.read_text()).title == by_default


def engine_never(*_: object, **__: object) -> None:
    raise AssertionError("the work began")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["training", "--preset", "huge"], "unknown preset 'huge'; expected one of"),
        (["accuracy", "--classes", "foo"], "cannot score classes 'foo'; choose one of five,"),
        (["gpu", "out", "--device", "foo"], "--device foo: PyTorch has no such device here"),
        (["gpu", "out", "--device", "cuda:1"], "give --device cuda, and choose the GPU with CUDA_VISIBLE_DEVICES=1"),
        (["memory", "--minutes", "nan"], "--minutes nan: expected a finite number"),
        (["endurance", "--hours", "nan"], "--hours nan: expected a finite number"),
        (["streams", "--max-wait-ms", "inf"], "--max-wait-ms inf: expected a finite number"),
        (["compare", "a", "b", "--budget-s", "nan"], "--budget-s nan: expected a finite number"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_the_work(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "open_engine", engine_never)
    ran = CliRunner().invoke(command.bench, words)
    assert isinstance(ran.exception, UsageError)
    assert message in str(ran.exception)


def test_training_keeps_to_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "STEPS", 1)
    before = torch.get_num_threads()
    words = ["training", "--preset", "tiny", "--seconds", "1", "--threads", str(before + 1), "--out", str(tmp_path)]
    try:
        ran = CliRunner().invoke(command.bench, words)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert ran.exit_code == 0, ran.output
    document = Result.from_json((tmp_path / "training-tiny.json").read_text())
    assert document.title == f"Training `tiny`, {before + 1} thread(s), 1 s of rendering"
    assert all((figure.value or 0) > 0 for figure in document.figures)


@pytest.mark.parametrize("words", [["memory", "--out"], ["gpu"], ["all"], ["all", "out", "--page"]])
def test_a_folder_that_cannot_be_one_is_refused_before_the_work(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(command, "open_engine", engine_never)
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(command.bench, [*words, "file/page.md" if "--page" in words else "file"])
    assert isinstance(ran.exception, OutputError)
    assert "file: cannot be made a folder" in str(ran.exception)


def test_a_suite_of_its_own_process_fails_with_its_message_and_code(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stop:
        command._in_process("streams", "--engine", "nowhere.onnx")
    assert stop.value.exit_code == EngineError.exit_code
    assert capfd.readouterr().err.startswith("ghostnote: nowhere.onnx: no such model file")
