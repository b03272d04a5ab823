"""Two builds compared: interleaved times in rounds, and what does not vary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...models.evaluation.inputs import audio_files, references
from ...models.evaluation.scores import reduce_label
from ...runtime.errors import EngineError, InputError
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

Side = Mapping[str, Any]
Pairs = list[tuple[float, float]]


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
        recordings = {name: path.resolve() for name, path in audio_files(audio, exact).items()}
        if not recordings:
            raise InputError(
                f"{audio}: no recordings NAME.* of the labels in {labels}; give the folder that holds them"
            )
        model = str(Path(engine).resolve()) if Path(engine).is_file() else engine
        return cls(model, recordings, exact, budget_s)


def compare(base: Build, head: Build, plan: Plan, say: Callable[[str], None]) -> list[Metric]:
    """Every metric's verdict; `say` is told how far the work is. Raises EngineError for a build that fails.

    Where a model was trained anew, both builds are timed with BASE's: what changed in the runtime is to be seen, and
    what a model may cost at most is said by the suites' limits.
    """
    for build in (base, head):
        if not _model(build, plan).is_file():
            names = ", ".join(sorted(path.stem for path in build.folder.glob("runtime/assets/*.onnx")))
            raise EngineError(f"{plan.model}: no model file, and {build.name} bundles none of that name (but {names})")
    end = time.monotonic() + plan.budget_s
    answers = {model: _asked(base, head, plan, "hits", model) for model in _models(base, head, plan)}
    anew = any(one["weights"] != two["weights"] for one, two in answers.values())
    stable = [m for model, pair in answers.items() for m in hit_metrics(Path(model).stem, *pair, plan.labels)]
    stable += _size_metrics(base, head, plan, stops=not anew)
    plan = replace(plan, model=str(_model(base, plan))) if anew else plan
    stable += _counts(*_asked(base, head, plan, "facts", plan.model))
    rounds: list[dict[str, Pairs]] = []
    while True:
        rounds.append(_round(base, head, plan, swapped=len(rounds) % 2 == 1))
        timed = [_timed_metric(kind, rounds) for kind in TIMED] if len(rounds) >= FIRST_ROUNDS else []
        say(f"round {len(rounds)}: " + (", ".join(f"{m.name} {m.verdict}" for m in timed) or "measuring"))
        clear = timed and all(metric.verdict is not Verdict.CANNOT_TELL for metric in timed)
        if clear or (timed and time.monotonic() > end):
            return stable + timed


def _round(base: Build, head: Build, plan: Plan, *, swapped: bool) -> dict[str, Pairs]:
    """A fresh pair of processes and PAIRS pairs of each kind, in the order A B B A ..."""
    with ExitStack() as stack:
        # Whose process is started first changes from round to round.
        order = (head, base) if swapped else (base, head)
        started = [stack.enter_context(Worker(build, plan.model, plan.recordings)) for build in order]
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


def _timed_metric(kind: str, rounds: Sequence[Mapping[str, Pairs]]) -> Metric:
    interval = ratio_interval([done[kind] for done in rounds])
    base_s, head_s = np.median([pair for done in rounds for pair in done[kind]], axis=0).tolist()
    return Metric(TIMED[kind], 1000 * base_s, 1000 * head_s, "ms", judge_ratio(interval), interval)


def _size_metrics(base: Build, head: Build, plan: Plan, *, stops: bool) -> Iterator[Metric]:
    """Arithmetic and size of models, which stop a change or not, and size of the source, which does."""
    known = (gflop_per_second(_model(build, plan)) for build in (base, head))
    work = [gflop for gflop in known if gflop is not None]
    if len(work) == 2:
        yield _growing("arithmetic of the model per s of audio", work, "GFLOP", ARITHMETIC_TOLERANCE, stops=stops)
    for what, pattern in (("bundled models", "runtime/assets/*.onnx"), ("runtime's source", "runtime/**/*.py")):
        sizes = [build.size(pattern) / 1e3 for build in (base, head)]
        # Source grows with what it can do; it is shown, and only a jump is a regression.
        models = "models" in what
        yield _growing(f"size of {what}", sizes, "kB", 0.02 if models else 0.5, stops=stops or not models)


def _models(base: Build, head: Build, plan: Plan) -> list[str]:
    """The models whose hits are compared: the file that was named, or all that both builds bundle."""
    if Path(plan.model).is_file():
        return [plan.model]
    names = [{path.stem for path in build.folder.glob("runtime/assets/*.onnx")} for build in (base, head)]
    return sorted(names[0] & names[1])


def _asked(base: Build, head: Build, plan: Plan, what: str, model: str) -> tuple[Side, Side]:
    """Both builds' answers, one after the other."""

    def answer(build: Build) -> Side:
        with Worker(build, model, plan.recordings) as worker:
            return worker.ask(what)

    return answer(base), answer(head)


def _counts(one: Side, two: Side) -> Iterator[Metric]:
    """What both builds' workers could count: not every machine lets instructions be counted."""
    for key, name, unit, factor, share, absolute in COUNTS:
        if one[key] is not None and two[key] is not None:
            yield _growing(name, [factor * one[key], factor * two[key]], unit, share, absolute)


def _growing(
    name: str, values: Sequence[float], unit: str, share: float, absolute: float = 0.0, *, stops: bool = True
) -> Metric:
    """A number that may grow by a share of itself, or by an absolute amount."""
    base, head = values
    verdict = judge_stable(base, head, max(share * base, absolute), more_is_better=False)
    return Metric(name, base, head, unit, verdict, stops=stops)


def _model(build: Build, plan: Plan) -> Path:
    """The file of the compared model in a build."""
    bundled = build.folder / "runtime" / "assets" / f"{plan.model}.onnx"
    return bundled if bundled.exists() else Path(plan.model)
