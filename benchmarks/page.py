"""docs/performance.md from kept documents: a table per device and suite, its card, pictures beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.engines.opening import bundled_models, open_engine
from ..runtime.errors import InputError, UsageError
from ..runtime.files import make_folder, text_file
from .measuring import Figure
from .result import HISTORY, Result, cell, history_line, shown

__all__ = ["README_TABLE", "Device", "read_results", "readme_table", "write_page"]

HEAD = """# Performance

Made by `ghostnote bench page` from the documents in benchmarks/baselines; not written by hand. "At best" is what the
machine allows: the model's arithmetic at the measured speed of a float32 matrix product, or its bytes at the measured
speed of copying. How a second of computing is spent: [budget.md](budget.md).
"""
CARD = (
    "date",
    "cpu",
    "instructions",
    "cores",
    "gpu",
    "system",
    "python",
    "onnxruntime",
    "engine",
    "weights",
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


@dataclass(frozen=True)
class Device:
    """A folder of documents, by its name: what was measured on one device."""

    name: str
    results: Sequence[Result]
    history: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Device:
        """Raises InputError."""
        return cls(folder.resolve().name, read_results(folder), _history(folder / HISTORY))


def write_page(folders: Sequence[Path], out: Path, readme: Path | None = None) -> None:
    """Write the page, with matplotlib also pictures into a folder beside it, and the README's table.

    Everything is read before anything is written. Raises UsageError, InputError and OutputError.
    """
    devices = [Device.read(folder) for folder in folders]
    for name, count in Counter(device.name for device in devices).items():
        if count > 1:
            raise UsageError(f"{count} folders are named {name}, and pictures are named by folder; rename one of them")
    renewed = "" if readme is None else _with_table(readme, devices)
    with text_file(out) as write, text_file(readme) as write_readme:
        write("\n".join([HEAD, *(part for device in devices for part in _parts(device, out.parent))]))
        write_readme(renewed)


def read_results(folder: Path) -> list[Result]:
    """The documents of a folder, by name. Raises InputError where there are none, or one is something else."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise InputError(f"{folder}: holds no documents; make some with ghostnote bench SUITE --out {folder}")
    return [_read(file) for file in files]


def _read(file: Path) -> Result:
    try:
        return Result.from_json(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: no document of `ghostnote bench` ({error}); measure it anew or remove it") from None


def _history(path: Path) -> list[dict[str, Any]]:
    lines = []
    for number, text in enumerate(path.read_bytes().splitlines() if path.exists() else (), 1):
        try:
            lines.append(history_line(text))
        except ValueError as error:
            raise InputError(f"{path}: line {number} is no headline of a document ({error}); remove it") from None
    return lines


def _with_table(readme: Path, devices: Iterable[Device]) -> str:
    """The README with a new table between its two marks: of the first device with all that the table shows."""
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{readme}: cannot be read ({error}); name the README whose table is to be made") from None
    if not README_TABLE.search(text):
        raise InputError(f"{readme}: no line '<!-- performance -->' with its end; put both where the table belongs")
    for device in devices:
        if _fills_table(device.results):
            return _put_in(text, readme_table(device.results))
    needed = ", ".join(f"{suite} ({', '.join(names)})" for suite, names in README_FIGURES.items())
    raise InputError(f"no folder holds what the table in {readme} shows of every model; measure it with {needed}")


def _fills_table(results: Iterable[Result]) -> bool:
    """Whether there is at least one model, and all figures of the README's table of every one that has any of them."""
    needed = {name for names in README_FIGURES.values() for name in names}
    found: dict[str, set[str]] = {}
    for result in results:
        if names := needed & {figure.name for figure in result.figures}:
            found.setdefault("-".join(result.key[1:]), set()).update(names)
    return bool(found) and all(names == needed for names in found.values())


def _put_in(text: str, table: str) -> str:
    return README_TABLE.sub(lambda _: table, text)  # a function, as a template's backslashes would be read


def readme_table(results: Iterable[Result]) -> str:
    """The few figures that the README shows, a column per model."""
    found: dict[str, dict[str, Figure]] = {}
    for result in results:
        for figure in result.figures:
            if figure.name in README_FIGURES.get(result.suite, ()):
                found.setdefault(figure.name, {})["-".join(result.key[1:])] = figure
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


def _parts(device: Device, base: Path) -> Iterator[str]:
    """The device's part of a page in the folder `base`."""
    yield f"## {device.name}\n"
    others, earlier = _of_other_weights(device.results), _of_earlier_weights(device.results)
    for result in device.results:
        model = f"`{result.card.get('model')}`"
        notes = [f"Of other weights than the other documents of {model}."] if result in others else []
        notes += [f"Of earlier weights than the bundled {model}."] if result in earlier else []
        yield _section(result, notes)
    yield from _pictures(device, base)


def _of_other_weights(results: Sequence[Result]) -> list[Result]:
    """Documents whose weights are not those of most documents of their model."""

    def share(result: Result) -> float:
        model, weights = result.card.get("model"), result.card["weights_sha256"]
        others = [r.card["weights_sha256"] for r in known if r.card.get("model") == model]
        return others.count(weights) / len(others)

    known = [result for result in results if result.card.get("weights_sha256")]
    return [result for result in known if share(result) <= 1 / 2]


def _of_earlier_weights(results: Sequence[Result]) -> list[Result]:
    """Documents of a bundled model whose weights are not those that are bundled now."""
    known = [r for r in results if r.card.get("weights_sha256") and r.card.get("model") in bundled_models()]
    bundled = {name: open_engine(name).manifest.weights_sha256 for name in {r.card["model"] for r in known}}
    return [r for r in known if r.card["weights_sha256"] != bundled[r.card["model"]]]


def _section(result: Result, notes: Sequence[str]) -> str:
    about = {**result.card, "weights": str(result.card.get("weights_sha256", ""))[:8] or None}
    card = ", ".join(f"{key} {about[key]}" for key in CARD if about.get(key) is not None)
    rows = [
        f"| {cell(f.name)} | {shown(f.value)} | {shown(f.theory)} | {shown(f.limit)} | {cell(f.unit)} | {f.verdict} |"
        for f in result.figures
    ]
    model = result.card.get("model", "")
    title = [f"### {result.title} (`{model}`)\n"]
    if notes:
        title.append(" ".join(notes) + "\n")
    head = "| what | measured | at best | limit | unit | |\n|---|---|---|---|---|---|"
    return "\n".join([*title, head, *rows, "", f"<sub>{card}</sub>", ""])


def _pictures(device: Device, base: Path) -> Iterator[str]:
    try:
        from .pictures import draw, draw_history
    except ImportError:
        return
    folder = base / "pictures"
    make_folder(folder)
    drawn = list(draw(device.results, folder, device.name))
    if (path := draw_history(device.history, folder, device.name)) is not None:
        drawn.append(("Figures from commit to commit", path))
    yield from (f"![{title}]({path.relative_to(base).as_posix()})\n" for title, path in drawn)


def _cell(figure: Figure | None) -> str:
    return "-" if figure is None else f"{shown(figure.value)} {figure.unit}".strip()
