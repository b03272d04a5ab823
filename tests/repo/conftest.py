"""What the tests of the repository itself share: where it is, and which files belong to it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Files under version control, relative to the root; those deleted but not yet committed are left out."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in listing.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture
def tree(tracked: list[Path], tmp_path: Path) -> Path:
    """A copy of the tracked files, as a fresh clone has them; links stay links."""
    copy = tmp_path / "tree"
    for name in tracked:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    return copy
