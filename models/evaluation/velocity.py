"""Velocity of matched hits against references that have one: error, correlation, and mir_eval's F with velocity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .notes import Note
from .scores import rates, reduce_label

__all__ = ["velocity_errors", "velocity_f"]

_NOTE_S = 0.05  # mir_eval wants an end of every note; it is not compared
_MOST_POINTS = 3000  # of the picture


def velocity_errors(pairs: Iterable[tuple[str, Note, Note]], names: Sequence[str]) -> dict[str, Any]:
    """Per class and pooled, from matched hits: number, mean absolute error and mean error (0..1), Pearson's r.

    The error is estimate minus reference. r is None for fewer than three hits or where one side never changes.
    """
    known = [
        (name, r.velocity, e.velocity) for name, r, e in pairs if r.velocity is not None and e.velocity is not None
    ]
    values = np.array([(r, e) for _, r, e in known], float).reshape(-1, 2)
    of = np.array([name for name, *_ in known], str)
    rows = {name: _row(values[of == name]) for name in names if name in of} | {"pooled": _row(values)}
    step = max(1, -(-len(known) // _MOST_POINTS))
    # Class by class: a rare one would fall between the steps.
    shown = [pair for name in rows for pair in [some for some in known if some[0] == name][::step]]
    return {"classes": rows, "points": [[n, round(r, 4), round(e, 4)] for n, r, e in shown]}


def _row(values: np.ndarray) -> dict[str, Any]:
    """Statistics of (reference, estimate) pairs [n, 2]."""
    if not len(values):
        return {"n": 0, "mean_abs": None, "mean": None, "r": None}
    reference, estimate = values.T
    varies = len(values) > 2 and np.ptp(reference) > 0 and np.ptp(estimate) > 0
    return {
        "n": len(values),
        "mean_abs": float(np.abs(estimate - reference).mean()),
        "mean": float((estimate - reference).mean()),
        "r": float(np.corrcoef(reference, estimate)[0, 1]) if varies else None,
    }


def velocity_f(
    estimates: Mapping[str, Sequence[Note]],
    references: Mapping[str, Sequence[Note]],
    names: Sequence[str],
    group: str,
    window_s: float = 0.05,
) -> dict[str, Any]:
    """P, R, F of `mir_eval.transcription_velocity`, counted over all tracks.

    A hit is true if mir_eval finds it (which rounds distances to .1 ms) and its velocity, mapped to the references' by
    the line that fits the track's matched hits best, lies within .1 of the reference's range (Hawthorne et al. 2018).
    """
    import mir_eval

    tp = found = wanted = 0
    for track, reference in references.items():
        ref, est = (_arrays(notes, names, group) for notes in (reference, estimates[track]))
        found, wanted = found + len(est[1]), wanted + len(ref[1])
        if len(ref[1]) and len(est[1]):
            pairs = mir_eval.transcription_velocity.match_notes(
                *ref, *est, onset_tolerance=window_s, offset_ratio=None, velocity_tolerance=0.1
            )
            tp += len(pairs)
    return rates(tp, found - tp, wanted - tp)


def _arrays(notes: Sequence[Note], names: Sequence[str], group: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What mir_eval takes: intervals [n, 2] in seconds, pitches in Hz (one octave per class), velocities 0..127.

    Notes whose velocity is not known are left out; of several of one class at one time the loudest stands for all.
    """
    kept: dict[tuple[float, str], float] = {}
    for note in notes:
        name = reduce_label(note.label, group)
        if name is not None and name in names and note.velocity is not None:
            kept[note.time_s, name] = max(note.velocity, kept.get((note.time_s, name), 0.0))
    start_s = np.array([time_s for time_s, _ in kept], float)
    pitch_hz = np.array([55.0 * 2 ** names.index(name) for _, name in kept], float)
    velocity = np.array([127 * value for value in kept.values()], float)
    return np.stack([start_s, start_s + _NOTE_S], axis=1), pitch_hz, velocity
