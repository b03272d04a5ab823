"""A folder of recordings without drums, kept whole for the renderer: speech, songs, stems of other instruments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ....runtime.errors import InputError
from ...corpora.folders import AUDIO_SUFFIXES
from .hydrogen import KIT_FILE
from .pack import SILENT, Cut, read_mono, slugs

__all__ = ["passages"]


def passages(folder: Path, name: str) -> Iterator[Cut]:
    """Every audio file under a folder, as rows of `passages.csv`; silent ones are left out. Raises InputError."""
    files = sorted(path for path in folder.rglob("[!.]*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        known = ", ".join(sorted(AUDIO_SUFFIXES))
        raise InputError(f"{folder}: neither a drum kit of Hydrogen ({KIT_FILE}) nor a recording ({known})")
    named = slugs(file.relative_to(folder).as_posix() for file in files)
    for file, path in zip(files, named.values(), strict=True):
        samples = read_mono(file)
        if np.abs(samples).max(initial=0.0) >= SILENT:
            yield Cut({"path": f"{name}/{path}.flac", "source": name}, samples)
