"""A build as the gate sees it: a folder with a checkout, named or made from a git revision, and a worker in it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.errors import EngineError, InputError
from ..measuring import ONE_THREAD

__all__ = ["Build", "Worker", "checked_out"]

WORKER = Path(__file__).parent / "worker.py"


@dataclass(frozen=True)
class Build:
    """A checkout of ghostnote, and what it was called on the command line."""

    name: str
    folder: Path

    def size(self, pattern: str) -> int:
        """Bytes of the files that match, under the checkout."""
        return sum(path.stat().st_size for path in self.folder.glob(pattern))


class Worker:
    """A process that runs `worker.py` with the package of a build, on recordings by name."""

    def __init__(self, build: Build, model: str, recordings: Mapping[str, Path]) -> None:
        self._name = build.name
        environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(build.folder / ".types")}
        self._process = subprocess.Popen(
            # -P: the worker's folder, put first of all, would hide a module of Python's own (statistics).
            [sys.executable, "-P", str(WORKER), model, *map(str, recordings.values())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=build.folder,
        )

    def ask(self, what: str) -> Any:
        """The worker's answer. Raises EngineError when the build fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(what + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EngineError(f"{self._name}: measuring '{what}' failed; its message stands above")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        # One that has ended already takes no more; what was not sent would raise here, in place of what went wrong.
        with self._process, contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def checked_out(name: str) -> Iterator[Build]:
    """The build that a word on the command line means: a folder, or a revision of the repository in this folder.

    A revision is checked out beside, and removed afterwards. Raises InputError.
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / ".types" / "ghostnote").is_dir():
            raise InputError(f"{name}: not a checkout of ghostnote (no .types/ghostnote); name its root folder")
        yield Build(name, folder.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="ghostnote-gate-") as parent:
        place = Path(parent) / "build"
        _git("worktree", "add", "--detach", str(place), name)
        try:
            yield Build(name, place)
        finally:
            _git("worktree", "remove", "--force", str(place))


def _git(*arguments: str) -> None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(
            f"git cannot be run ({error.strerror}); install it, or give the folder of a checkout"
        ) from None
    if done.returncode:
        raise InputError(
            f"git {' '.join(arguments)}: {done.stderr.strip()}; give the folder of a checkout, or a revision"
        )
