"""Performances of human drummers, read from folders of MIDI files.

Two kinds of folder: the Groove MIDI Dataset's layout, where `info.csv` names files and splits and the notes are those
of the Roland TD-11 the drummers played; and any folder of `.mid` files with General MIDI notes, of which about a tenth,
chosen by their names, are for validation.
Parsing MIDI in Python is slow (some 20 s for a thousand files), so the hits of a split are kept in one .npz in a cache
folder, named after the folder's content: a changed file is a new cache entry.
Times are in seconds, velocities 0..1. The `test` split is never read unless asked for by name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....runtime.errors import InputError
from ....runtime.files import make_folder
from ....runtime.vocabulary import code_of_note, index_of
from ..packed import read_table
from .performance import Performance, merged
from .strokes import MIDI_SUFFIXES, read_strokes

__all__ = ["TD11_CODES", "GrooveSet", "groove_files", "load_performances", "read_midi"]

_NOTES_OF_TD11 = {
    "BD": (36,), "SD": (38, 40), "SS": (37,), "CHH": (42, 22), "PHH": (44,), "OHH": (46, 26), "HT": (48, 50),
    "MT": (45, 47), "LT": (43, 58), "CRC": (49, 57, 55, 52), "RD": (51, 59), "RB": (53,),
}  # fmt: skip
TD11_CODES: dict[int, str] = {note: code for code, notes in _NOTES_OF_TD11.items() for note in notes}

_MIN_VELOCITY = 8 / 127  # softer notes are crosstalk between the pads
_DOUBLE_TRIGGER_S = 0.025
_TAIL_S = 0.1
_VALIDATION_SHARE = 0.1  # of files that no table gives a split
_CACHE_FORMAT = 2  # part of the cache key: raise it when the parsing changes


def read_midi(path: Path, codes: dict[int, str] | None = None, *, drum_channel: bool = False) -> Performance:
    """One MIDI file; `codes` maps notes to class codes (default: General MIDI), other notes are left out.

    Soft notes and double triggers are dropped. Where any note is on the drum channel, or with `drum_channel` (songs
    with other instruments), only that channel counts. Raises InputError.
    """
    hits = read_strokes(path, drum_channel=drum_channel)
    named = [(h.time_s, codes.get(h.note) if codes else code_of_note(h.note), h.velocity / 127) for h in hits]
    known = [(t, index_of(code), v) for t, code, v in named if code is not None]
    times, classes, velocities = zip(*known, strict=True) if known else ((), (), ())
    # Some recordings go on for minutes after the last note: a performance ends with its playing.
    whole = Performance.from_hits(times, classes, velocities, max(times, default=0.0) + _TAIL_S, min_gap_s=0.0)
    return whole.thinned(_DOUBLE_TRIGGER_S, _MIN_VELOCITY)


def load_performances(
    folder: Path | str, split: str = "train", cache_dir: Path | str | None = None
) -> list[tuple[Performance, dict[str, str]]]:
    """All performances of a split with their rows of `info.csv` (at least `midi_filename` and `split`).

    Parsed hits are cached under `cache_dir` (default: the user's cache folder). Raises InputError.
    """
    root = Path(folder)
    rows, codes = _rows(root, split)
    cached = _cache_path(root, rows, Path(cache_dir) if cache_dir else _user_cache())
    if cached.exists():
        performances = _unpacked(cached)
    else:
        performances = [read_midi(root / row["midi_filename"], codes) for row in rows]
        _pack(performances, cached)
    return list(zip(performances, rows, strict=True))


class GrooveSet:
    """The performances of one split, to draw clips from."""

    def __init__(self, folder: Path | str, split: str = "train", cache_dir: Path | str | None = None) -> None:
        loaded = load_performances(folder, split, cache_dir)
        self.performances = [performance for performance, _ in loaded if len(performance)]
        self.rows = [row for performance, row in loaded if len(performance)]
        if not self.performances:
            raise InputError(f"no drum notes in the MIDI files of {folder} (split {split!r})")
        durations_s = np.array([p.duration_s for p in self.performances])
        self._chances = durations_s / durations_s.sum()

    def __len__(self) -> int:
        return len(self.performances)

    def sample(self, rng: np.random.Generator, duration_s: float) -> Performance:
        """A random window of a random performance (longer ones more often), at 0.85-1.18 times its tempo.

        Where a performance is shorter than the clip, others follow until the clip is full.
        """
        clip = self._window(rng, duration_s)
        filled_s = clip.duration_s
        while filled_s < duration_s:
            following = self._window(rng, duration_s - filled_s)
            shifted = Performance(
                following.times_s + filled_s, following.classes, following.velocities, filled_s + following.duration_s
            )
            clip, filled_s = merged(clip, shifted), shifted.duration_s
        return clip.slice(0.0, duration_s)

    def _window(self, rng: np.random.Generator, duration_s: float) -> Performance:
        """At most `duration_s` seconds of one performance, at a random tempo."""
        performance = self.performances[rng.choice(len(self.performances), p=self._chances)]
        tempo = float(np.exp(rng.uniform(np.log(0.85), np.log(1.18))))
        length_s = min(duration_s * tempo, performance.duration_s)
        start_s = rng.uniform(0, performance.duration_s - length_s)
        return performance.slice(start_s, length_s).stretched(1 / tempo)


def _rows(root: Path, split: str) -> tuple[list[dict[str, str]], dict[int, str] | None]:
    """The rows of a split and its note table (None: General MIDI)."""
    if not root.is_dir():
        raise InputError(f"no such folder of grooves: {root}; name one with MIDI files (docs/training.md)")
    info = root / "info.csv"
    has_table = info.exists()
    every = read_table(info, "grooves", {"midi_filename": str, "split": str}) if has_table else _shared_out(root)
    rows = [row for row in every if row["split"] == split]
    if not rows:
        known = ", ".join(sorted({row["split"] for row in every})) or "none"
        raise InputError(f"no MIDI files for split {split!r} in {root}; splits there: {known}")
    return rows, TD11_CODES if has_table else None


def groove_files(root: Path) -> list[Path]:
    """The MIDI files under a folder, sorted."""
    return sorted(path for path in root.rglob("[!.]*") if path.suffix.lower() in MIDI_SUFFIXES and path.is_file())


def _shared_out(root: Path) -> list[dict[str, str]]:
    """Rows for the MIDI files of a folder without a table: the split of a file depends on its name alone.

    Where that leaves a split empty, as with a handful of files, both have all of them.
    """
    names = [path.relative_to(root).as_posix() for path in groove_files(root)]
    validates = [_lot(name) < _VALIDATION_SHARE for name in names]
    shared = len(set(validates)) < 2
    return [
        {"midi_filename": name, "split": split}
        for split in ("train", "validation")
        for name, held_out in zip(names, validates, strict=True)
        if shared or held_out == (split == "validation")
    ]


def _lot(name: str) -> float:
    """A number 0..1 drawn by a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32


def _user_cache() -> Path:
    """Where parsed files are kept: $XDG_CACHE_HOME/ghostnote or ~/.cache/ghostnote."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ghostnote"


def _cache_path(root: Path, rows: Sequence[dict[str, str]], cache_dir: Path) -> Path:
    """Name of the cache file of these rows: a hash over the content of their files and over the note table's kind."""
    digest = hashlib.sha256(f"{_CACHE_FORMAT} {(root / 'info.csv').exists()}".encode())
    for row in rows:
        path = root / row["midi_filename"]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); expected a MIDI file") from None
        digest.update(row["midi_filename"].encode() + b"\0" + hashlib.sha256(content).digest())
    return cache_dir / f"grooves-{digest.hexdigest()[:24]}.npz"


def _pack(performances: list[Performance], path: Path) -> None:
    """Write performances to one .npz, atomically: training may start in several processes at once."""
    make_folder(path.parent)
    temporary = path.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez_compressed(
        temporary,
        times_s=np.concatenate([p.times_s for p in performances]),
        classes=np.concatenate([p.classes for p in performances]),
        velocities=np.concatenate([p.velocities for p in performances]),
        ends=np.cumsum([len(p) for p in performances]),
        durations_s=np.array([p.duration_s for p in performances]),
    )
    temporary.replace(path)


def _unpacked(path: Path) -> list[Performance]:
    """Read what `_pack` wrote."""
    with np.load(path, allow_pickle=False) as data:
        times, classes, velocities = data["times_s"], data["classes"], data["velocities"]
        ends, durations_s = data["ends"].tolist(), data["durations_s"].tolist()
    starts = [0, *ends[:-1]]
    return [
        Performance(times[a:b], classes[a:b], velocities[a:b], duration_s)
        for a, b, duration_s in zip(starts, ends, durations_s, strict=True)
    ]
