"""Hits of two builds against each other and against exact labels: metrics that do not vary from run to run.

A worker's answer to "hits": `weights` (their hash), `thresholds`, and `hits`, by recording and latency ("clip-000 at
100 ms"), of [seconds, class, velocity, confidence] each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...runtime.pairing import paired
from .statistics import Metric, judge_stable

__all__ = ["hit_metrics"]

PAIRED_S = 0.01  # hits of both builds this close are one hit
MATCHED_S = 0.05  # a hit this close to a label is right
HITS_F, HITS_TOLERANCE = 1.0, 0.002  # agreement of two builds' hits; docs/architecture.md allows reduced precision .998
F_TOLERANCE = 0.003

Answer = Mapping[str, Any]
Hits = Sequence[Sequence[Any]]  # (seconds, class, ...) of one recording
Sets = Mapping[str, Hits]


class Detail(NamedTuple):
    """What paired hits may differ in: its place in a hit, how it is shown, and which mean difference is none."""

    name: str
    place: int
    unit: str
    factor: float
    tolerance: float


DETAILS = (
    Detail("times", 0, "ms", 1000.0, 0.5),  # a frame is 10 ms: hits moved within it are still pairs
    Detail("velocities", 2, "", 1.0, 0.002),
    Detail("confidences", 3, "", 1.0, 0.002),
)


def hit_metrics(model: str, base: Answer, head: Answer, labels: Sets) -> Iterator[Metric]:
    """Agreement of hits and their details, and F against `labels`, over all recordings and latencies of both answers.

    A model trained or calibrated anew has hits of its own: where weights or thresholds differ, only F against the
    labels stops a change.
    """
    same = base["weights"] == head["weights"] and base["thresholds"] == head["thresholds"]
    one, two = base["hits"], head["hits"]
    agreement = f_of(one, two, PAIRED_S)
    verdict = judge_stable(HITS_F, agreement, HITS_TOLERANCE, more_is_better=True)
    yield Metric(f"{model}: hits of HEAD against BASE, F at 10 ms", HITS_F, agreement, "", verdict, stops=same)
    for detail in DETAILS:
        apart = detail.factor * mean_difference(one, two, detail.place)
        verdict = judge_stable(0.0, apart, detail.tolerance, more_is_better=False)
        name = f"{model}: {detail.name} of HEAD against BASE, mean difference"
        yield Metric(name, 0.0, apart, detail.unit, verdict, stops=same)
    before, now = (f_of(_wanted(labels, hits), hits, MATCHED_S) for hits in (one, two))
    verdict = judge_stable(before, now, F_TOLERANCE, more_is_better=True)
    yield Metric(f"{model}: F against exact labels, 50 ms", before, now, "", verdict)


def _wanted(labels: Sets, hits: Sets) -> dict[str, Hits]:
    """The labels of each recording at each latency."""
    return {name: labels[name.rpartition(" at ")[0]] for name in hits}


def f_of(reference: Sets, estimate: Sets, within_s: float) -> float:
    """Pooled F of hits paired by class within `within_s`, on the first's recordings."""
    pairs = sum(len(_paired(reference[name], estimate.get(name, ()), within_s)) for name in reference)
    total = sum(len(side.get(name, ())) for side in (reference, estimate) for name in reference)
    return 2 * pairs / total if total else 1.0


def mean_difference(one: Sets, two: Sets, place: int) -> float:
    """Mean absolute difference of the numbers that stand there in paired hits; 0 where there are no pairs."""
    apart = [abs(a[place] - b[place]) for name in one for a, b in _paired(one[name], two.get(name, ()), PAIRED_S)]
    return sum(apart) / len(apart) if apart else 0.0


def _paired(reference: Hits, estimate: Hits, within_s: float) -> list[tuple[Sequence[Any], Sequence[Any]]]:
    """Pairs of one recording."""
    pairs = paired(reference, estimate, within_s, lambda hit: (hit[1], hit[0]))
    return [(reference[i], estimate[j]) for i, j in pairs]
