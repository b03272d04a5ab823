"""What a hit is taken for: confusion tables inside families of classes that sound alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .notes import Note
from .scores import match, onset_times

__all__ = ["FAMILIES", "confusion"]

FAMILIES: dict[str, tuple[str, ...]] = {
    "hi-hat": ("CHH", "PHH", "OHH"),
    "cymbals": ("RD", "RB", "CRC", "SPC", "CHC"),
    "snare and side-stick": ("SD", "SS"),
}


def confusion(
    estimates: Mapping[str, Sequence[Note]],
    references: Mapping[str, Sequence[Note]],
    family: Sequence[str],
    window_s: float = 0.05,
) -> dict[str, Any]:
    """Counts over all tracks: a row per reference class and `extra`, a column per estimated class and `missed`.

    Hits of the same class are matched first, so the diagonal holds the true positives of `score`; the rest are matched
    by time irrespective of their class inside the family. `extra`: estimates that match nothing. Two hits are one
    confusion, not a miss and a false alarm, only inside the family.
    """
    size = len(family)
    table = np.zeros((size + 1, size + 1), int)
    for track, reference in references.items():
        ref, est = (onset_times([(n.time_s, n.label) for n in notes], "all") for notes in (reference, estimates[track]))
        rest_ref, rest_est = [], []
        for i, code in enumerate(family):
            pairs = match(ref[code], est[code], window_s)
            table[i, i] += len(pairs)
            rest_ref += [(t, i) for t in np.delete(ref[code], [r for r, _ in pairs])]
            rest_est += [(t, i) for t in np.delete(est[code], [e for _, e in pairs])]
        table += _leftovers(sorted(rest_ref), sorted(rest_est), size, window_s)
    return {"classes": list(family), "counts": table.tolist()}


def _leftovers(
    references: list[tuple[float, int]], estimates: list[tuple[float, int]], size: int, window_s: float
) -> np.ndarray:
    """The table of hits that no hit of their own class matches: [size + 1, size + 1]; last row extra, column missed."""
    table = np.zeros((size + 1, size + 1), int)
    pairs = match(np.array([t for t, _ in references]), np.array([t for t, _ in estimates]), window_s)
    for r, e in pairs:
        table[references[r][1], estimates[e][1]] += 1
    taken_ref, taken_est = {r for r, _ in pairs}, {e for _, e in pairs}
    for r, (_, i) in enumerate(references):
        table[i, size] += r not in taken_ref
    for e, (_, i) in enumerate(estimates):
        table[size, i] += e not in taken_est
    return table
