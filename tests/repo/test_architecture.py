"""docs/architecture.md names every module, so that whoever looks for something finds its room."""

from __future__ import annotations

import re
from pathlib import Path


def test_every_module_has_a_place_on_the_map(root: Path, tracked: list[Path]) -> None:
    spans = re.findall(r"`([^`\n]+)`", (root / "docs/architecture.md").read_text())
    named = {word.rpartition("/")[2] for span in spans for word in span.split()}
    folders = {"runtime", "models", "export", "benchmarks"}
    modules = [
        path for path in tracked if path.suffix == ".py" and path.parts[0] in folders and path.stem != "__init__"
    ]
    assert len(modules) > 150
    covered = {path for path in modules if path.parent.name == "suites"}  # docs/benchmarks.md has a line for each
    # A command's module carries the name of what it commands.
    assert [path for path in modules if path not in covered and path.stem.removesuffix("_command") not in named] == []
