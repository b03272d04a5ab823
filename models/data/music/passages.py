"""Recordings without drums, whole: speech, songs, music of other instruments. Passages of them are heard as they are.

Waveforms are float32 mono at 44.1 kHz.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..packed import SAMPLE_RATE, Columns, at_speed, packed, read_table
from .outboard import fade_edges

__all__ = ["TABLE", "Passages", "passage_rows"]

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
        self._sources = [row["source"] for row in rows]
        members = {source: np.flatnonzero(np.array(self._sources) == source) for source in set(self._sources)}
        self._of_source = {
            source: (own, self._shares[own] / self._shares[own].sum()) for source, own in members.items()
        }

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
            fade_edges(wave, int(EDGE_S * SAMPLE_RATE))
            bus[place : place + len(wave)] = wave
            place += len(wave) + int(rng.uniform(*PAUSE_S) * SAMPLE_RATE)
            same, shares = self._of_source[self._sources[k]]
            k, first = int(rng.choice(same, p=shares)), 0
        return bus


def passage_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's `passages.csv`, if it has one. Raises InputError where they cannot be read."""
    columns: Columns = {"path": str, "source": str}
    return read_table(folder / TABLE, "backing", columns) if (folder / TABLE).exists() else []
