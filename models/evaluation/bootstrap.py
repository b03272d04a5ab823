"""Paired bootstrap over tracks: is one system better than another, or were the tracks lucky?

Tracks are drawn with replacement, for both systems the same ones, and the pooled F of each is computed anew (Efron and
Tibshirani 1993, ch. 13 and 15.4). Letters: D draws, T tracks, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .curves import rates_of

__all__ = ["DRAWS", "paired_bootstrap"]

DRAWS = 10_000
SEED = 20261122
CONFIDENCE = 0.95
SEEN = ("ours", "theirs", "difference")  # what needs no draws


def paired_bootstrap(
    ours: np.ndarray, theirs: np.ndarray, names: Sequence[str], *, draws: int = DRAWS, seed: int = SEED
) -> dict[str, Any]:
    """Difference of F, ours minus theirs, from counts [T, C, (tp, estimates, references)] of the same tracks.

    Per class and `pooled`: F of both, difference, the 95 % interval of the percentile method, and the two-sided p,
    twice the smaller share of draws on either side of 0 (ties count to both; at most 1). One track can only be drawn
    again and again, which tells nothing of others: interval and p are then None.
    """
    tracks = len(ours)
    chosen = np.random.default_rng(seed).multinomial(tracks, np.full(tracks, 1 / tracks), size=draws)  # [D, T]
    f, drawn = zip(*(_f_and_draws(_with_pooled(counts), chosen) for counts in (ours, theirs)), strict=True)
    differences = drawn[0] - drawn[1]  # [D, C + 1]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, (tail, 1 - tail), axis=0)
    sides = np.stack([(differences <= 0).mean(0), (differences >= 0).mean(0)])
    p = np.minimum(1, 2 * np.maximum(sides.min(0), 1 / draws))  # a share below 1 / draws cannot be told from it
    columns = {"ours": f[0], "theirs": f[1], "difference": f[0] - f[1], "low": low, "high": high, "p": p}
    known = columns if tracks > 1 else dict.fromkeys(columns) | {key: columns[key] for key in SEEN}
    rows = {
        name: {key: None if values is None else float(values[c]) for key, values in known.items()}
        for c, name in enumerate([*names, "pooled"])
    }
    return {"tracks": tracks, "draws": draws, "confidence": CONFIDENCE, "classes": rows}


def _with_pooled(counts: np.ndarray) -> np.ndarray:
    """[T, C, 3] -> [T, C + 1, 3]."""
    return np.concatenate([counts, counts.sum(1, keepdims=True)], axis=1)


def _f_and_draws(counts: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F of all tracks [C], and of every draw [D, C]."""
    return rates_of(counts.sum(0))[..., 2], rates_of(np.tensordot(chosen, counts, axes=1))[..., 2]
