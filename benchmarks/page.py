"""docs/performance.md from kept documents: a table per device and suite, its card, pictures beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..runtime.errors import InputError
from .measuring import Figure
from .result import Result

__all__ = ["README_TABLE", "read_results", "readme_table", "write_page"]

HEAD = """# Performance

Made by `ghostnote bench page` from the documents in benchmarks/baselines; not written by hand. "At best" is what the
machine allows: the model's arithmetic at the measured speed of a float32 matrix product, or its bytes at the measured
speed of copying. How a second of computing is spent: [budget.md](budget.md).
"""
CARD = ("date", "cpu", "cores", "system", "python", "onnxruntime", "engine", "commit", "load_at_start", "load_at_end")
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
        parts += _pictures(results, out.parent / "pictures", folder.name, out.parent)
    out.write_text("\n".join(parts))


def read_results(folder: Path) -> list[Result]:
    """The documents of a folder, by name. Raises InputError where there are none."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise InputError(f"{folder}: holds no documents; make some with ghostnote bench SUITE --out {folder}")
    return [Result.from_json(file.read_text()) for file in files]


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


def _pictures(results: Sequence[Result], folder: Path, device: str, base: Path) -> list[str]:
    try:
        from .pictures import draw
    except ImportError:
        return []
    return [f"![{title}]({path.relative_to(base).as_posix()})\n" for title, path in draw(results, folder, device)]


def _cell(figure: Figure | None) -> str:
    return "-" if figure is None else f"{_number(figure.value)} {figure.unit}".strip()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
