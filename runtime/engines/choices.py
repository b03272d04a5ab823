"""What an engine may be asked for: known before anything heavy is imported, by commands and by `open_engine` alike."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["MOST_THREADS", "DeviceName"]

MOST_THREADS = 256  # each costs memory and a while to start, work or no work


class DeviceName(StrEnum):
    """What runs an ONNX file."""

    CPU = "cpu"
    CUDA = "cuda"
