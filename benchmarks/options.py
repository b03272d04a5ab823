"""Options that several commands share, and what is checked of them while they are read. Imports no torch, no onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..models.evaluation.scores import known_group
from ..runtime.files import text_file
from .result import HISTORY

__all__ = ["ClassesOption", "EngineOption", "OutOption", "folder", "place"]


def place(file: Path | None) -> Path | None:
    """A file's place, seen to be writable before the work begins. Raises OutputError."""
    with text_file(file):
        return file


def folder(path: Path | None) -> Path | None:
    """The same of a folder for documents, which is made."""
    place(path and path / HISTORY)
    return path


EngineOption = Annotated[
    Path | None, typer.Option("--engine", help="A model file, or a bundled model: base (default), small.")
]
ClassesOption = Annotated[str, typer.Option("--classes", callback=known_group, help="five, three or all (18).")]
OutOption = Annotated[Path | None, typer.Option("--out", callback=folder, help="Keep the document in this folder.")]
