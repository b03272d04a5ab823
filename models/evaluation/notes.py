"""Hits with what is known about them beyond time and class: how hard they were struck, when they were reported.

References are read from NAME.txt (`seconds label [velocity]`) or NAME.mid. A velocity column holds 0..1, or MIDI's
1..127 where any value of the file lies above 1; a third column that is no number is no velocity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...runtime.events import Hit
from ..data.performances.strokes import MIDI_SUFFIXES, read_strokes
from .scores import LabelError, Labels, code_of_label, match, read_labels, reduce_label

__all__ = ["Note", "in_order", "labels_of", "matched", "note_of", "read_note_folder", "read_notes"]


class Note(NamedTuple):
    """One hit, of a reference or an estimate."""

    time_s: float
    label: str
    velocity: float | None = None  # 0..1
    reported_s: float | None = None  # position of the input when a stream reported the hit


def note_of(hit: Hit, reported_s: float | None = None) -> Note:
    """A hit of the runtime; its time in whole microseconds, as label files hold it."""
    return Note(float(f"{hit.time_s:.6f}"), hit.code, hit.velocity, reported_s)


def in_order(notes: Iterable[Note]) -> list[Note]:
    """Sorted by time and label; velocities that are not known cannot be compared."""
    return sorted(notes, key=lambda note: note[:2])


def labels_of(notes: Iterable[Note]) -> list[tuple[float, str]]:
    """Times and labels alone, as `score` takes them."""
    return [(note.time_s, note.label) for note in notes]


def matched(
    references: Sequence[Note], estimates: Sequence[Note], names: Sequence[str], group: str, window_s: float
) -> list[tuple[str, Note, Note]]:
    """The true positives of `score` for one track: (class, reference, estimate)."""
    pairs = []
    for name in names:
        ref, est = _of_class(references, name, group), _of_class(estimates, name, group)
        found = match(np.array([n.time_s for n in ref]), np.array([n.time_s for n in est]), window_s)
        pairs += [(name, ref[r], est[e]) for r, e in found]
    return pairs


def _of_class(notes: Sequence[Note], name: str, group: str) -> list[Note]:
    """Notes of one class by time; of several at one time (two cymbals in a group) the loudest, as one hears it."""
    by_time: dict[float, Note] = {}
    for note in notes:
        if reduce_label(note.label, group) == name:
            by_time[note.time_s] = max(by_time.get(note.time_s, note), note, key=lambda each: each.velocity or 0.0)
    return [by_time[time_s] for time_s in sorted(by_time)]


def read_notes(path: Path) -> list[Note]:
    """References from a label file or a MIDI file, sorted by time. Raises InputError where it is neither."""
    return in_order(_read_midi(path) if path.suffix.lower() in MIDI_SUFFIXES else _read_text(path))


def read_note_folder(folder: Path, tracks: Iterable[str] = ()) -> dict[str, list[Note]]:
    """Notes of every NAME.txt, or else NAME.mid, in a folder; of `tracks` only, where any are named."""
    if not folder.is_dir():
        raise LabelError(f"{folder}: no such folder; expected one with references NAME.txt or NAME.mid")
    wanted = set(tracks)
    paths: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix.lower() == ".txt", path)):
        if path.suffix.lower() in (*MIDI_SUFFIXES, ".txt") and not path.name.startswith("."):
            paths[path.stem] = path
    return {name: read_notes(path) for name, path in sorted(paths.items()) if not wanted or name in wanted}


def _read_text(path: Path) -> list[Note]:
    labels = read_labels(path)
    for _, label in labels:
        try:
            code_of_label(label)
        except LabelError as error:
            raise LabelError(f"{path}: {error}") from None
    velocities = _velocities(path, labels)
    return [Note(time_s, label, v) for (time_s, label), v in zip(labels, velocities, strict=True)]


def _velocities(path: Path, labels: Labels) -> list[float | None]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    rows = [row for row in map(str.split, lines) if len(row) >= 2]
    try:
        values = [float(row[2]) if len(row) > 2 else None for row in rows]
    except ValueError:
        return [None] * len(labels)
    known = [value for value in values if value is not None]
    if not np.isfinite(known).all():
        raise LabelError(f"{path}: a velocity that is not finite; expected 0..1 or 1..127, or no third column")
    scale = 127 if max(known, default=0) > 1 else 1
    return [None if value is None else min(max(value / scale, 0.0), 1.0) for value in values]


def _read_midi(path: Path) -> list[Note]:
    return [Note(stroke.time_s, str(stroke.note), stroke.velocity / 127) for stroke in read_strokes(path)]
