"""docs/performance.md from kept documents: a table per device and suite, its card, pictures beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..runtime.errors import InputError
from .measuring import Figure
from .result import HISTORY, Result

__all__ = ["README_TABLE", "read_results", "readme_table", "update_readme", "write_page"]

HEAD = """# Performance

Made by `ghostnote bench page` from the documents in benchmarks/baselines; not written by hand. "At best" is what the
machine allows: the model's arithmetic at the measured speed of a float32 matrix product, or its bytes at the measured
speed of copying. How a second of computing is spent: [budget.md](budget.md).
"""
CARD = (
    "date",
    "cpu",
    "cores",
    "gpu",
    "system",
    "python",
    "onnxruntime",
    "engine",
    "commit",
    "load_at_start",
    "load_at_end",
)
README_TABLE = re.compile(r"(?<=<!-- performance -->\n).*?(?=<!-- end of performance -->)", re.DOTALL)
README_FIGURES = {
    "throughput": ("whole file, times real time", "whole file, cost per s of audio"),
    "latency": ("40 ms chunk, p99", "start to first hit, median"),
    "memory": ("peak memory, 30 minutes",),
}


def write_page(folders: Sequence[Path], out: Path) -> None:
    """Write the page, and pictures into a folder beside it where matplotlib is installed. Raises InputError."""
    parts = [HEAD]
    for folder in folders:
        results = read_results(folder)
        parts.append(f"## {folder.name}\n")
        parts += [_section(result) for result in results]
        parts += _pictures(results, _history(folder), out.parent / "pictures", folder.name, out.parent)
    out.write_text("\n".join(parts))


def read_results(folder: Path) -> list[Result]:
    """The documents of a folder, by name. Raises InputError where there are none."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise InputError(f"{folder}: holds no documents; make some with ghostnote bench SUITE --out {folder}")
    return [Result.from_json(file.read_text()) for file in files]


def update_readme(readme: Path, results: Iterable[Result]) -> None:
    """Put the table between the README's two marks. Raises InputError where they are missing."""
    text = readme.read_text()
    if not README_TABLE.search(text):
        raise InputError(f"{readme}: no line '<!-- performance -->' with its end; put both where the table belongs")
    readme.write_text(README_TABLE.sub(lambda _: readme_table(results), text))


def _history(folder: Path) -> list[dict[str, Any]]:
    path = folder / HISTORY
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def readme_table(results: Iterable[Result]) -> str:
    """The few figures that the README shows, a column per model."""
    found: dict[str, dict[str, Figure]] = {}
    for result in results:
        for figure in result.figures:
            if figure.name in README_FIGURES.get(result.suite, ()):
                found.setdefault(figure.name, {})[result.card["model"]] = figure
    models = sorted({model for row in found.values() for model in row})
    lines = [
        "| " + " | ".join(["one core", *(f"`{model}`" for model in models)]) + " |",
        "|---" * (len(models) + 1) + "|",
    ]
    for names in README_FIGURES.values():
        for name in names:
            cells = [_cell(found.get(name, {}).get(model)) for model in models]
            lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _section(result: Result) -> str:
    card = ", ".join(f"{key} {result.card[key]}" for key in CARD if result.card.get(key) is not None)
    rows = [
        f"| {f.name} | {_number(f.value)} | {_number(f.theory)} | {_number(f.limit)} | {f.unit} | {f.verdict} |"
        for f in result.figures
    ]
    title = f"### {result.title} (`{result.card.get('model', '')}`)\n"
    head = "| what | measured | at best | limit | unit | |\n|---|---|---|---|---|---|"
    return "\n".join([title, head, *rows, "", f"<sub>{card}</sub>", ""])


def _pictures(
    results: Sequence[Result], history: Sequence[dict[str, Any]], folder: Path, device: str, base: Path
) -> list[str]:
    try:
        from .pictures import draw, draw_history
    except ImportError:
        return []
    drawn = list(draw(results, folder, device))
    if (path := draw_history(history, folder, device)) is not None:
        drawn.append(("Figures from commit to commit", path))
    return [f"![{title}]({path.relative_to(base).as_posix()})\n" for title, path in drawn]


def _cell(figure: Figure | None) -> str:
    return "-" if figure is None else f"{_number(figure.value)} {figure.unit}".strip()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
