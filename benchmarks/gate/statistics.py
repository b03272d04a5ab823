"""What interleaved measurements of two builds allow to say about the ratio of their times.

A round is a fresh pair of processes. Between processes of one and the same build times differ by some per cent (where
memory lies, what the machine does meanwhile), within a round much less: so rounds, not pairs, are what is resampled
(the cluster bootstrap, Davison & Hinkley 1997, section 3.8), pairs within them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

__all__ = ["Interval", "Metric", "Verdict", "judge_ratio", "judge_stable", "ratio_interval"]

CONFIDENCE = 0.99
RESAMPLES = 2000
MARGIN = 0.02  # a change this small is none
SAME_WITHIN = 0.04  # an interval inside this is "same"
SLOWDOWN_LIMIT = 0.10  # what must be ruled out when nothing else can be said


class Verdict(StrEnum):
    """What is said of a metric."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimated ratio HEAD / BASE with its confidence interval (99 %)."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Metric:
    """A row of the result. For a time `interval` is of the ratio, and base and head are its parts' medians in ms.

    What does not stop a change is only shown.
    """

    name: str
    base: float
    head: float
    unit: str
    verdict: Verdict
    interval: Interval | None = None
    stops: bool = True

    @property
    def fails(self) -> bool:
        """Whether this stops a change: it is worse, or a slowdown over the limit could not be ruled out."""
        if not self.stops:
            return False
        unsure = self.verdict is Verdict.CANNOT_TELL
        return self.verdict is Verdict.WORSE or (
            unsure and self.interval is not None and self.interval.high > 1 + SLOWDOWN_LIMIT
        )


def ratio_interval(rounds: Sequence[Sequence[tuple[float, float]]], seed: int = 0) -> Interval:
    """The ratio of times from rounds of pairs (BASE seconds, HEAD seconds): mean over rounds of the median log ratio.

    Raises ValueError where there are fewer than two rounds, as nothing is known of what differs between processes then,
    and for times that have no ratio: a clock that stood still during a run (coarse ones do), or what is no number.
    """
    if len(rounds) < 2:
        raise ValueError(f"{len(rounds)} round(s); at least 2 are needed")
    for time_s in (time_s for pairs in rounds for pair in pairs for time_s in pair):
        if not 0 < time_s < np.inf:
            raise ValueError(f"a run of {time_s} s: expected more than 0 s; give longer recordings")
    logs = [np.log([head / base for base, head in pairs]) for pairs in rounds]
    rng = np.random.default_rng(seed)
    # Every round's median, resampled within it: [rounds, RESAMPLES].
    medians = np.stack([np.median(rng.choice(log, (RESAMPLES, len(log))), axis=1) for log in logs])
    chosen = rng.integers(len(logs), size=(len(logs), RESAMPLES))
    means = np.take_along_axis(medians, chosen, axis=0).mean(axis=0)
    # Few clusters resampled are too sure of themselves by sqrt(n / (n - 1)): their spread is widened by it.
    centre = float(np.mean([np.median(log) for log in logs]))
    means = centre + (means - centre) * np.sqrt(len(logs) / (len(logs) - 1))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (tail, 1 - tail)).tolist()
    return Interval(float(np.exp(centre)), float(np.exp(low)), float(np.exp(high)))


def judge_ratio(interval: Interval) -> Verdict:
    """The verdict on a time."""
    if interval.low > 1 + MARGIN:
        return Verdict.WORSE
    if interval.high < 1 - MARGIN:
        return Verdict.BETTER
    if interval.low >= 1 - SAME_WITHIN and interval.high <= 1 + SAME_WITHIN:
        return Verdict.SAME
    return Verdict.CANNOT_TELL


def judge_stable(base: float, head: float, tolerance: float, *, more_is_better: bool) -> Verdict:
    """The verdict on a number that does not vary from run to run; differences up to `tolerance` are none.

    What is no number is worse than any: comparisons with NaN are false, so that they ask for what is allowed.
    """
    gain = head - base if more_is_better else base - head
    if gain > tolerance:
        return Verdict.BETTER
    return Verdict.SAME if gain >= -tolerance else Verdict.WORSE
