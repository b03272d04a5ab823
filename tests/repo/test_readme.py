"""The README's promises: its first two commands, and that `make demo` works in a fresh copy of the tree."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

_CODE_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((_ROOT / "docs").glob("*.md")))]
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def _clean_environment() -> dict[str, str]:
    """The environment without what the running tests and make itself would pass on to the inner make."""
    ours = ("MAKE", "MFLAGS", "PYTHON", "PYTEST", "VIRTUAL_ENV", "COV_", "GNUMAKEFLAGS")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture
def demo(tree: Path) -> tuple[Path, str]:
    """`make demo` in a copy of the tree: the copy and what was printed."""
    done = subprocess.run(
        ["make", "demo"], cwd=tree, check=False, capture_output=True, text=True, env=_clean_environment(), timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return tree, done.stdout + done.stderr


def test_first_two_commands_are_make_demo_and_make_test(root: Path) -> None:
    blocks = [block.strip() for block in _CODE_BLOCK.findall((root / "README.md").read_text())]
    assert blocks[:2] == ["make demo", "make test"]


def test_make_demo_works_in_a_fresh_copy(demo: tuple[Path, str]) -> None:
    tree, printed = demo
    midi = tree / "demo.mid"
    assert midi.read_bytes()[:4] == b"MThd"
    assert "demo.mid" in printed
    assert re.search(r"\d+ hits", printed)
    assert re.search(r"\d+(\.\d+)?\s?(x|times)\b", printed), "no real-time factor in:\n" + printed
    installed = {
        path.name.partition("-")[0].lower() for path in tree.glob(".venv/lib/python3*/site-packages/*.dist-info")
    }
    assert "onnxruntime" in installed
    assert installed & {"torch", "scipy", "onnx"} == set()


@pytest.mark.slow
def test_base_venv_is_under_200_mb(demo: tuple[Path, str]) -> None:
    done = subprocess.run(["du", "-sm", demo[0] / ".venv"], check=True, capture_output=True, text=True)
    assert int(done.stdout.split()[0]) < 200


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(root: Path, document: str) -> None:
    path = root / document
    assert [link for link in _LINK.findall(path.read_text()) if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_blocks_of_code_end(root: Path, document: str) -> None:
    assert len(re.findall(r"^```", (root / document).read_text(), re.MULTILINE)) % 2 == 0


def test_ci_and_pre_commit_run_the_same_checks(root: Path) -> None:
    ci = re.findall(r"^make ([a-z]+)\b", (root / ".ci/run").read_text(), re.MULTILINE)
    hooks = re.findall(r"make --silent (\w+)", (root / ".pre-commit-config.yaml").read_text())
    assert ci == [*hooks, "test"]
