"""A file that appears under its name whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from .errors import OutputError

__all__ = ["AtomicFile"]


class AtomicFile:
    """Bytes to a temporary file beside `path`, which takes its name on `close`. Failures are OutputErrors.

    Opening already creates the temporary file, so that an unwritable place is known before the work begins. Whatever
    fails leaves nothing behind, and what stood under the name before stays. Devices and named pipes are written
    directly.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary: Path | None = None
        try:
            self._file = self._open()
        except OSError as error:
            raise self._failure(error) from None

    def write(self, pieces: Iterable[bytes]) -> None:
        """Append the pieces."""
        try:
            self._file.writelines(pieces)
        except OSError as error:
            self.discard()
            raise self._failure(error) from None

    def close(self) -> None:
        """Complete the file and give it its name."""
        try:
            self._file.close()
            if self._temporary is not None:
                self._temporary.replace(self._target)
        except OSError as error:
            self.discard()
            raise self._failure(error) from None
        self._temporary = None

    def discard(self) -> None:
        """Leave nothing behind; nothing after `close`."""
        with contextlib.suppress(OSError):
            self._file.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def _open(self) -> BinaryIO:
        if self._path.is_dir():
            raise IsADirectoryError(0, "is a folder")
        if self._path.exists() and not self._path.is_file():
            return self._path.open("wb")
        self._target = self._path.resolve()  # through a link, as writing in place would
        if self._target.exists() and not os.access(self._target, os.W_OK):
            raise PermissionError(0, "is write-protected")
        # Not tempfile's: its files are private (0600), and this one becomes the result.
        temporary = self._target.with_name(f".ghostnote-{os.getpid()}-{secrets.token_hex(4)}.part")
        file = temporary.open("xb")
        self._temporary = temporary
        return file

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: cannot be written ({(error.strerror or str(error)).lower()})")
