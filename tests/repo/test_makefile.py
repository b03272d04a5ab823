"""The Makefile's recipes, with a stand-in for the command that they run."""

from __future__ import annotations

import subprocess
from pathlib import Path


def test_plans_go_into_a_folder_that_is_there(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    export = f"test -d {out}/plans && echo"  # the real one refuses a folder that is missing
    command = ["make", "-o", ".venv-test/.installed", "plans", f"OUT={out}", f"GHOSTNOTE={export}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("export")] == [f"{out}/plans"] * 4
