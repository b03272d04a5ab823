"""Artifacts appear under their names whole or not at all, whatever stops the export: written beside, renamed last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..runtime.errors import OutputError

__all__ = ["put_in_place", "writing", "written_aside"]


@contextmanager
def written_aside(out: Path) -> Iterator[Path]:
    """An empty file beside `out` to write to, gone at the end unless it was renamed. Raises OutputError."""
    aside = out.with_name(f".{out.name}.{os.getpid()}.partial")
    with writing(out):
        aside.touch()
    try:
        yield aside
    finally:
        with suppress(OSError):
            aside.unlink()


def put_in_place(aside: Path, out: Path) -> None:
    """Give a finished file its name, once the disk has it. Raises OutputError."""
    with writing(out):
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(out)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """OSError becomes OutputError, which names the file that was to be written."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error})") from error
