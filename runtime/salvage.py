"""What can be kept of a text file that could not be completed."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["keep_whole_lines"]


def keep_whole_lines(unfinished: Path, target: Path) -> Path | None:
    """Cut a file of lines after its last whole one and name it `<target>.partial`: its path, None without a line.

    Needs no room on the disk. Raises OSError.
    """
    length = unfinished.read_bytes().rfind(b"\n") + 1
    if not length:
        return None
    os.truncate(unfinished, length)
    return unfinished.replace(target.with_name(f"{target.name}.partial"))
