"""When hits are said to have happened, and when they are said: histograms of both, in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .notes import Note

__all__ = ["emission_times", "histogram", "latency_text", "timing_errors"]

_ROUNDING_MS = 1e-3  # times are kept in whole microseconds

Pairs = Sequence[tuple[str, Note, Note]]  # class, reference, estimate


def timing_errors(pairs: Pairs, window_s: float) -> dict[str, Any]:
    """Estimated minus reference time of matched hits: mean absolute, median, standard deviation, histogram."""
    errors_ms = np.array([1000 * (e.time_s - r.time_s) for _, r, e in pairs])
    if not len(errors_ms):
        return {"n": 0}
    return {
        "n": len(errors_ms),
        "mean_abs_ms": float(np.abs(errors_ms).mean()),
        "median_ms": float(np.median(errors_ms)),
        "sd_ms": float(errors_ms.std()),
        "histogram": histogram(errors_ms, -1000 * window_s, 1000 * window_s, 2.0),
    }


def latency_text(total_latency_ms: float | None) -> str:
    """The latency of an evaluated model in words; None is a model that hears the whole file first."""
    return "whole file" if total_latency_ms is None else f"total latency {total_latency_ms:g} ms"


def emission_times(pairs: Pairs, total_latency_ms: float) -> dict[str, Any]:
    """How long after the attack matched hits came out of a stream, and how many came later than total latency says.

    Twice: `from_reference` counts from the reference's attack, `from_report` from the hit's own time, where being late
    would break the contract (docs/architecture.md).
    """
    reported_s = np.array([e.reported_s for *_, e in pairs], float)
    starts = {
        "from_reference": np.array([r.time_s for _, r, _ in pairs], float),
        "from_report": np.array([e.time_s for *_, e in pairs], float),
    }
    rows = {name: _waited(1000 * (reported_s - start_s), total_latency_ms) for name, start_s in starts.items()}
    return {"n": len(pairs), "total_latency_ms": total_latency_ms, **rows}


def _waited(waited_ms: np.ndarray, limit_ms: float) -> dict[str, Any]:
    if not len(waited_ms):
        return {"late": 0, "median_ms": None, "latest_ms": None, "histogram": None}
    return {
        "late": int((waited_ms > limit_ms + _ROUNDING_MS).sum()),
        "median_ms": float(np.median(waited_ms)),
        "latest_ms": float(waited_ms.max()),
        "histogram": histogram(waited_ms, 0.0, limit_ms + 60, 2.0),
    }


def histogram(values: np.ndarray, low: float, high: float, width: float) -> dict[str, Any]:
    """Counts in bins of `width` from `low` to at least `high`; what lies outside counts in the first or last bin."""
    bins = max(1, int(np.ceil((high - low) / width - 1e-9)))
    place = np.clip(np.floor((values - low) / width).astype(int), 0, bins - 1)
    return {"low": low, "width": width, "counts": np.bincount(place, minlength=bins).tolist()}
