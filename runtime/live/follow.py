"""A file that another program is still writing, read as it grows: WAV or raw PCM, as `tail -f` reads text."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ..errors import InputError
from ..input.audio import AudioReader
from ..input.pcm import PcmFormat, read_wav_header

__all__ = ["GrowingFile", "follow"]

_POLL_S = 0.01


class GrowingFile:
    """A stream of bytes that waits at the end of the file for more.

    It ends when the file has been renamed, removed, replaced or cut, or has not grown for `timeout_s` seconds (None:
    waits for ever); then `ended` says why, and `warnings` what that means for a transcription. Opening raises
    InputError.
    """

    def __init__(self, path: Path, timeout_s: float | None = None) -> None:
        self.name = str(path)
        self.ended = ""
        self.warnings: list[str] = []
        self._path = path
        self._timeout_s = timeout_s
        self._position = 0
        self._descriptor = -1
        try:
            if path.exists() and not path.is_file():
                raise InputError(f"{path}: --follow needs a file; pipes are live without it")
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # Windows would read text
            self._identity = _identity(os.fstat(self._descriptor))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be opened ({error.strerror})") from None

    def read(self, size: int, /) -> bytes:
        """`size` bytes; fewer only at the end."""
        data = b""
        while len(data) < size and (more := self.read1(size - len(data))):
            data += more
        return data

    def read1(self, size: int, /) -> bytes:
        """What is there, at most `size` bytes, waiting for the first; nothing at the end."""
        grown_at = time.monotonic()
        while True:
            end = self._end(time.monotonic() - grown_at)  # before reading, or what came last would be missed
            data = os.read(self._descriptor, size)
            self._position += len(data)
            if data:
                return data
            if end:
                self.ended, meaning = end
                self.warnings.append(f"{self.name}: {self.ended}; {meaning}")
                return b""
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _end(self, quiet_s: float) -> tuple[str, str] | None:
        """Why nothing will come after what is there now, and what that means; None while more may come."""
        try:
            status = self._path.stat()
        except OSError:
            return "was removed or renamed", "transcribed up to there"
        if _identity(status) != self._identity:
            return "was replaced by another file", "the first one is transcribed"
        if status.st_size < self._position:
            return "was cut short while it was followed", "transcribed up to there"
        if self._timeout_s is not None and quiet_s >= self._timeout_s:
            return f"has not grown for {self._timeout_s:g} s", "taken as complete"
        return None


def follow(
    path: Path, sample_rate: int, *, raw: PcmFormat | None = None, timeout_s: float | None = None
) -> AudioReader:
    """A live reader of a growing file. Waits for a WAV header to be written; raises InputError where it is none.

    The length in the header is not looked at: the program that writes may not know it yet.
    """
    growing = GrowingFile(path, timeout_s)
    try:
        pcm = raw or read_wav_header(growing, growing.name).pcm
        if pcm is None:
            raise InputError(f"{path}: WAV encoding not supported in a growing file; expected PCM 8..32 bit or float")
    except InputError as error:
        growing.close()
        raise InputError(f"{error}; the file {growing.ended}" if growing.ended else str(error)) from None
    except BaseException:
        growing.close()
        raise
    reader = AudioReader(growing, sample_rate, raw=pcm)
    reader.warnings = growing.warnings
    return reader


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
