"""Recorded sounds of a folder, decoded once into one array that all processes map from a cache.

Samples are int16, mono (the first channel), 44.1 kHz.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...runtime.errors import InputError
from ...runtime.files import make_folder

__all__ = ["SAMPLE_RATE", "packed", "read_table", "save_whole", "to_int16"]

SAMPLE_RATE = 44100


def read_table(table: Path, kind: str) -> list[dict[str, str]]:
    """The rows of a folder's CSV. Raises InputError where it is missing; `kind` says what the folder should hold."""
    if not table.is_file():
        raise InputError(f"{table} not found: a {kind} folder has {table.name} beside its sounds (docs/training.md)")
    with table.open(newline="") as handle:
        return list(csv.DictReader(handle))


def packed(folder: Path, rows: Sequence[dict[str, str]], name: str, cache: Path | None) -> list[np.ndarray]:
    """The samples [n] int16 of every row's `path`; with a cache, views of `<name>-<key of the rows>.npy` in it.

    Raises InputError where a sound has another sample rate.
    """
    if cache is None or not rows:
        return _decode(folder, rows)
    key = hashlib.sha256(repr([sorted(row.items()) for row in rows]).encode()).hexdigest()[:16]
    samples, lengths = cache / f"{name}-{key}.npy", cache / f"{name}-{key}-lengths.npy"
    if not lengths.exists():
        sounds = _decode(folder, rows)
        save_whole(samples, np.concatenate(sounds))
        save_whole(lengths, np.array([len(sound) for sound in sounds]))  # last: its presence says that both are whole
    # A plain view: slices of numpy's memmap class cost ten times as much to take.
    store, ends = np.load(samples, mmap_mode="r").view(np.ndarray), np.cumsum(np.load(lengths))
    return [store[first:end] for first, end in zip([0, *ends[:-1]], ends, strict=True)]


def save_whole(path: Path, array: np.ndarray) -> None:
    """Save an array so that other processes see all of it or nothing."""
    make_folder(path.parent)
    partial = path.with_name(f"{path.stem}-{os.getpid()}.npy")
    np.save(partial, array)
    partial.replace(path)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Float samples, full scale 1.0, as int16; what lies beyond full scale is clipped."""
    return np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)


def _decode(folder: Path, rows: Sequence[dict[str, str]]) -> list[np.ndarray]:
    import soundfile

    sounds = []
    for row in rows:
        samples, rate = soundfile.read(folder / row["path"], dtype="int16", always_2d=True)
        if rate != SAMPLE_RATE:
            raise InputError(f"{folder / row['path']}: {rate} Hz; its sounds must be at {SAMPLE_RATE} Hz")
        sounds.append(samples[:, 0])
    return sounds
