"""A file that appears under its name whole or not at all: bytes as they come, a text, or what others write by path."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import OutputError, UsageError
from .interrupt import READ_BY_OTHERS, Interrupted
from .salvage import Keep

__all__ = [
    "AtomicFile",
    "check_page",
    "make_folder",
    "put_in_place",
    "spare",
    "text_file",
    "writing",
    "written_aside",
]


class AtomicFile:
    """Bytes to a temporary file beside `path`, which takes its name on `close`. Failures are OutputErrors.

    Opening already creates the temporary file, so that an unwritable place is known before the work begins. Whatever
    fails leaves nothing behind but what `keep` keeps (see `salvage`), and what stood under the name before stays.
    Devices and named pipes are written directly, and so is what standard output or error leads to: replaced, it would
    be another file than the one that others write to.
    """

    def __init__(self, path: Path, keep: Keep | None = None) -> None:
        self._path = path
        self._keep = keep
        self._last = b""  # what the last `write` was given: a buffer may find the disk full as late as on `close`
        self._temporary: Path | None = None
        self._piped: int | None = None  # the descriptor of what is written directly
        try:
            self._file = self._open()
        except OSError as error:
            raise self._failure(error) from None
        except Interrupted:
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)
            raise

    def write(self, pieces: Iterable[bytes]) -> None:
        """Append the pieces."""
        self._last = b"".join(pieces)
        try:
            self._file.write(self._last)
        except OSError as error:
            raise self._give_up(error) from None

    def close(self) -> None:
        """Complete the file and give it its name."""
        try:
            self._close()
            if self._temporary is not None:
                self._temporary.replace(self._target)
        except OSError as error:
            raise self._give_up(error) from None
        self._temporary = None

    def discard(self) -> None:
        """Leave nothing behind; nothing after `close`."""
        with contextlib.suppress(OSError):
            self._close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def _close(self) -> None:
        try:
            self._file.close()
        finally:
            if self._piped is not None:
                READ_BY_OTHERS.discard(self._piped)
                self._piped = None

    def _open(self) -> BinaryIO:
        if self._path.is_dir():
            raise IsADirectoryError(0, "is a folder")
        if self._path.exists() and not self._path.is_file():
            file = self._path.open("wb")
            self._piped = file.fileno()
            READ_BY_OTHERS.add(self._piped)
            return file
        if self._path.exists() and _is_standard(self._path):
            return self._path.open("ab")
        self._target = Path(os.path.realpath(self._path))  # through a link; `resolve` raises on one to itself
        if self._target.exists() and not os.access(self._target, os.W_OK):
            raise PermissionError(0, "is write-protected")
        # Not tempfile's: its files are private (0600), and this one becomes the result.
        temporary = self._target.with_name(f".ghostnote-{os.getpid()}-{secrets.token_hex(4)}.part")
        self._temporary = temporary
        return temporary.open("xb")

    def _give_up(self, error: OSError) -> OutputError:
        """Discard the file, but for what can be kept of it: what was heard is not lost."""
        failure = self._failure(error)
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            if self._keep and self._temporary is not None:
                kept = self._keep(self._temporary, self._last, self._target)
                failure = OutputError(f"{failure}; what could be kept is in {kept}") if kept else failure
        self.discard()
        return failure

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: cannot be written ({(error.strerror or str(error)).lower()})")


def _is_standard(path: Path) -> bool:
    """Whether an existing file is what standard output or error goes to, as /dev/stdout is."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # closed
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return True
    return False


def spare(written: Iterable[Path], read: Iterable[tuple[str, Path]]) -> None:
    """Raises UsageError where a file to be written would replace one that is read: (what it is, its name) of each.

    `read` is looked at only where something is there under the names to be written.
    """
    present = {_identity(path): path for path in written}
    present.pop(None, None)
    for what, path in read if present else ():
        if replaced := present.get(_identity(path)):
            raise UsageError(f"{replaced} is the {what}, which would be replaced; give the output another name")


def _identity(path: Path) -> tuple[int, int] | None:
    """What two names of one file have in common. What cannot be looked at has its error where it is opened."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def check_page(option: str, path: Path | None) -> None:
    """Raises UsageError unless a page is to be written to a file that a browser takes for one."""
    if path is None or path.suffix.lower() in (".html", ".htm"):
        return
    with contextlib.suppress(OSError):  # what cannot be looked at has its error where it is opened
        if path.exists() and not path.is_file():
            return  # a device may have any name
    raise UsageError(f"{option} {path}: a page is written there; expected a name in .html")


def make_folder(path: Path) -> None:
    """A folder for results, with those above it, where it is not there yet. Raises OutputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made a folder ({error.strerror})") from None


@contextlib.contextmanager
def text_file(path: Path | None) -> Iterator[Callable[[str], None]]:
    """What writes a text to `path`, with the folders above it; nothing where it is None.

    Opened before the work whose result the text is: a place that cannot be written is known then. Left without a
    text, what was there stays. Raises OutputError; UsageError for -, which names no file.
    """
    if path is None:
        yield lambda _text: None
        return
    if path == Path("-"):
        raise UsageError("- names no file; give a name")
    make_folder(path.parent)
    file = AtomicFile(path)

    def write(text: str) -> None:
        file.write([text.encode()])
        file.close()

    try:
        yield write
    finally:
        file.discard()


@contextlib.contextmanager
def written_aside(out: Path) -> Iterator[Path]:
    """An empty file beside `out` to write to by its path, gone at the end unless it was renamed. Raises OutputError."""
    aside = out.with_name(f".{out.name}.{os.getpid()}.partial")
    with writing(out):
        aside.touch()
    try:
        yield aside
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def put_in_place(aside: Path, out: Path) -> None:
    """Give a finished file its name, once the disk has it. Raises OutputError."""
    with writing(out):
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(out)


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """OSError becomes OutputError, which names the file that was to be written."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error})") from error
