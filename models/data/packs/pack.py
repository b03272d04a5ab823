"""Sounds cut for the renderer, and written into a folder of kits or of accompaniment beside those that are there.

How a sound is cut is said in docs/training.md: its attack at one place, its tail until nothing is heard.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....runtime.errors import OutputError
from ....runtime.files import make_folder, text_file
from ....runtime.input.audio import AudioReader
from ..drums.kits import kit_rows
from ..drums.synthesiser import ATTACK_DB
from ..packed import ATTACK_SAMPLE, SAMPLE_RATE

__all__ = ["Cut", "Recordings", "cut_out", "longest_s", "read_mono", "slug", "slugs", "write_pack"]

Row = dict[str, Any]

RINGING = {"OHH", "CRC", "CHC", "RD", "RB", "SPC"}
RINGING_S, STRUCK_S = 3.5, 1.5
FADE_S = 0.1
SILENT = 1e-3  # peak of what is no sound
END_DB = -66.0  # under the peak: nothing is heard
PEAK = 0.9
ALIKE = 0.95  # correlation of two sounds that are one recording
OPENING, LAGS = SAMPLE_RATE // 5, 3  # samples compared, and by how many one may be moved


@dataclass(frozen=True)
class Cut:
    """A sound ready to be written: its path inside the pack, its row, its samples float32 [N]."""

    row: Row
    samples: np.ndarray


class Recordings:
    """Which drum sounds there are already: fonts share recordings between their kits, and with each other."""

    def __init__(self, folder: Path | None = None):
        self._known: dict[str, list[np.ndarray]] = defaultdict(list)
        if folder is None or not (folder / "kits.csv").is_file():
            return
        for row in kit_rows(folder):
            self._known[row["class"]].append(_opening(read_mono(folder / row["path"])))

    def is_new(self, code: str, samples: np.ndarray) -> bool:
        """Whether no sound of the class is this one, at another level or a little earlier; it is known from now on."""
        opening = _opening(samples)
        moved = np.stack([np.roll(opening, lag) for lag in range(-LAGS, LAGS + 1)])
        is_new = all((moved @ known).max() < ALIKE for known in self._known[code])
        if is_new:
            self._known[code].append(opening)
        return is_new


def longest_s(code: str) -> float:
    """How much of a drum's sound is kept."""
    return RINGING_S if code in RINGING else STRUCK_S


def cut_out(wave: np.ndarray, length_s: float, floor_db: float = ATTACK_DB) -> np.ndarray | None:
    """A sound whose attack, the first sample within `floor_db` of its peak, lies at `ATTACK_SAMPLE`; None: silence."""
    peak = float(np.abs(wave).max(initial=0.0))
    if peak < SILENT:
        return None
    first = int(np.argmax(np.abs(wave) >= peak * 10 ** (floor_db / 20)))
    missing = np.zeros(max(0, ATTACK_SAMPLE - first), dtype=np.float32)
    cut = np.concatenate([missing, wave[max(0, first - ATTACK_SAMPLE) :]])[: int(length_s * SAMPLE_RATE)]
    sounding = np.flatnonzero(np.abs(cut) >= peak * 10 ** (END_DB / 20))
    cut = cut[: int(sounding[-1]) + 1]
    faded = min(int(FADE_S * SAMPLE_RATE), len(cut) // 4)
    cut[len(cut) - faded :] *= np.linspace(1, 0, faded, dtype=np.float32)
    return cut


def read_mono(path: Path) -> np.ndarray:
    """A sound file as float32 mono [N] at 44.1 kHz. Raises InputError."""
    with AudioReader(path, SAMPLE_RATE) as reader:
        return np.concatenate([*reader, np.zeros(0, dtype=np.float32)])


def write_pack(folder: Path, table: str, sounds: Iterable[Cut], licence: str) -> int:
    """Write sounds as FLAC and their rows into a table of the folder, which keeps the rows of other packs.

    Returns how many were written; without any, no table is. Raises OutputError; the table is then as it was.
    """
    rows = []
    with text_file(folder / table) as write:
        for sound in sounds:
            _write(folder / sound.row["path"], sound.samples)
            rows.append(sound.row | {"license": licence})
        if rows:
            write(_merged(folder / table, rows))
    return len(rows)


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def slugs(names: Iterable[str], of: Callable[[str], str] = slug) -> dict[str, str]:
    """Each name as a part of a path that no other has; a few digits of its hash tell apart what `of` makes the same.

    They do so, too, where letters were lost or nothing is left: such a name keeps its path whatever else comes later.
    """
    short = {name: of(name) for name in names}
    shared = Counter(short.values())
    plain = {name: text and shared[text] == 1 and not _lost_letters(name) for name, text in short.items()}
    return {
        name: text if plain[name] else f"{text}_{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("_")
        for name, text in short.items()
    }


def _lost_letters(name: str) -> bool:
    return any(letter.isalnum() and not letter.isascii() for letter in name)


def _write(path: Path, samples: np.ndarray) -> None:
    import soundfile

    make_folder(path.parent)
    try:
        soundfile.write(path, samples * np.float32(PEAK / np.abs(samples).max()), SAMPLE_RATE)
    except (OSError, soundfile.SoundFileError) as error:
        raise OutputError(f"{path}: cannot be written ({error})") from None


def _merged(table: Path, rows: list[Row]) -> str:
    """The table with these rows at its end, as text; rows of the same path are replaced."""
    kept: list[Mapping[str, Any]] = []
    if table.is_file():
        with table.open(newline="", encoding="utf-8-sig") as handle:
            kept = list(csv.DictReader(handle))
    new = {row["path"] for row in rows}
    kept = [row for row in kept if row["path"] not in new]
    columns = dict.fromkeys(itertools.chain.from_iterable([*kept, *rows]))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*kept, *rows])
    return text.getvalue()


def _opening(samples: np.ndarray) -> np.ndarray:
    """What a recording is told by: its first samples at level 1, float32 [OPENING]."""
    opening = np.zeros(OPENING, dtype=np.float32)
    opening[: len(samples)] = samples[:OPENING]
    return opening / max(float(np.linalg.norm(opening)), 1e-9)
