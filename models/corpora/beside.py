"""Your own recordings: a folder of audio files, each with its annotation beside it under the same name.

    song.wav  song.mid       General MIDI notes; the drum channel, where anything is on it
    song.wav  song.txt       lines `seconds<TAB>label[<TAB>velocity]`, as `ghostnote evaluate` reads them

A text that names a coarse class anywhere (TT, HH, CY) is taken to label the five classes, any other annotation all 18.
The recordings count as drums without other instruments where the folder is called `drums`, as mixes otherwise.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ...runtime.errors import InputError
from ...runtime.vocabulary import CODES, FIVE_CLASSES
from ..evaluation.notes import read_notes
from ..evaluation.scores import code_of_label
from .folders import audio_by_stem, midi_labels, of_split, seconds, wrong_folder
from .recording import HAND_TOLERANCE_S, MEMBERS, Label, Recording, Source, covering

__all__ = ["read"]

LICENCE = "not known: your own recordings"


def read(folder: Path, split: str | None = None) -> list[Recording]:
    """All recordings with an annotation; there are no splits. Raises InputError where there is none."""
    kind = "drums" if folder.name == "drums" else "mix"
    recordings = []
    for stem, path in audio_by_stem(folder).items():
        midi, text = folder / f"{stem}.mid", folder / f"{stem}.txt"
        if not of_split(None, split) or not (midi.exists() or text.exists()):
            continue
        labels = partial(midi_labels, midi) if midi.exists() else partial(_labels, text)
        fine = midi.exists() or not {label.name for label in labels()} & MEMBERS.keys()
        labelled = covering(*(CODES if fine else FIVE_CLASSES))
        recordings.append(Recording(stem, {kind: (Source(path),)}, labels, labelled, HAND_TOLERANCE_S, LICENCE))
    if not recordings and split is None:
        raise wrong_folder(folder, "a folder of labelled recordings", "NAME.wav with NAME.mid or NAME.txt beside it")
    return recordings


def _labels(path: Path) -> list[Label]:
    """Labels of a text; what is no drum of ours is left out. Raises InputError."""
    named = ((note, code_of_label(note.label)) for note in read_notes(path))
    try:
        return [Label(seconds(note.time_s), name, note.velocity) for note, name in named if name is not None]
    except ValueError as error:
        raise InputError(f"{path}: not an annotation ({error})") from None
