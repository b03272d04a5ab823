"""What an engine may be asked for: known before anything heavy is imported, by commands and by `open_engine` alike."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["MOST_BY_DEFAULT", "MOST_THREADS", "DeviceName"]

MOST_THREADS = 256  # each costs memory and a while to start, work or no work
MOST_BY_DEFAULT = 4  # engines of a pool: calls for few streams cost more per stream


class DeviceName(StrEnum):
    """What runs an ONNX file."""

    CPU = "cpu"
    CUDA = "cuda"
