"""Recordings that a model labelled: what `ghostnote label-recordings` leaves in a folder.

    song.ogg  song.csv    columns time, class, velocity, confidence (docs/outputs.md), down to a confidence of .1
    heard.json            the licence of the recordings, and which weights labelled them

Hits of a confidence of `CERTAIN` and more are learnt; about softer claims the model that made them does not know, and
they are doubtful. Where a hit is certain, its kind is, but not which of the kind: no tom is a negative where another
tom was heard, nor hi-hats and cymbals. Velocities are not learnt: they are guesses of a model about sounds that it
never heard.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ...runtime.errors import InputError
from ...runtime.vocabulary import CODES
from .folders import audio_by_stem, of_split, wrong_folder
from .recording import Label, Recording, Source, covering

__all__ = ["CERTAIN", "FACTS_FILE", "read"]

FACTS_FILE = "heard.json"
CERTAIN = 0.7
TOLERANCE_S = 0.01
_WHAT = "recordings that a model labelled"


def read(folder: Path, split: str | None = None) -> list[Recording]:
    """All recordings with labels; there are no splits. Raises InputError where there is none."""
    facts = folder / FACTS_FILE
    if not facts.exists():
        raise wrong_folder(folder, _WHAT, f"{FACTS_FILE}, of ghostnote label-recordings")
    licence = _licence(facts)
    recordings = [
        Recording(stem, {"mix": (Source(path),)}, partial(_labels, labels), covering(*CODES), TOLERANCE_S, licence)
        for stem, path in audio_by_stem(folder).items()
        if of_split(None, split) and (labels := folder / f"{stem}.csv").exists()
    ]
    if not recordings and split is None:
        raise wrong_folder(folder, _WHAT, "NAME.csv beside NAME.flac, of ghostnote label-recordings")
    return recordings


def _licence(facts: Path) -> str:
    try:
        return str(json.loads(facts.read_text(encoding="utf-8"))["licence"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{facts}: not what ghostnote label-recordings writes ({error})") from None


def _labels(path: Path) -> Iterable[Label]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(float(row["time"]), row["class"], float(row["confidence"])) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{path}: not hits as ghostnote label-recordings writes them ({error})") from None
    known = [(time_s, code, confidence) for time_s, code, confidence in rows if code in CODES]
    found = [Label(time_s, code) for time_s, code, confidence in known if confidence >= CERTAIN]
    return [*found, *(Label(time_s, code, certain=False) for time_s, code, _ in known)]
