"""Two systems on the same tracks: is one better than the other, or were the tracks lucky?

Interval: a paired bootstrap. Tracks are drawn with replacement, for both systems the same ones, and the pooled F of
each is computed anew (Efron and Tibshirani 1993, ch. 13). p: a permutation test. Were the systems alike, each track's
results might as well be the other's (ch. 15). Letters: D draws, T tracks, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .curves import rates_of

__all__ = ["DRAWS", "paired_bootstrap"]

DRAWS = 10_000
SEED = 20261122
CONFIDENCE = 0.95
KEYS = ("ours", "theirs", "difference", "low", "high", "p")
ROUNDING = 1e-9  # of a difference that is the same, added up otherwise


def paired_bootstrap(
    ours: np.ndarray, theirs: np.ndarray, names: Sequence[str], *, draws: int = DRAWS, seed: int = SEED
) -> dict[str, Any]:
    """Difference of F, ours minus theirs, from counts [T, C, (tp, estimates, references)] of the same tracks.

    Per class and `pooled`: F of both, difference, its 95 % interval, and the two-sided p. Percentiles are moved away
    from the difference as Student's t is wider than a normal distribution, and by sqrt(T / (T - 1)), as few tracks vary
    less among themselves than those that they stand for. p is the share of all ways to exchange whole tracks between
    the systems (of `draws` of them, where there are more) that give as large a difference. One track tells nothing of
    others: interval and p are then None.
    """
    tracks, rng = len(ours), np.random.default_rng(seed)
    one, two = _with_pooled(ours), _with_pooled(theirs)
    f = [_f(counts.sum(0)) for counts in (one, two)]
    difference = f[0] - f[1]
    columns = {"ours": f[0], "theirs": f[1], "difference": difference}
    if tracks > 1:
        columns["low"], columns["high"] = _interval(one, two, difference, rng, draws)
        columns["p"] = _p(one, two, difference, rng, draws)
    known = dict.fromkeys(KEYS) | columns
    rows = {
        name: {key: None if values is None else float(values[c]) for key, values in known.items()}
        for c, name in enumerate([*names, "pooled"])
    }
    return {"tracks": tracks, "draws": draws, "confidence": CONFIDENCE, "classes": rows}


def _with_pooled(counts: np.ndarray) -> np.ndarray:
    """[T, C, 3] -> [T, C + 1, 3]."""
    return np.concatenate([counts, counts.sum(1, keepdims=True)], axis=1)


def _interval(
    one: np.ndarray, two: np.ndarray, difference: np.ndarray, rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval, each [C]."""
    from scipy import stats  # type: ignore[import-untyped]

    tracks, tail = len(one), (1 - CONFIDENCE) / 2
    chosen = rng.multinomial(tracks, np.full(tracks, 1 / tracks), size=draws)  # [D, T]
    drawn = _f(np.tensordot(chosen, one, axes=1)) - _f(np.tensordot(chosen, two, axes=1))  # [D, C]
    wider = stats.t.ppf(1 - tail, tracks - 1) / stats.norm.ppf(1 - tail) * math.sqrt(tracks / (tracks - 1))
    low, high = (difference + wider * (end - difference) for end in np.quantile(drawn, (tail, 1 - tail), axis=0))
    return np.maximum(low, -1.0), np.minimum(high, 1.0)


def _p(one: np.ndarray, two: np.ndarray, difference: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    """Share of exchanges that give as large a difference [C]; what was seen is one of them."""
    tracks = len(one)
    if 2**tracks <= draws:
        exchanged = (np.arange(2**tracks)[:, None] >> np.arange(tracks)) & 1  # [2^T, T]
    else:
        exchanged = np.concatenate([np.zeros((1, tracks), np.int64), rng.integers(0, 2, (draws - 1, tracks))])
    moved = np.tensordot(exchanged, two - one, axes=1)  # [D, C, 3]
    differences = _f(one.sum(0) + moved) - _f(two.sum(0) - moved)
    return (np.abs(differences) >= np.abs(difference) - ROUNDING).mean(0)


def _f(counts: np.ndarray) -> np.ndarray:
    """[..., C, 3] -> F [..., C]."""
    return rates_of(counts)[..., 2]
