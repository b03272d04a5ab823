"""Recordings without drums, whole: speech, songs, music of other instruments. Passages of them are heard as they are.

Waveforms are float32 mono at 44.1 kHz.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from ..packed import SAMPLE_RATE, Columns, at_speed, packed, read_table

__all__ = ["Passages", "passage_rows"]

TABLE = "passages.csv"
SPEED = (0.8, 1.25)
PAUSE_S = (0.05, 1.5)  # after a recording that ends, before the next one
EDGE_S = 0.005  # faded in where a passage is cut out, and out where its recording ends


class Passages:
    """The recordings in a folder's `passages.csv`; none where it has no such table. Raises InputError."""

    def __init__(self, folder: Path, cache: Path | None):
        rows = passage_rows(folder)
        self._recordings = packed(folder, rows, "passages", cache)
        lengths = np.array([len(samples) for samples in self._recordings], dtype=np.float64)
        self._shares = lengths / lengths.sum()
        members = defaultdict(list)
        for k, row in enumerate(rows):
            members[row["source"]].append(k)
        self._of_same_source = [np.array(members[row["source"]]) for row in rows]

    def __bool__(self) -> bool:
        return bool(self._recordings)

    def play(self, rng: np.random.Generator, n_samples: int) -> np.ndarray:
        """A passage, float32 [n_samples]: from anywhere in a recording, long ones more often.

        Where the recording ends, others of its source follow after pauses.
        """
        bus = np.zeros(n_samples, dtype=np.float32)
        speed = float(np.exp(rng.uniform(*np.log(SPEED))))
        k = int(rng.choice(len(self._recordings), p=self._shares))
        first, place = int(rng.integers(len(self._recordings[k]))), 0
        while place < n_samples:
            left = n_samples - place
            wave = at_speed(self._recordings[k][first : first + int(left * speed) + 2], speed)[:left]
            _fade_edges(wave)
            bus[place : place + len(wave)] = wave
            place += len(wave) + int(rng.uniform(*PAUSE_S) * SAMPLE_RATE)
            same = self._of_same_source[k]
            k, first = int(rng.choice(same, p=self._shares[same] / self._shares[same].sum())), 0
        return bus


def passage_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's `passages.csv`, if it has one. Raises InputError where they cannot be read."""
    columns: Columns = {"path": str, "source": str}
    return read_table(folder / TABLE, "backing", columns) if (folder / TABLE).exists() else []


def _fade_edges(wave: np.ndarray) -> None:
    """In place."""
    ramp = np.linspace(0, 1, min(int(EDGE_S * SAMPLE_RATE), len(wave) // 2), dtype=np.float32)
    wave[: len(ramp)] *= ramp
    wave[len(wave) - len(ramp) :] *= ramp[::-1]
