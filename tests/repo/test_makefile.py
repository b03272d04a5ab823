"""The Makefile's recipes, with a stand-in for the command that they run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

# Stands in for Python: makes an environment whose `python` is itself, and notes what else it is to do.
PYTHON = """#!/bin/sh
case "$*" in
    "-m venv --clear "*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
esac
echo "$@" >> "$LOG"
"""


def test_plans_go_into_a_folder_that_is_there(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    export = f"test -d {out}/plans && echo"  # the real one refuses a folder that is missing
    command = ["make", "-o", ".venv-test/.installed", "plans", f"OUT={out}", f"GHOSTNOTE={export}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("export")] == [f"{out}/plans"] * 4


def test_sounds_are_not_imported_again_because_the_environment_was_renewed(root: Path, tmp_path: Path) -> None:
    sounds, stamp = tmp_path / "sounds", tmp_path / "venv" / ".installed"
    for path in (sounds / ".imported", stamp):  # in this order: the environment is the newer
        path.parent.mkdir()
        path.touch()
    os.utime(sounds / ".imported", (1, 1))
    command = ["make", "-n", f"{sounds}/.imported", f"SOUNDS={sounds}", f"TEST_VENV={stamp.parent}"]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert "import-sounds" not in done.stdout


@pytest.fixture
def set_up(root: Path, tmp_path: Path) -> Callable[..., str]:
    """What `make` with these variables does to set up the environment of tests; nothing where it is as it should be."""
    python, log, place = tmp_path / "python", tmp_path / "log", tmp_path / "venv"
    python.write_text(PYTHON)
    python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in ("TORCH", "TENSORRT")}

    def run(*variables: str) -> str:
        log.write_text("")
        command = ["make", f"{place}/.installed", f"TEST_VENV={place}", f"PYTHON={python}", *variables]
        subprocess.run(command, cwd=root, env=environment | {"LOG": str(log)}, check=True, capture_output=True)
        return log.read_text()

    return run


def test_the_environment_of_tests_is_as_it_was_asked_for_last(set_up: Callable[..., str]) -> None:
    assert "torch==" in set_up()
    assert set_up() == ""
    wanted = "TENSORRT=tensorrt>=11,<12"
    assert "tensorrt>=11,<12" in set_up(wanted)
    assert set_up(wanted) == set_up() == ""  # once asked for, it stays
    other = set_up("TORCH=torch==1.0 --index-url https://example.org")
    assert "torch==1.0 --index-url https://example.org" in other
    assert "tensorrt>=11,<12" in other
    assert "tensorrt" not in set_up("TORCH=torch==1.0", "TENSORRT=")
