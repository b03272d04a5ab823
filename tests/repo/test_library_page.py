"""The examples of docs/library.md run, each in a process of its own, from a copy of what they use."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_EXAMPLE = re.compile(r"^## (.+?)\n.*?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PAGE = Path(__file__).parents[2] / "docs" / "library.md"
EXAMPLES = dict(_EXAMPLE.findall(_PAGE.read_text()))


def test_every_example_is_found() -> None:
    assert len(EXAMPLES) == _PAGE.read_text().count("```python")


@pytest.mark.parametrize("title", EXAMPLES)
def test_example_runs(title: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    shutil.copy(root / "examples" / "groove.flac", tmp_path / "examples")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXAMPLES[title]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
