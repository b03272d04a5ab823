"""Two builds compared: interleaved times in rounds, and what does not vary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...models.evaluation.inputs import references
from ...models.evaluation.scores import reduce_label
from ...runtime.errors import EngineError
from ..measuring import labelled_recordings
from ..suites.arithmetic import gflop_per_second
from .builds import Build, Worker
from .hits import hit_metrics
from .statistics import Metric, Verdict, judge_ratio, judge_stable, ratio_interval

__all__ = ["Plan", "compare"]

TIMED = {"file": "whole file, CPU time", "live": "20 ms chunks, CPU time"}
PAIRS = 12  # of each kind in a round
FIRST_ROUNDS = 5
# What a worker counts in its "facts": key, what a person reads, unit, factor; how much more is no change.
COUNTS = (
    ("python_calls", "calls of functions in 50 chunks", "", 1.0, 0.03, 0.0),
    ("instructions", "instructions in 50 chunks", "millions", 1e-6, 0.02, 0.0),
    ("live_pages", "pages of memory mapped in 50 chunks", "", 1.0, 0.0, 50.0),
    ("file_pages", "pages of memory mapped in 20 s of a file", "", 1.0, 0.0, 500.0),
)
ARITHMETIC_TOLERANCE = 0.01
MODEL_TOLERANCE, SOURCE_TOLERANCE = 0.02, 0.5  # of sizes; source grows with what it can do: only a jump is a regression
ASSETS = "runtime/assets"  # where a build has its bundled models

Answer = Mapping[str, Any]
Pairs = list[tuple[float, float]]
Files = tuple[Path, Path]  # a model in BASE, and in HEAD
Side = tuple[Build, Path]  # a build, and the model that it runs


@dataclass(frozen=True)
class Plan:
    """What is compared: a model (bundled name or file), recordings with exact labels, and how long it may take.

    The labels are (seconds, class code), by recording. Paths are absolute: workers run elsewhere.
    """

    model: str
    recordings: Mapping[str, Path]
    labels: Mapping[str, Sequence[tuple[float, str]]]
    budget_s: float = 600.0

    @classmethod
    def of(cls, engine: str, audio: Path, labels: Path, budget_s: float) -> Plan:
        """The plan of the command's options. Raises InputError where labels or their recordings cannot be read."""
        exact = {
            name: [(time_s, code) for time_s, label in found if (code := reduce_label(label, "all"))]
            for name, found in references(labels).items()
        }
        recordings = {name: path.resolve() for name, path in labelled_recordings(audio, labels, exact).items()}
        model = str(Path(engine).resolve()) if Path(engine).is_file() else engine
        return cls(model, recordings, exact, budget_s)

    @property
    def name(self) -> str:
        """What the model is called in metrics."""
        return Path(self.model).stem


def compare(base: Build, head: Build, plan: Plan, say: Callable[[str], None]) -> list[Metric]:
    """Every metric's verdict; `say` is told how far the work is. Raises EngineError for a build that fails.

    A model trained anew is run from BASE's file by both builds where they are timed and counted: what changed in the
    runtime is to be seen, and what a model may cost at most is said by the suites' limits. Timed are the plan's model,
    and those whose file is another one with the same weights.
    """
    end = time.monotonic() + plan.budget_s
    metrics = [*_removed(base, head, plan), _source(base, head)]
    timed: dict[str, tuple[Side, Side]] = {}
    for name, files in _models(base, head, plan).items():
        say(f"{name}: hits and counts")
        hits = _asked("hits", (base, files[0]), (head, files[1]), plan)
        anew = hits[0]["weights"] != hits[1]["weights"]
        sides = (base, files[0]), (head, files[0] if anew else files[1])
        metrics += hit_metrics(name, *hits, plan.labels)
        metrics += _growth(name, files, stops=not anew)
        metrics += _counts(name, *_asked("facts", *sides, plan))
        if name == plan.name or (not anew and files[0].read_bytes() != files[1].read_bytes()):
            timed[name] = sides
    for number, (name, sides) in enumerate(timed.items()):
        now = time.monotonic()
        share_s = (end - now) / (len(timed) - number)  # what one does not need is the next one's
        metrics += _times(name, *sides, plan, now + share_s, say)
    return metrics


def _times(name: str, base: Side, head: Side, plan: Plan, end: float, say: Callable[[str], None]) -> list[Metric]:
    """Rounds until every time's verdict is clear, or until `end` by the monotonic clock."""
    rounds: list[dict[str, Pairs]] = []
    while True:
        rounds.append(_round(base, head, plan, swapped=len(rounds) % 2 == 1))
        timed = [_timed_metric(name, kind, rounds) for kind in TIMED] if len(rounds) >= FIRST_ROUNDS else []
        say(f"round {len(rounds)}: " + (", ".join(f"{m.name} {m.verdict}" for m in timed) or f"measuring {name}"))
        clear = timed and all(metric.verdict is not Verdict.CANNOT_TELL for metric in timed)
        if clear or (timed and time.monotonic() > end):
            return timed


