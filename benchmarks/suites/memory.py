"""Peak memory of the command, for a short and a long input."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..measuring import TRANSCRIBE, Figure, peak_memory_mb, write_wav

__all__ = ["memory"]

LIMIT_MB = 150


def memory(path: Path | None, sample_rate: int, minutes: float) -> list[Figure]:
    """Peak resident size of `rt-transcribe` writing MIDI."""
    options = [] if path is None else ["--engine", str(path)]
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for length in sorted({1.0, minutes}):
            wav = write_wav(Path(folder) / "input.wav", 60 * length, sample_rate)
            command = [*TRANSCRIBE, str(wav), "-o", str(Path(folder) / "hits.mid"), *options]
            name = f"peak memory, {length:g} minute{'' if length == 1 else 's'}"
            figures.append(Figure(name, peak_memory_mb(command), "MB", LIMIT_MB, better="less"))
    return figures
