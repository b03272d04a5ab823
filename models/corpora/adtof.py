"""ADTOF (Zehren et al. 2021, 2023), as `bin/automaticGrooming.py` of MZehren/ADTOF builds it from charts:

    audio/audio/ARTIST - TITLE.ogg    annotations/aligned_drum/ARTIST - TITLE.txt    (lines `seconds<TAB>GM note`)
    annotations/manual_substraction   (a list of titles that its authors found wrong; left out here, too)

The published spectrograms (Zenodo 10084510) hold no audio and cannot be read. Whatever the build's number of classes,
the notes are read as the five classes: 42 means any hi-hat, 47 any tom, 49 any cymbal, and the chart's ride is not
reliable (the authors' note). Side-stick and clap are in the snare. No splits: the published folds are by artist.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ...runtime.errors import InputError
from ...runtime.vocabulary import FIVE_CLASSES, code_of_note, five_class
from .folders import audio_by_stem, of_split, require, text_rows, wrong_folder
from .recording import CROWD_TOLERANCE_S, Label, Recording, Source, covering

__all__ = ["read"]

LICENCE = "annotations CC BY-NC-SA 4.0 (ADTOF, M. Zehren et al.); audio: copyrighted songs"
_EXPECTED = "audio/audio/NAME.ogg and annotations/aligned_drum/NAME.txt"


def read(folder: Path, split: str | None = None) -> list[Recording]:
    """All songs whose audio is there. Raises InputError for another folder."""
    require(folder, "ADTOF", _EXPECTED, "audio/audio", "annotations/aligned_drum")
    excluded = _excluded(folder / "annotations" / "manual_substraction")
    recordings = []
    for stem, path in audio_by_stem(folder / "audio" / "audio").items():
        annotation = folder / "annotations" / "aligned_drum" / f"{stem}.txt"
        if annotation.exists() and stem not in excluded and of_split(None, split):
            recordings.append(
                Recording(
                    stem,
                    {"mix": (Source(path),)},
                    partial(_labels, annotation),
                    covering(*FIVE_CLASSES),
                    CROWD_TOLERANCE_S,
                    LICENCE,
                    adtof=True,
                )
            )
    if not recordings and split is None:
        raise wrong_folder(folder, "ADTOF", _EXPECTED)
    return recordings


def _excluded(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else set()


def _labels(path: Path) -> Iterable[Label]:
    for time_s, text in text_rows(path):
        try:
            code = code_of_note(int(float(text)))
        except (ValueError, OverflowError):
            raise InputError(f"{path}: {text!r} is no note number; expected lines of seconds and GM note") from None
        name = None if code is None else five_class(code, adtof=True)
        if name is not None:
            yield Label(time_s, name)
