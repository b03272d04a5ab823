"""Two builds compared: interleaved times in rounds, and what does not vary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...models.evaluation.inputs import audio_files, references
from ...models.evaluation.scores import reduce_label
from ...runtime.errors import EngineError, InputError
from ..suites.arithmetic import gflop_per_second
from .builds import Build, Worker
from .statistics import SLOWDOWN_LIMIT, Interval, Verdict, judge_ratio, judge_stable, ratio_interval

__all__ = ["Metric", "Plan", "compare"]

TIMED = {"file": "whole file, CPU time", "live": "20 ms chunks, CPU time"}
PAIRS = 12  # of each kind in a round
FIRST_ROUNDS = 5
PAIRED_S = 0.01  # hits of both builds this close are one hit
MATCHED_S = 0.05  # a hit this close to a label is right
HITS_F, HITS_TOLERANCE = 1.0, 0.002  # agreement of two builds' hits; docs/architecture.md allows reduced precision .998
F_TOLERANCE = 0.003
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
    """What is compared: a model (bundled name or file), audio with exact labels, and how long it may take.

    The labels are (seconds, class code), by recording. Paths are absolute: workers run elsewhere.
    """

    model: str
    audio: Path
    labels: Mapping[str, Sequence[tuple[float, str]]]
    budget_s: float = 300.0

    @classmethod
    def of(cls, engine: str, audio: Path, labels: Path, budget_s: float) -> Plan:
        """The plan of the command's options. Raises InputError where labels or their recordings cannot be read."""
        exact = {
            name: [(time_s, code) for time_s, label in found if (code := reduce_label(label, "all"))]
            for name, found in references(labels).items()
        }
        if not audio_files(audio, exact):
            raise InputError(
                f"{audio}: no recordings NAME.* of the labels in {labels}; give the folder that holds them"
            )
        model = str(Path(engine).resolve()) if Path(engine).is_file() else engine
        return cls(model, audio.resolve(), exact, budget_s)


@dataclass(frozen=True)
class Metric:
    """A row of the result. For a time `interval` is of the ratio, and base and head are its parts' medians in ms."""

    name: str
    base: float
    head: float
    unit: str
    verdict: Verdict
    interval: Interval | None = None

    @property
    def fails(self) -> bool:
        """Whether this stops a change: it is worse, or a slowdown over the limit could not be ruled out."""
        unsure = self.verdict is Verdict.CANNOT_TELL
        return self.verdict is Verdict.WORSE or (
            unsure and self.interval is not None and self.interval.high > 1 + SLOWDOWN_LIMIT
        )


def compare(base: Build, head: Build, plan: Plan, say: Callable[[str], None]) -> list[Metric]:
    """Every metric's verdict; `say` is told how far the work is. Raises EngineError for a build that fails."""
    for build in (base, head):
        if not _model(build, plan).is_file():
            names = ", ".join(sorted(path.stem for path in build.folder.glob("runtime/assets/*.onnx")))
            raise EngineError(f"{plan.model}: no model file, and {build.name} bundles none of that name (but {names})")
    end = time.monotonic() + plan.budget_s
    stable = list(_stable_metrics(base, head, plan))
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
        started = [stack.enter_context(_worker(build, plan)) for build in ((head, base) if swapped else (base, head))]
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


def _worker(build: Build, plan: Plan) -> Worker:
    return Worker(build, plan.model, plan.audio)


def _stable_metrics(base: Build, head: Build, plan: Plan) -> Iterator[Metric]:
    sides = []
    for build in (base, head):
        with _worker(build, plan) as worker:
            sides.append(worker.ask("facts"))
    one, two = sides
    agreement = _f([one["hits"], two["hits"]], PAIRED_S)
    same = judge_stable(HITS_F, agreement, HITS_TOLERANCE, more_is_better=True)
    yield Metric("hits of HEAD against BASE, F at 10 ms", HITS_F, agreement, "", same)
    before, now = (_f([plan.labels, side["hits"]], MATCHED_S) for side in sides)
    judged = judge_stable(before, now, F_TOLERANCE, more_is_better=True)
    yield Metric("F against exact labels, 50 ms", before, now, "", judged)
    yield from _counts(one, two)
    known = (gflop_per_second(_model(build, plan)) for build in (base, head))
    work = [gflop for gflop in known if gflop is not None]
    if len(work) == 2:
        yield _growing("arithmetic of the model per s of audio", work, "GFLOP", ARITHMETIC_TOLERANCE)
    for what, pattern in (("bundled models", "runtime/assets/*.onnx"), ("runtime's source", "runtime/**/*.py")):
        sizes = [build.size(pattern) / 1e3 for build in (base, head)]
        # Source grows with what it can do; it is shown, and only a jump is a regression.
        yield _growing(f"size of {what}", sizes, "kB", 0.02 if "models" in what else 0.5)


def _counts(one: Side, two: Side) -> Iterator[Metric]:
    """What both builds' workers could count: not every machine lets instructions be counted."""
    for key, name, unit, factor, share, absolute in COUNTS:
        if one[key] is not None and two[key] is not None:
            yield _growing(name, [factor * one[key], factor * two[key]], unit, share, absolute)


def _growing(name: str, values: Sequence[float], unit: str, share: float, absolute: float = 0.0) -> Metric:
    """A number that may grow by a share of itself, or by an absolute amount."""
    base, head = values
    tolerance = max(share * base, absolute)
    return Metric(name, base, head, unit, judge_stable(base, head, tolerance, more_is_better=False))


def _model(build: Build, plan: Plan) -> Path:
    """The file of the compared model in a build."""
    bundled = build.folder / "runtime" / "assets" / f"{plan.model}.onnx"
    return bundled if bundled.exists() else Path(plan.model)


def _f(sides: Sequence[Mapping[str, Sequence[Sequence[Any]]]], within_s: float) -> float:
    """Pooled F of hits paired by class, each with the nearest free one within `within_s`, on the first's recordings."""
    reference, estimate = sides
    pairs = sum(_paired(reference[name], estimate.get(name, ()), within_s) for name in reference)
    total = sum(len(side.get(name, ())) for side in sides for name in reference)
    return 2 * pairs / total if total else 1.0


def _paired(reference: Sequence[Sequence[Any]], estimate: Sequence[Sequence[Any]], within_s: float) -> int:
    """Pairs of one recording: both sorted by time, taken greedily, which is optimal on a line (per class)."""
    pairs = 0
    for code in {hit[1] for hit in reference}:
        a, b = (sorted(hit[0] for hit in side if hit[1] == code) for side in (reference, estimate))
        i = j = 0
        while i < len(a) and j < len(b):
            if abs(a[i] - b[j]) <= within_s:
                pairs, i, j = pairs + 1, i + 1, j + 1
            elif a[i] < b[j]:
                i += 1
            else:
                j += 1
    return pairs
