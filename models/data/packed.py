"""Recorded sounds of a folder, decoded once into one array that all processes map from a cache.

Samples are int16, mono (the first channel), 44.1 kHz; the attack of a drum or a note lies at `ATTACK_SAMPLE`, as the
tools that cut the kits left it.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...runtime.errors import InputError
from ...runtime.files import make_folder

__all__ = [
    "ATTACK_SAMPLE",
    "SAMPLE_RATE",
    "Columns",
    "at_speed",
    "fingerprint",
    "licences",
    "packed",
    "read_table",
    "save_whole",
    "to_int16",
    "zero_to",
    "zero_to_one",
]

SAMPLE_RATE = 44100
ATTACK_SAMPLE = 220  # 5 ms of silence, then the attack
Columns = Mapping[str, Callable[[str], object]]  # what reads the values of each


def read_table(table: Path, kind: str, columns: Columns) -> list[dict[str, str]]:
    """The rows of a folder's CSV as text. `columns` are those it must have, each with what reads its values.

    Raises InputError where the table is missing, lacks a column, or has a value for which its reader raises ValueError;
    `kind` says what the folder should hold.
    """
    if not table.is_file():
        raise InputError(f"{table} not found: a {kind} folder has {table.name} beside its sounds (docs/training.md)")
    rows = []
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                raise InputError(f"{table}: no column {', '.join(missing)}; expected {', '.join(columns)}")
            for row in reader:
                _check(row, columns, f"{table}, line {reader.line_num}")
                rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read ({error}); expected a table of comma-separated values") from None
    return rows


def licences(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """What the rows of a table say in their column `license` (or `licence`), each once; "not said" for nothing."""
    return sorted({row.get("license") or row.get("licence") or "not said" for row in rows})


def _check(row: Mapping[str | None, str | None], columns: Columns, where: str) -> None:
    if None in row:
        raise InputError(f"{where}: more values than columns; put values that hold a comma in quotes")
    for name, read in columns.items():
        value = row[name]
        if value is None:
            raise InputError(f"{where}: no {name}; expected as many values as there are columns")
        try:
            read(value)
        except ValueError as error:
            raise InputError(f"{where}: {name} is {value!r}; {error}") from None


def zero_to(most: float, text: str, expected: str = "a number 0..1") -> float:
    """A value 0..most of a table. Raises ValueError, which says what was expected."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:  # NaN neither
        raise ValueError(f"expected {expected}")
    return value


zero_to_one = functools.partial(zero_to, 1)


def packed(folder: Path, rows: Sequence[dict[str, str]], name: str, cache: Path | None) -> list[np.ndarray]:
    """The samples [n] int16 of every row's `path`; with a cache, views of `<name>-<fingerprint>.npy` in it.

    Raises InputError where a sound cannot be read or has another sample rate.
    """
    if cache is None or not rows:
        return _decode(folder, rows)
    key = fingerprint(folder, rows)[:16]
    samples, lengths = cache / f"{name}-{key}.npy", cache / f"{name}-{key}-lengths.npy"
    if not lengths.exists():
        sounds = _decode(folder, rows)
        save_whole(samples, np.concatenate(sounds))
        save_whole(lengths, np.array([len(sound) for sound in sounds]))  # last: its presence says that both are whole
    # A plain view: slices of numpy's memmap class cost ten times as much to take.
    store, ends = np.load(samples, mmap_mode="r").view(np.ndarray), np.cumsum(np.load(lengths))
    return [store[first:end] for first, end in zip([0, *ends[:-1]], ends, strict=True)]


def fingerprint(folder: Path, rows: Sequence[dict[str, str]]) -> str:
    """A hash of the rows and of their sounds' sizes and times of change: contents would take long to read.

    Raises InputError where a sound is missing.
    """
    digest = hashlib.sha256()
    for row in rows:
        path = folder / row["path"]
        try:
            state = path.stat()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); the folder's table names it") from None
        digest.update(repr((sorted(row.items()), state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()


def save_whole(path: Path, array: np.ndarray) -> None:
    """Save an array so that other processes see all of it or nothing."""
    make_folder(path.parent)
    partial = path.with_name(f"{path.stem}-{os.getpid()}.npy")
    np.save(partial, array)
    partial.replace(path)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Float samples, full scale 1.0, as int16; what lies beyond full scale is clipped."""
    return np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)


def at_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """Samples that go round, int16 [N], read at another speed: float32 [N / speed] of the same scale."""
    place = np.arange(int(len(samples) / speed)) * np.float64(speed)
    before = place.astype(np.int64)
    left = samples[before].astype(np.float32)
    return left + (place - before).astype(np.float32) * (samples[(before + 1) % len(samples)] - left)


def _decode(folder: Path, rows: Sequence[dict[str, str]]) -> list[np.ndarray]:
    import soundfile

    sounds = []
    for row in rows:
        try:
            samples, rate = soundfile.read(folder / row["path"], dtype="int16", always_2d=True)
        except (OSError, soundfile.SoundFileError) as error:
            raise InputError(f"{folder / row['path']}: cannot be read as audio ({error})") from None
        if rate != SAMPLE_RATE:
            raise InputError(f"{folder / row['path']}: {rate} Hz; its sounds must be at {SAMPLE_RATE} Hz")
        sounds.append(samples[:, 0])
    return sounds
