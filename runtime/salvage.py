"""What can be kept of a file that could not be completed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

__all__ = ["Keep", "keep_elsewhere", "keep_whole_lines"]

# What is left of a file: what lies on the disk, the bytes that were to be written last, where all was to go; -> where
# it is now, None where nothing could be kept.
Keep: TypeAlias = Callable[[Path, bytes, Path], Path | None]


def keep_whole_lines(unfinished: Path, _last: bytes, target: Path) -> Path | None:
    """Cut a file of lines after its last whole one and name it `<target>.partial`: its path, None without a line.

    Needs no room on the disk. Raises OSError.
    """
    length = unfinished.read_bytes().rfind(b"\n") + 1
    if not length:
        return None
    os.truncate(unfinished, length)
    return unfinished.replace(target.with_name(f"{target.name}.partial"))


def keep_elsewhere(_unfinished: Path, last: bytes, target: Path) -> Path | None:
    """For a format that is written whole at the end: into the folder for temporary files. Raises OSError."""
    if not last:
        return None
    handle, name = tempfile.mkstemp(prefix=f"{target.stem}-", suffix=target.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(last)
    except OSError:
        Path(name).unlink()
        raise
    return Path(name)
