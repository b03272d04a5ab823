"""Folders of references and recordings, by the names of tracks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...runtime.errors import InputError
from ..corpora.folders import audio_by_stem
from .notes import Note, labels_of, read_note_folder
from .options import listed
from .scores import LabelError, classes_of

__all__ = ["audio_files", "check_labels", "complete", "read_references", "references"]


def references(labels_dir: Path, tracks: str = "") -> dict[str, list[tuple[float, str]]]:
    """Labels of the named tracks (A,B), or of all. Raises InputError where there are none."""
    return {name: labels_of(notes) for name, notes in read_references(labels_dir, tracks).items()}


def read_references(labels_dir: Path, tracks: str = "") -> dict[str, list[Note]]:
    """Notes of the named tracks (A,B), or of all. Raises InputError where there are none."""
    found = complete(labels_dir, listed(tracks))
    if not found:
        raise InputError(f"{labels_dir}: holds no references NAME.txt or NAME.mid")
    return found


def complete(folder: Path, wanted: Iterable[str]) -> dict[str, list[Note]]:
    """Notes of all the wanted tracks (none: of all there are). Raises InputError where one is missing."""
    found = read_note_folder(folder, wanted)
    if missing := sorted(set(wanted) - set(found)):
        raise InputError(f"{folder}: no labels for {', '.join(missing)}")
    return found


def check_labels(where: Path | str, track: str, labels: Iterable[tuple[float, str]], group: str) -> None:
    """Raises LabelError, which names the track, where a label is no class of `group`, as a hi-hat of either kind."""
    try:
        classes_of(labels, group)
    except LabelError as error:
        raise LabelError(f"{where}, {track}: {error}") from None


def audio_files(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """The recording of each track; none at all where the folder holds estimates.

    Raises InputError where some are missing, and where a track has two.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected recordings NAME.* or estimates NAME.txt")
    wanted = set(names)
    files = audio_by_stem(folder, wanted)
    missing = sorted(wanted - set(files))
    if files and missing:
        raise InputError(f"{folder}: no recordings of {', '.join(missing)}")
    return files
