"""What can be kept of a file that could not be completed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["keep_elsewhere", "keep_whole_lines"]


def keep_whole_lines(unfinished: Path, target: Path) -> Path | None:
    """Cut a file of lines after its last whole one and name it `<target>.partial`: its path, None without a line.

    Needs no room on the disk. Raises OSError.
    """
    length = unfinished.read_bytes().rfind(b"\n") + 1
    if not length:
        return None
    os.truncate(unfinished, length)
    return unfinished.replace(target.with_name(f"{target.name}.partial"))


def keep_elsewhere(data: bytes, target: Path) -> Path:
    """Write what found no room at `target` into the folder for temporary files; its path there. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=f"{target.stem}-", suffix=target.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except OSError:
        Path(name).unlink()
        raise
    return Path(name)
