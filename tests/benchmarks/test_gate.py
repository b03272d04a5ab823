"""The regression gate: what its statistics promise, what its workers count."""

from __future__ import annotations

import contextlib
import json
import mmap
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostnote.benchmarks.gate import comparison, worker
from ghostnote.benchmarks.gate.builds import Build, Worker, checked_out
from ghostnote.benchmarks.gate.command import as_markdown, compare_builds
from ghostnote.benchmarks.gate.comparison import Plan, compare
from ghostnote.benchmarks.gate.hits import f_of, hit_metrics
from ghostnote.benchmarks.gate.statistics import Interval, Metric, Verdict, judge_ratio, judge_stable, ratio_interval
from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine
from ghostnote.runtime.errors import EngineError, GhostnoteError, InputError

ROUND_NOISE, PAIR_NOISE = 0.01, 0.05  # log: between processes of one build, between pairs of a round


def simulated(ratio: float, rounds: int, seed: int) -> list[list[tuple[float, float]]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(rounds):
        between = rng.normal(0, ROUND_NOISE)
        base = np.exp(rng.normal(0, PAIR_NOISE, comparison.PAIRS))
        head = ratio * np.exp(between + rng.normal(0, PAIR_NOISE, comparison.PAIRS))
        found.append(list(zip(base.tolist(), head.tolist(), strict=True)))
    return found


def verdict_after(ratio: float, seed: int, most: int = 40) -> Verdict:
    """As `compare` does it: rounds are added until something can be said."""
    rounds = simulated(ratio, most, seed)
    for count in range(comparison.FIRST_ROUNDS, most + 1):
        verdict = judge_ratio(ratio_interval(rounds[:count]))
        if verdict is not Verdict.CANNOT_TELL:
            return verdict
    return Verdict.CANNOT_TELL


def test_identical_builds_raise_no_alarm() -> None:
    verdicts = [verdict_after(1.0, seed) for seed in range(20)]
    assert Verdict.WORSE not in verdicts
    assert verdicts.count(Verdict.SAME) >= 16


@pytest.mark.parametrize(("ratio", "expected"), [(1.2, Verdict.WORSE), (1.05, Verdict.WORSE), (0.8, Verdict.BETTER)])
def test_changes_are_found(ratio: float, expected: Verdict) -> None:
    assert all(verdict_after(ratio, seed) is expected for seed in range(6))


@settings(max_examples=20)
@given(st.floats(0.5, 2.0), st.integers(0, 1000))
def test_the_interval_holds_the_estimate_and_turns_over_with_the_builds(ratio: float, seed: int) -> None:
    rounds = simulated(ratio, 6, seed)
    there = ratio_interval(rounds)
    back = ratio_interval([[(head, base) for base, head in pairs] for pairs in rounds])
    assert there.low <= there.estimate <= there.high
    assert there.estimate * back.estimate == pytest.approx(1)


def test_one_round_says_nothing() -> None:
    with pytest.raises(ValueError, match="1 round"):
        ratio_interval(simulated(1, 1, 0))


@pytest.mark.parametrize("time_s", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("side", [0, 1])
def test_times_without_a_ratio_are_no_verdict(time_s: float, side: int) -> None:
    """A NaN in an interval would be a slowdown that is ruled out: it is not over the limit."""
    rounds = simulated(1, 5, 0)
    rounds[2][3] = (1.0, time_s) if side else (time_s, 1.0)
    with pytest.raises(ValueError, match=f"a run of {time_s} s: expected more than 0 s"):
        ratio_interval(rounds)
    with pytest.raises(EngineError, match="small: whole file, CPU time cannot be compared: a run of"):
        comparison._timed_metric("small", "file", [{"file": pairs} for pairs in rounds])


@pytest.mark.parametrize(
    ("base", "head", "more_is_better", "expected"),
    [
        (0.9, float("nan"), True, Verdict.WORSE),
        (0.9, float("nan"), False, Verdict.WORSE),
        (0.9, 0.898, True, Verdict.SAME),
        (0.9, 0.89, True, Verdict.WORSE),
        (0.9, 0.91, True, Verdict.BETTER),
        (100, 104, False, Verdict.WORSE),
    ],
)
def test_stable_numbers(base: float, head: float, more_is_better: bool, expected: Verdict) -> None:
    assert judge_stable(base, head, 0.003, more_is_better=more_is_better) is expected


@pytest.mark.parametrize(
    ("verdict", "high", "fails"),
    [
        (Verdict.WORSE, 1.06, True),
        (Verdict.CANNOT_TELL, 1.11, True),
        (Verdict.CANNOT_TELL, 1.09, False),
        (Verdict.SAME, 1.01, False),
        (Verdict.BETTER, 0.9, False),
    ],
)
def test_what_stops_a_change(verdict: Verdict, high: float, fails: bool) -> None:
    metric = Metric("file", 10.0, 10.5, "ms", verdict, Interval(high - 0.03, high - 0.06, high))
    assert metric.fails is fails
    assert ("**" in as_markdown([metric], "a", "b")) is fails


def test_large_numbers_are_shown_whole_and_names_stay_in_their_cell() -> None:
    table = as_markdown([Metric("a|b: size", 11100.4, 12345.6, "kB", Verdict.WORSE)], "one", "two")
    assert "| a\\|b: size | 11100 kB | 12346 kB |  | **worse** |" in table


def test_hits_are_paired_once() -> None:
    labels = {"a": [[0.0, "BD", 1], [0.04, "BD", 1], [1.0, "SD", 1]], "b": []}
    hits = {"a": [[0.03, "BD", 1], [1.01, "SD", 1], [1.02, "SD", 1]], "b": [[0.5, "BD", 1]]}
    assert f_of(labels, hits, 0.05) == pytest.approx(2 * 2 / (3 + 4))
    assert f_of(labels, labels, 0.01) == 1
    assert f_of({}, {}, 0.01) == 1
    assert f_of({"b": labels["a"]}, {"a": hits["a"], "b": labels["a"]}, 0.05) == 1  # "a" has no labels


def answers(
    velocity: float = 0.5, weights: str = "w", late_s: float = 0.0, confidence: float = 0.9, threshold: float = 0.5
) -> dict[str, Any]:
    hits = [[0.5 + late_s, "BD", velocity, confidence], [1.0, "SD", 0.5, 0.9]]
    return {"weights": weights, "thresholds": [[threshold]], "hits": {f"a at b at {ms} ms": hits for ms in (40, 100)}}


LABELS = {"a at b": [(0.5, "BD"), (1.0, "SD")]}


@pytest.mark.parametrize(
    ("head", "failing"),
    [
        (answers(), []),
        (answers(velocity=0.0), ["velocities"]),
        (answers(confidence=0.8), ["confidences"]),
        (answers(late_s=0.0009), []),  # of one of two hits
        (answers(late_s=0.002), ["times"]),
        (answers(late_s=-0.009), ["times"]),
        (answers(late_s=0.02), ["hits"]),
        (answers(late_s=0.2), ["hits", "F against"]),
        (answers(weights="others", velocity=0.0, late_s=0.02), []),
        (answers(weights="others", confidence=0.0, late_s=0.009), []),
        (answers(weights="others", late_s=0.2), ["F against"]),
        (answers(threshold=0.4, late_s=0.02), []),
        (answers(threshold=0.4, late_s=0.2), ["F against"]),
    ],
)
def test_what_hits_stop_a_change(head: dict[str, Any], failing: list[str]) -> None:
    failed = [m.name.removeprefix("small: ") for m in hit_metrics("small", answers(), head, LABELS) if m.fails]
    assert len(failed) == len(failing)
    assert all(name.startswith(start) for name, start in zip(failed, failing, strict=True))


def test_times_are_told_in_milliseconds() -> None:
    found = {m.name: m for m in hit_metrics("small", answers(), answers(late_s=0.003), LABELS)}
    times = found["small: times of HEAD against BASE, mean difference"]
    assert (times.head, times.unit) == (pytest.approx(1.5), "ms")


def test_builds_by_folder_and_by_revision(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with checked_out(str(root)) as build:
        assert build.folder == root
        assert build.size("runtime/assets/*.onnx") > 1e6
    with (
        pytest.raises(InputError, match=r"not a checkout of ghostnote \(no .types/ghostnote\)"),
        checked_out(str(tmp_path)),
    ):
        pass
    repository = tmp_path / "repository"
    _git(tmp_path, "init", "-q", str(repository))
    (repository / "a").write_text("1")
    _git(repository, "add", "a")
    _git(repository, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "one")
    monkeypatch.chdir(repository)
    with checked_out("HEAD") as build:
        assert (build.folder / "a").read_text() == "1"
    assert not build.folder.exists()
    with pytest.raises(InputError, match="give the folder of a checkout, or a revision"), checked_out("nowhere"):
        pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="git cannot be run"), checked_out("HEAD"):
        pass


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def recordings(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def generated(root: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two clips of the generated set."""
    folders = tmp_path / "audio", tmp_path / "labels"
    for folder in folders:
        folder.mkdir()
        for path in sorted((root / "benchmarks" / "generated" / folder.name).iterdir())[:2]:
            shutil.copy(path, folder)
    return folders


def test_a_worker_counts_the_same_every_time(root: Path, tiny_onnx: Path, generated: tuple[Path, Path]) -> None:
    with Worker(Build("here", root), str(tiny_onnx), recordings(generated[0])) as process:
        first, second = process.ask("facts"), process.ask("facts")
        hits = process.ask("hits")
        assert hits == process.ask("hits")
        assert process.ask("live") > 0
        assert process.ask("file") > 0
    for facts in (first, second):
        assert facts.pop("live_pages") < 50
        assert facts.pop("file_pages") < 500
        assert (facts.pop("instructions") or 1e6) > 1e5
    assert first == second
    assert first["python_calls"] > 1000
    manifest = OnnxRuntimeEngine(tiny_onnx).manifest
    assert hits["weights"] == manifest.weights_sha256
    expected = {manifest.total_latency_ms(i) for i in (0, len(manifest.delays_ms) - 1)} | {100}
    assert all(
        0 <= velocity <= 1 and 0 < confidence <= 1
        for found in hits["hits"].values()
        for *_, velocity, confidence in found
    )
    assert set(hits["hits"]) == {f"{name} at {ms:g} ms" for name in ("clip-000", "clip-001") for ms in expected}


# A build that is only what the worker asks of one, and a module of Python's whose name one beside the worker has, too.
STUB = """
from statistics import fmean
from types import SimpleNamespace

Engine = StreamingTranscriber = object
transcribe_file = lambda path, engine, latency_ms: []


def open_engine(model):
    ms = SimpleNamespace(sample_rate=44100, weights_sha256="w", delays_ms=[10], total_latency_ms=lambda i: fmean([40]))
    ms.decoder = SimpleNamespace(thresholds=[[0.5]])
    return SimpleNamespace(manifest=ms)
"""


def test_a_worker_hides_no_module_of_python(generated: tuple[Path, Path], tmp_path: Path) -> None:
    package = tmp_path / "build" / ".types" / "ghostnote"
    (package / "runtime").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "runtime" / "__init__.py").write_text(STUB)
    with Worker(Build("a stub", tmp_path / "build"), "small", recordings(generated[0])) as process:
        nothing = {"clip-000 at 40 ms": [], "clip-001 at 40 ms": []}
        assert process.ask("hits") == {"weights": "w", "thresholds": [[0.5]], "hits": nothing}


def test_pages_tell_kept_buffers_from_new_ones() -> None:
    kept = np.ones(1_000_000, np.float32)
    assert (worker.pages(lambda: kept.fill(2)) or 0) < 50
    memory = mmap.mmap(-1, 2000 * mmap.PAGESIZE)  # arrays may come from what earlier tests have freed

    def touch() -> None:
        for place in range(0, len(memory), mmap.PAGESIZE):
            memory[place] = 1

    fresh = worker.pages(touch)
    assert fresh is None or fresh > 1000


def test_instructions_are_counted_where_the_machine_lets_us(monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(turns: int) -> Callable[[], None]:
        return lambda: sum(range(turns)) and None

    few, many = worker.instructions(loop(10_000)), worker.instructions(loop(1_000_000))
    assert few is many is None or 10 < (many or 0) / (few or 1) < 1000
    monkeypatch.setattr(worker.platform, "machine", lambda: "an unknown one")
    assert worker.instructions(loop(1)) is None


def test_counts_that_one_side_lacks_are_left_out() -> None:
    counts = {"python_calls": 1000, "instructions": 5e6, "live_pages": 0, "file_pages": 2}
    other = counts | {"instructions": None, "live_pages": 400}
    found = {m.name: m.verdict for m in comparison._counts("small", counts, other)}
    assert "small: instructions in 50 chunks" not in found
    assert found.pop("small: pages of memory mapped in 50 chunks") is Verdict.WORSE
    assert set(found.values()) == {Verdict.SAME}
    more = list(comparison._counts("small", counts, counts | {"instructions": 5.2e6}))
    assert [m.name for m in more if m.fails] == ["small: instructions in 50 chunks"]


class FakeWorker:
    """A worker whose build and model are as its model file says, in JSON: it measures nothing."""

    def __init__(self, build: Build, model: str, recordings: Mapping[str, Path]) -> None:
        self._says = json.loads(Path(model).read_text())

    def ask(self, what: str) -> Any:
        return self._says[what]

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def fake_model(
    weights: str = "w", *, gflop: float = 0.1, instructions: float = 5e6, file_s: float = 1.0, notes: str = ""
) -> str:
    """What FakeWorker reads; every other number of a model is the same."""
    facts = {"python_calls": 1000, "instructions": instructions, "live_pages": 0, "file_pages": 0}
    times = {"file": file_s, "live": 0.1}
    return json.dumps({"hits": answers(weights=weights), "facts": facts, "gflop": gflop, "notes": notes} | times)


Compared = Callable[[dict[str, str], dict[str, str]], dict[str, Metric]]


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compared:
    """What comes of comparing two builds that bundle these models, with `small` to be timed: metrics by name."""
    monkeypatch.setattr(comparison, "Worker", FakeWorker)
    monkeypatch.setattr(comparison, "gflop_per_second", lambda file: json.loads(file.read_text())["gflop"])

    def build(name: str, models: dict[str, str]) -> Build:
        assets = tmp_path / name / "runtime" / "assets"
        assets.mkdir(parents=True)
        (assets.parent / "__init__.py").write_text("source")
        for model, text in models.items():
            (assets / f"{model}.onnx").write_text(text)
        return Build(name, tmp_path / name)

    def run(base: dict[str, str], head: dict[str, str]) -> dict[str, Metric]:
        asked = Plan("small", {}, LABELS, budget_s=0)
        return {m.name: m for m in compare(build("base", base), build("head", head), asked, lambda line: None)}

    return run


def failing(metrics: dict[str, Metric]) -> set[str]:
    return {name for name, metric in metrics.items() if metric.fails}


def test_two_builds_with_the_same_models(compared: Compared) -> None:
    models = {"base": fake_model(gflop=0.2), "small": fake_model()}
    metrics = compared(models, models)
    assert not failing(metrics)
    assert metrics["base: arithmetic per s of audio"].head == 0.2
    assert {name for name in metrics if "CPU time" in name} == {f"small: {kind}" for kind in comparison.TIMED.values()}


@pytest.mark.parametrize(
    ("changed", "failed"),
    [
        (fake_model(gflop=0.11), "base: arithmetic per s of audio"),
        (fake_model(instructions=6e6), "base: instructions in 50 chunks"),
        (fake_model(notes="a" * 100), "base: size"),
        (fake_model(file_s=1.2), "base: whole file, CPU time"),
    ],
)
def test_what_one_of_the_models_costs_more_is_seen(compared: Compared, changed: str, failed: str) -> None:
    models = {"base": fake_model(), "small": fake_model()}
    assert failing(compared(models, models | {"base": changed})) == {failed}


def test_a_model_that_is_not_bundled_any_more_is_missed(compared: Compared) -> None:
    assert failing(compared({"base": fake_model(), "small": fake_model()}, {"small": fake_model()})) == {
        "base: is bundled"
    }


def test_a_model_trained_anew_excuses_no_other_one(compared: Compared) -> None:
    before = {"base": fake_model(), "small": fake_model()}
    larger = fake_model("others", gflop=0.2, instructions=9e6, file_s=2.0, notes="a" * 100)
    metrics = compared(before, {"base": larger, "small": fake_model(gflop=0.2)})
    assert failing(metrics) == {"small: arithmetic per s of audio"}
    assert metrics["base: arithmetic per s of audio"].verdict is Verdict.WORSE
    assert metrics["base: instructions in 50 chunks"].head == 5  # both builds ran BASE's
    assert "base: whole file, CPU time" not in metrics


def test_a_model_trained_anew_is_timed_with_the_older_one(compared: Compared) -> None:
    models = {"base": fake_model(), "small": fake_model()}
    metrics = compared(models, models | {"small": fake_model("others", file_s=2.0)})
    assert not failing(metrics)
    assert metrics["small: whole file, CPU time"].verdict is Verdict.SAME


def test_a_build_that_fails_is_named(root: Path, generated: tuple[Path, Path], tmp_path: Path) -> None:
    with (
        Worker(Build("mine", root), str(tmp_path / "no.onnx"), recordings(generated[0])) as process,
        pytest.raises(EngineError, match="mine: measuring 'facts' failed"),
    ):
        process.ask("facts")


def test_a_build_that_has_ended_before_it_is_asked_is_named(root: Path, tmp_path: Path) -> None:
    """What could not be sent must not be sent once more when the worker is closed."""
    with (  # noqa: PT012 - closing is what raised
        pytest.raises(EngineError, match="mine: measuring 'facts' failed"),
        Worker(Build("mine", root), str(tmp_path / "no.onnx"), {}) as process,
    ):
        process._process.wait()
        process.ask("facts")


def test_a_plan_is_read_before_anything_is_measured(
    generated: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio, labels = generated
    (labels / "clip-000.txt").write_text("0.5\tBD\n1.5\t38\n2.0\tOT\n")
    (labels / "clip-001.txt").unlink()
    (audio / "notes.md").write_text("no recording")
    (tmp_path / "mine.onnx").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    found = Plan.of("mine.onnx", Path("audio"), labels, 10)
    assert found.labels == {"clip-000": [(0.5, "BD"), (1.5, "SD")]}
    assert (found.model, found.recordings) == (str(tmp_path / "mine.onnx"), {"clip-000": audio / "clip-000.ogg"})
    assert Plan.of("base", audio, labels, 10).model == "base"


def no_recordings(audio: Path, labels: Path) -> None:
    for path in audio.iterdir():
        path.unlink()


def no_labels(audio: Path, labels: Path) -> None:
    for path in labels.iterdir():
        path.unlink()


def coarse_labels(audio: Path, labels: Path) -> None:
    (labels / "clip-000.txt").write_text("0.5\tHH\n")


def broken_labels(audio: Path, labels: Path) -> None:
    (labels / "clip-000.txt").write_text("now\tBD\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_recordings, "audio: no recordings"),
        (no_labels, "labels: holds no references"),
        (coarse_labels, "'HH' is too coarse"),
        (broken_labels, "clip-000.txt: not a label file"),
    ],
)
def test_bad_recordings_and_labels(
    generated: tuple[Path, Path], spoil: Callable[[Path, Path], None], words: str, root: Path
) -> None:
    spoil(*generated)
    with pytest.raises(InputError, match=words):
        compare_builds(str(root), str(root), "small", *generated)


def test_a_model_that_a_build_lacks(root: Path, generated: tuple[Path, Path]) -> None:
    with pytest.raises(EngineError, match=f"tiny: no model file, and {root} bundles none of that name") as caught:
        compare_builds(str(root), str(root), "tiny", *generated)
    assert caught.value.exit_code != GhostnoteError.exit_code  # that one says that a build is worse


def test_two_builds_with_a_model_named_from_here(
    root: Path,
    tiny_onnx: Path,
    generated: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(comparison, "PAIRS", 1)
    monkeypatch.setattr(comparison, "FIRST_ROUNDS", 2)
    shutil.copy(tiny_onnx, tmp_path / "mine.onnx")
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(typer.Exit):  # times of one pair may say anything
        compare_builds(str(root), str(root), "mine.onnx", Path("audio"), Path("labels"), 0, Path("new/table.md"))
    printed = capsys.readouterr().out
    assert Path("new/table.md").read_text() in printed
    found = {metric["name"]: metric for metric in json.loads(printed.splitlines()[-1])["metrics"]}
    assert found["mine: hits of HEAD against BASE, F at 10 ms"]["head"] == 1
    for detail in ("times", "velocities", "confidences"):
        assert found[f"mine: {detail} of HEAD against BASE, mean difference"]["head"] == 0
    assert found["mine: F against exact labels, 50 ms"]["verdict"] == "same"
    assert found.keys() >= {f"mine: {kind}" for kind in comparison.TIMED.values()}
