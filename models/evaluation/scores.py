"""Onset scores: how well estimated hits agree with reference annotations.

Conventions
  Labels are pairs (time in seconds, label); in a file, lines `seconds<TAB>label[<TAB>...]`. A label is a MIDI note
  number, one of our 18 class codes, an MDB Drums class (KD SD HH TT CY OT) or subclass (SDG, HFT, ...), or one of the
  five classes BD SD TT HH CY.
  Groups: `five` is BD SD TT HH CY; `five-adtof` counts side-stick and clap as SD; `three` is BD SD HH; `all` is our 18
  classes, for which the labels must be fine enough. Labels that belong to no class of the group are dropped on both
  sides.
  Exact duplicates (same class, same time) count once, in references and estimates.
  Matching is one-to-one and maximal per class and track (mir_eval.util.match_events),
  |t_est - t_ref| <= window.
  Micro: TP, FP, FN summed over tracks and classes. Times in seconds (`_s`), errors in milliseconds (`_ms`), estimate
  minus reference.
  A class or a track with neither reference nor estimate has F = 0, and is no part of the mean of per-track F.
Needs numpy; mir_eval (extra `eval`) only when a score is computed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.errors import InputError, UsageError
from ...runtime.vocabulary import CODES, FIVE_CLASSES, code_of_note, five_class

__all__ = [
    "GROUPS",
    "LabelError",
    "Labels",
    "class_names",
    "classes_of",
    "code_of_label",
    "known_group",
    "read_labels",
    "reduce_label",
    "score",
    "track_counts",
]

Labels = Sequence[tuple[float, str]]

GROUPS: dict[str, tuple[str, ...]] = {
    "five": FIVE_CLASSES,
    "five-adtof": FIVE_CLASSES,
    "three": ("BD", "SD", "HH"),
    "all": CODES,
}
ROUNDING_S = 1e-9  # keeps hits on a 10 ms grid inside a window that they exactly fill

# MDB Drums: class names that differ from ours, and subclasses. SDF flam, SDG ghost, SDD drag, SDNS no snares.
_CODE_OF_MDB = (
    {"KD": "BD", "SST": "SS", "TMB": "TB"}
    | dict.fromkeys(("SDB", "SDD", "SDF", "SDG", "SDNS"), "SD")
    | {"HIT": "HT", "MHT": "MT", "HFT": "LT", "LFT": "LT"}
    | {"CRC": "CRC", "CHC": "CHC", "SPC": "SPC", "RDC": "RD", "RDB": "RB"}
)
_COARSE = ("TT", "HH", "CY")  # labels of the five-class kind that no single code stands for
_NO_CLASS = ("OT", "OTHER")


def known_group(name: str) -> str:
    """The name of a way of grouping classes, a key of `GROUPS`. Raises UsageError for any other."""
    if name not in GROUPS:
        raise UsageError(f"cannot score classes '{name}'; choose one of {', '.join(GROUPS)}")
    return name


class LabelError(InputError):
    """A label file that cannot be read as labels, or labels too coarse for the classes asked for."""


def score(
    estimates: Mapping[str, Labels],
    references: Mapping[str, Labels],
    *,
    window_s: float = 0.05,
    group: str = "five",
    labelled: Collection[str] = (),
) -> dict[str, Any]:
    """Score the tracks of `references`: per class, pooled (`micro`), and the mean of per-track F.

    `estimates` may hold more tracks, not fewer. `labelled`: see `class_names`.
    Rows hold P, R, F (0..1), tp, fp, fn, mean_abs_ms and median_ms (None without a match).
    """
    _check_tracks(estimates, references)
    names = class_names(group, labelled)
    counts = {name: np.zeros(3, int) for name in names}
    errors_ms: dict[str, list[float]] = {name: [] for name in names}
    per_track: dict[str, float] = {}
    counted: list[float] = []  # F of the tracks that have a hit on either side
    for track in sorted(references):
        ref, est = onset_times(references[track], group), onset_times(estimates[track], group)
        total = np.zeros(3, int)
        for name in names:
            pairs = match(ref[name], est[name], window_s)
            tally = np.array([len(pairs), len(est[name]) - len(pairs), len(ref[name]) - len(pairs)])
            counts[name] += tally
            total += tally
            errors_ms[name] += [1000 * (est[name][e] - ref[name][r]) for r, e in pairs]
        per_track[track] = rates(*map(int, total))["F"]
        if total.any():
            counted.append(per_track[track])
    pooled_ms = [error for values in errors_ms.values() for error in values]
    return {
        "window_s": window_s,
        "tracks": per_track,
        "classes": {name: rates(*map(int, counts[name])) | timing(errors_ms[name]) for name in names},
        "micro": rates(*map(int, sum(counts.values(), np.zeros(3, int)))) | timing(pooled_ms),
        "mean_track_F": float(np.mean(counted or [0.0])),
    }


def track_counts(
    estimates: Mapping[str, Labels],
    references: Mapping[str, Labels],
    *,
    window_s: float = 0.05,
    group: str = "five",
    labelled: Collection[str] = (),
) -> np.ndarray:
    """What the rates of `score` are made of: [tracks in sorted order, classes, (tp, estimates, references)], int."""
    _check_tracks(estimates, references)
    names = class_names(group, labelled)
    counts = np.zeros((len(references), len(names), 3), int)
    for row, track in zip(counts, sorted(references), strict=True):
        ref, est = onset_times(references[track], group), onset_times(estimates[track], group)
        row[:] = [(len(match(ref[n], est[n], window_s)), len(est[n]), len(ref[n])) for n in names]
    return counts


def class_names(group: str, labelled: Collection[str] = ()) -> tuple[str, ...]:
    """The classes of `group` that count: all, or those of which a corpus labels something.

    `labelled` holds class codes or names of the five classes; of one whose members are named, too, no other member
    counts by itself. Raises UsageError where it names something else, or nothing of the group.
    """
    if unknown := sorted(set(labelled) - {*CODES, *FIVE_CLASSES}):
        raise UsageError(f"no classes: {', '.join(unknown)}; --labelled takes class codes, or {' '.join(FIVE_CLASSES)}")
    apart = {five_class(code) for code in labelled if code not in FIVE_CLASSES} if group == "all" else set()
    whole = {name for name in labelled if name not in apart}
    codes = {code for code in CODES if not labelled or code in labelled or five_class(code) in whole}
    names = tuple(name for name in GROUPS[group] if any(reduce_label(code, group) == name for code in codes))
    if not names:
        raise UsageError(f"the labelled classes ({', '.join(labelled)}) leave nothing to score of '{group}'")
    return names


def _check_tracks(estimates: Mapping[str, Labels], references: Mapping[str, Labels]) -> None:
    missing = sorted(set(references) - set(estimates))
    if missing or not references:
        raise LabelError(f"no estimate for: {', '.join(missing)}" if missing else "no reference tracks to score with")


def match(reference_s: np.ndarray, estimate_s: np.ndarray, window_s: float) -> list[tuple[int, int]]:
    """Largest one-to-one matching of two sorted arrays of seconds, as pairs (reference index, estimate index)."""
    if not len(reference_s) or not len(estimate_s):
        return []
    import mir_eval  # brings scipy: only where something is scored

    return list(mir_eval.util.match_events(reference_s, estimate_s, window_s + ROUNDING_S))


def rates(tp: int, fp: int, fn: int) -> dict[str, Any]:
    """Precision, recall and F (0 where undefined) beside the counts that they come from."""
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0
    return {"P": precision, "R": recall, "F": f, "tp": tp, "fp": fp, "fn": fn}


def timing(errors_ms: list[float]) -> dict[str, float | None]:
    """Mean absolute and median error of matched hits, in milliseconds."""
    if not errors_ms:
        return {"mean_abs_ms": None, "median_ms": None}
    return {"mean_abs_ms": float(np.mean(np.abs(errors_ms))), "median_ms": float(np.median(errors_ms))}


def onset_times(labels: Labels, group: str) -> dict[str, np.ndarray]:
    """Seconds per class of `group`, sorted, without exact duplicates."""
    times: dict[str, list[float]] = {name: [] for name in GROUPS[group]}
    for time_s, label in labels:
        name = reduce_label(label, group)
        if name is not None:
            times[name].append(time_s)
    return {name: np.unique(np.array(values, dtype=float)) for name, values in times.items()}


def classes_of(labels: Iterable[tuple[float, str]], group: str) -> set[str]:
    """The classes of `group` that occur in `labels`."""
    return {name for _, label in labels if (name := reduce_label(label, group)) is not None}


def reduce_label(label: str, group: str) -> str | None:
    """The class of `group` that a label belongs to, or None. Raises LabelError for an unknown label."""
    name = code_of_label(label)
    if name in _COARSE:
        if group == "all":
            raise LabelError(f"label {label!r} is too coarse for 18 classes; score fewer, or use finer labels")
        five: str | None = name
    elif name is None or group == "all":
        return name
    else:
        five = five_class(name, adtof=group == "five-adtof")
    return five if five in GROUPS[group] else None


def code_of_label(label: str) -> str | None:
    """Our code, or one of TT HH CY, for a label; None for a note or class that is no drum of ours."""
    text = label.strip().upper()
    if text in CODES or text in _COARSE:
        return text
    if text in _CODE_OF_MDB:
        return _CODE_OF_MDB[text]
    if text in _NO_CLASS:
        return None
    try:
        return code_of_note(int(float(text)))
    except (ValueError, OverflowError):
        raise LabelError(f"unknown label {label!r}; expected a MIDI note, a class code or an MDB Drums class") from None


def read_labels(path: Path) -> list[tuple[float, str]]:
    """Read `seconds label [...]` lines; shorter lines are skipped. Raises LabelError, also where all are shorter."""
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        found = [(_seconds(row[0]), row[1]) for row in rows if len(row) >= 2]
        if rows and not found:
            raise ValueError(f"the first line is {' '.join(rows[0])!r}")
        return found
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # UnicodeDecodeError is one
        raise LabelError(f"{path}: not a label file ({error}); expected lines 'seconds<TAB>label'") from None


def _seconds(text: str) -> float:
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError(f"{text} is no time")
    return seconds
