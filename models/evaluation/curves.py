"""Precision against recall while the decision threshold moves. Letters: K thresholds, C classes.

Every point is decoded anew from the network's outputs, with the decoder that users run: at another threshold the
refractory time and the choice among a parent's classes may fall on other frames, so the points do not follow from one
list of hits and their confidences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["THRESHOLDS", "curve_of", "rates_of"]

# Evenly spaced as logits: most of a sure model's hits lie near 0 and 1.
THRESHOLDS: tuple[float, ...] = tuple(np.round(1 / (1 + np.exp(-np.linspace(-4, 5, 37))), 4).tolist())


def rates_of(counts: np.ndarray) -> np.ndarray:
    """Counts [..., (tp, estimates, references)] -> [..., (P, R, F)]; 0 where undefined."""
    tp, estimates, references = np.moveaxis(np.asarray(counts, float), -1, 0)
    return np.stack(
        [
            tp / np.maximum(1, estimates),
            tp / np.maximum(1, references),
            2 * tp / np.maximum(1, estimates + references),
        ],
        axis=-1,
    )


def curve_of(
    counts: np.ndarray, thresholds: Sequence[float], names: Sequence[str], chosen: np.ndarray
) -> dict[str, Any]:
    """Curves by class and pooled, from counts [K, C, 3] at each threshold and `chosen` [C, 3] at the model's own.

    Each: `precision` and `recall` [K] (None where nothing is reported), `operating_point` and the `best` point.
    A class without references is left out.
    """
    rows = {name: (counts[:, c], chosen[c]) for c, name in enumerate(names) if chosen[c, 2]}
    rows["pooled"] = (counts.sum(1), chosen.sum(0))
    return {"thresholds": list(thresholds)} | {"classes": {n: _curve(*row, thresholds) for n, row in rows.items()}}


def _curve(counts: np.ndarray, chosen: np.ndarray, thresholds: Sequence[float]) -> dict[str, Any]:
    precision, recall, f = rates_of(counts).T
    best = int(np.argmax(f))
    return {
        "references": int(chosen[2]),
        "precision": [float(p) if n else None for p, n in zip(precision, counts[:, 1], strict=True)],
        "recall": recall.tolist(),
        "operating_point": dict(zip("PRF", rates_of(chosen).tolist(), strict=True)),
        "best": {"threshold": thresholds[best], "F": float(f[best])},
    }
