"""Readers of published corpora: a folder as published -> recordings with audio, labels and what the labels cover.

    for recording in open_corpus("enst", Path("ENST-drums-public"), split="drummer_3"): ...

The readers' docstrings say which layout is meant. Nothing here downloads anything.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...runtime.errors import InputError, UsageError
from . import a2md, adtof, beside, enst, groove, heard, idmt, mdb
from .recording import Label, Recording, Source

__all__ = ["READERS", "Label", "Reader", "Recording", "Source", "corpus_folder", "open_corpus"]

Reader = Callable[[Path, str | None], list[Recording]]

READERS: dict[str, Reader] = {
    "a2md": a2md.read,
    "adtof": adtof.read,
    "egmd": groove.read_egmd,
    "enst": enst.read,
    "folder": beside.read,
    "gmd": groove.read_gmd,
    "heard": heard.read,
    "idmt": idmt.read,
    "mdb": mdb.read,
}


def corpus_folder(spec: str) -> tuple[str, Path]:
    """`KIND=FOLDER`, as `--corpus` takes it. Raises UsageError for what is none."""
    kind, _, folder = spec.partition("=")
    if not folder:
        raise UsageError(f"--corpus {spec}: expected KIND=FOLDER, for example mdb=MDBDrums")
    return kind, Path(folder)


def open_corpus(kind: str, folder: Path, split: str | None = None) -> list[Recording]:
    """The recordings of a corpus, or of one of its splits.

    Raises UsageError for an unknown kind, InputError for a folder that does not hold it or a split without recordings.
    """
    if kind not in READERS:
        raise UsageError(f"unknown corpus {kind!r}; expected one of {', '.join(READERS)}")
    recordings = READERS[kind](folder, split)
    if not recordings:
        splits = sorted({recording.split for recording in READERS[kind](folder, None)} - {None}, key=str)
        raise InputError(f"{folder}: no recordings of split {split!r}; splits there: {', '.join(map(str, splits))}")
    return recordings
