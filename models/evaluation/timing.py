"""When hits are said to have happened, and when they are said: histograms of both, in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def emission_times(live: Iterable[Note], pairs: Pairs, total_latency_ms: float) -> dict[str, Any]:
    """How long after the attack hits came out of a stream, and how many came later than total latency says.

    `from_report` counts from a hit's own time, for every hit, right or wrong: being late there would break the contract
    (docs/architecture.md). `from_reference` counts from the reference's attack, for the pairs that match.
    """
    starts = {
        "from_reference": [(r.time_s, e.reported_s) for _, r, e in pairs],
        "from_report": [(hit.time_s, hit.reported_s) for hit in live],
    }
    rows = {
        name: _waited(1000 * np.diff(np.array(times, float).reshape(-1, 2))[:, 0], total_latency_ms)
        for name, times in starts.items()
    }
    return {"total_latency_ms": total_latency_ms, **rows}


def _waited(waited_ms: np.ndarray, limit_ms: float) -> dict[str, Any]:
    if not len(waited_ms):
        return {"n": 0, "late": 0, "median_ms": None, "latest_ms": None, "histogram": None}
    return {
        "n": len(waited_ms),
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
