"""What a suite leaves: a card, figures, pictures' data; printed as a table and as one line of JSON, kept as a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any

from ..runtime.files import text_file, writing
from ..runtime.terminal import plain
from .measuring import Figure

__all__ = ["HISTORY", "Result", "cell", "history_line", "shown"]

HISTORY = "history.jsonl"  # a line per document ever kept in the folder


@dataclass(frozen=True)
class Result:
    """A suite's outcome. `series` holds what pictures are drawn from, by name."""

    suite: str
    card: Mapping[str, Any]
    figures: Sequence[Figure]
    title: str = ""
    series: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """What it is a document of: suite, model, and a precision other than float32."""
        precision = self.card.get("precision", "float32")
        return self.suite, str(self.card.get("model", "any")), *([precision] if precision != "float32" else [])

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Result:
        """Inverse of `to_json`. Raises ValueError for any other text."""
        values = json.loads(text)
        try:
            result = cls(**values | {"figures": [Figure(**figure) for figure in values["figures"]]})
        except (AttributeError, KeyError, TypeError):
            raise ValueError("JSON of another shape") from None
        texts = (result.suite, result.title, *(text for f in result.figures for text in (f.name, f.unit)))
        numbers = [number for f in result.figures for number in (f.value, f.limit, f.theory)]
        mappings = (result.card, result.series)
        judged = all(
            f.better in ("less", "more", None) and isinstance(f.tolerance, int | float) for f in result.figures
        )
        if not (_all(texts, str) and _all(numbers, int | float | None) and _all(mappings, dict) and judged):
            raise ValueError("JSON of another shape")
        return result

    def write(self, folder: Path) -> Path:
        """Keep the document as SUITE-MODEL.json in a folder, and a line in its history. Raises OutputError.

        Of a model in reduced precision it is SUITE-MODEL-PRECISION.json.
        """
        path = folder / ("-".join(self.key) + ".json")
        with text_file(path) as write:  # a bench that is killed leaves no half of one
            write(json.dumps(asdict(self), indent=1) + "\n")
        history = folder / HISTORY
        with writing(history), history.open("a") as lines:
            lines.write(json.dumps(self._headline()) + "\n")
        return path

    def _headline(self) -> dict[str, Any]:
        """What the history keeps: every figure, at which commit and on which day."""
        known = {key: self.card.get(key, "") for key in ("date", "commit")} | {"model": "-".join(self.key[1:])}
        return {"suite": self.suite, **known, "figures": {f.name: f.value for f in self.figures}}

    def show(self) -> None:
        """Print the card, the table, and the document as the last line."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        console = Console()
        for key, value in self.card.items():
            console.print(plain(f"{key:15s} {value}"), soft_wrap=True)
        title = plain(self.title or self.suite, "table.title")
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for column in ("what", "measured", "at best", "limit", "unit", ""):
            table.add_column(column, justify="right" if column in ("measured", "at best", "limit") else "left")
        for f in self.figures:
            numbers = (shown(f.value, missing="-"), shown(f.theory), shown(f.limit))
            table.add_row(plain(f.name), *numbers, plain(f.unit), f.verdict)
        console.print(table)
        sys.stdout.write(self.to_json() + "\n")


def history_line(text: str | bytes) -> dict[str, Any]:
    """A line of the history: `suite`, `date`, `commit`, `model`, and `figures` by name. Raises ValueError."""
    line = json.loads(text)
    shaped = isinstance(line, dict) and isinstance(line.get("figures"), dict)
    if not shaped or not _all((line.get("commit"), line.get("model")), str):
        raise ValueError("JSON of another shape")
    if not _all(line["figures"].values(), int | float | None):
        raise ValueError("a figure that is no number")
    return line


def _all(values: Iterable[object], kind: type | UnionType) -> bool:
    return all(isinstance(value, kind) for value in values)


def shown(value: float | None, digits: int = 3, missing: str = "") -> str:
    """A number as tables show it: rounded to so many digits, but whole and without an exponent where it is large."""
    if value is None:
        return missing
    rounded = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in rounded else rounded


def cell(text: str) -> str:
    """A text as a cell of a Markdown table: names may hold what parts cells (files, messages of libraries)."""
    return text.replace("|", "\\|")