def _round(base: Side, head: Side, plan: Plan, *, swapped: bool) -> dict[str, Pairs]:
    """A fresh pair of processes and PAIRS pairs of each kind, in the order A B B A ..."""
    with ExitStack() as stack:
        # Whose process is started first changes from round to round.
        order = (head, base) if swapped else (base, head)
        started = [stack.enter_context(Worker(build, str(model), plan.recordings)) for build, model in order]
        base_worker, head_worker = reversed(started) if swapped else started
        workers = (base_worker, head_worker)
        for kind in TIMED:
            for worker in workers:
                worker.ask(kind)  # warm
        return {kind: [_pair(workers, kind, flip=bool(i % 2)) for i in range(PAIRS)] for kind in TIMED}


def _pair(workers: tuple[Worker, Worker], kind: str, *, flip: bool) -> tuple[float, float]:
    base, head = workers
    if flip:
        head_s, base_s = head.ask(kind), base.ask(kind)
    else:
        base_s, head_s = base.ask(kind), head.ask(kind)
    return base_s, head_s


def _timed_metric(model: str, kind: str, rounds: Sequence[Mapping[str, Pairs]]) -> Metric:
    try:
        interval = ratio_interval([done[kind] for done in rounds])
    except ValueError as error:
        raise EngineError(f"{model}: {TIMED[kind]} cannot be compared: {error}") from None
    base_s, head_s = np.median([pair for done in rounds for pair in done[kind]], axis=0).tolist()
    name = f"{model}: {TIMED[kind]}"
    return Metric(name, 1000 * base_s, 1000 * head_s, "ms", judge_ratio(interval), interval)


def _asked(what: str, base: Side, head: Side, plan: Plan) -> tuple[Answer, Answer]:
    """Both sides' answers, one after the other."""

    def answer(side: Side) -> Answer:
        build, model = side
        with Worker(build, str(model), plan.recordings) as worker:
            return worker.ask(what)

    return answer(base), answer(head)


def _models(base: Build, head: Build, plan: Plan) -> dict[str, Files]:
    """What is compared: the file that was named, or all that both builds bundle. Raises EngineError without it."""
    if Path(plan.model).is_file():
        return {plan.name: (Path(plan.model), Path(plan.model))}
    one, two = _bundled(base), _bundled(head)
    for build, models in ((base, one), (head, two)):
        if plan.model not in models:
            names = ", ".join(models)
            raise EngineError(f"{plan.model}: no model file, and {build.name} bundles none of that name (but {names})")
    return {name: (file, two[name]) for name, file in one.items() if name in two}


def _bundled(build: Build) -> dict[str, Path]:
    """The models of a build, by name."""
    return {path.stem: path for path in sorted((build.folder / ASSETS).glob("*.onnx"))}


def _removed(base: Build, head: Build, plan: Plan) -> Iterator[Metric]:
    """Models that only BASE bundles, where all are compared: whoever asks for one by its name would be left alone."""
    if not Path(plan.model).is_file():
        for name in sorted(_bundled(base).keys() - _bundled(head).keys()):
            yield Metric(f"{name}: is bundled", 1, 0, "", Verdict.WORSE)


def _source(base: Build, head: Build) -> Metric:
    sizes = [build.size("runtime/**/*.py") / 1e3 for build in (base, head)]
    return _growing("size of runtime's source", sizes, "kB", SOURCE_TOLERANCE)


def _growth(model: str, files: Files, *, stops: bool) -> Iterator[Metric]:
    """Arithmetic and size of a model, which stop a change or not."""
    work = [gflop for gflop in map(gflop_per_second, files) if gflop is not None]
    if len(work) == 2:
        yield _growing(f"{model}: arithmetic per s of audio", work, "GFLOP", ARITHMETIC_TOLERANCE, stops=stops)
    sizes = [file.stat().st_size / 1e3 for file in files]
    yield _growing(f"{model}: size", sizes, "kB", MODEL_TOLERANCE, stops=stops)


def _counts(model: str, base: Answer, head: Answer) -> Iterator[Metric]:
    """What both builds' workers could count: not every machine lets instructions be counted."""
    for key, name, unit, factor, share, absolute in COUNTS:
        if base[key] is not None and head[key] is not None:
            yield _growing(f"{model}: {name}", [factor * base[key], factor * head[key]], unit, share, absolute)


def _growing(
    name: str, values: Sequence[float], unit: str, share: float, absolute: float = 0.0, *, stops: bool = True
) -> Metric:
    """A number that may grow by a share of itself, or by an absolute amount."""
    base, head = values
    verdict = judge_stable(base, head, max(share * base, absolute), more_is_better=False)
    return Metric(name, base, head, unit, verdict, stops=stops)
