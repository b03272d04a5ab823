"""Where a run's numbers go: always a local file, and the trackers that Accelerate knows."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

from ...runtime.errors import UsageError
from ...runtime.files import text_file

__all__ = ["TRACKERS", "JsonLines", "check_trackers"]

TRACKERS = ("wandb",)


class JsonLines(GeneralTracker):  # type: ignore[misc]  # Accelerate has no annotations
    """The local default: a line per call in `metrics.jsonl`, `train/loss` as `loss` of a row of kind `train`."""

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def forget_after(self, step: int) -> None:
        """Leave out what was logged after a step: a run that goes on from there does those steps again."""
        if not self.path.exists():
            return
        with text_file(self.path) as write:
            write("".join(line for line in self.path.read_text().splitlines(keepends=True) if _step(line) <= step))

    @property
    def tracker(self) -> Path:
        return self.path

    @on_main_process
    def log(self, values: dict[str, float], step: int | None = None, **_unused: Any) -> None:
        rows: dict[str, dict[str, float]] = {}
        for name, value in values.items():
            kind, _, name = name.partition("/")
            rows.setdefault(kind, {})[name] = value
        with self.path.open("a") as handle:
            for kind, row in rows.items():
                handle.write(json.dumps({"step": step, "time": round(time.time()), "kind": kind, **row}) + "\n")


def _step(line: str) -> float:
    """The step of a line; of one that was cut off, none that is kept."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def check_trackers(names: tuple[str, ...]) -> None:
    """Raises UsageError for a tracker that is unknown or not installed (Accelerate would leave it out silently)."""
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"unknown tracker {name!r}; expected one of {', '.join(TRACKERS)}")
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"--track {name} needs {name}, which is not installed; pip install 'ghostnote[{name}]'")
