"""`ghostnote inspect`: what was found in a model file, for people or as JSON.

Texts out of a file are never taken for markup or control codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..runtime.manifest import Manifest
from ..runtime.terminal import plain
from .inspection import GraphFacts, Inspection, as_json, examine

__all__ = ["inspect", "show"]

_KINDS = {"onnx": "ONNX model", "checkpoint": "checkpoint", "plan": "plan"}
_SCORE_ROWS, _SCORE_DEPTH = 4, 3  # of the free-form scores; --json shows all


def inspect(
    file: Annotated[Path, typer.Argument(help="A model.onnx, a checkpoint .pt, or a .plan with its .plan.json.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
) -> None:
    """Show what a model file holds: manifest, inputs and outputs, precision delivered, operators, size, arithmetic."""
    found = examine(file)
    if json:
        typer.echo(as_json(found))
    else:
        show(found)


def show(found: Inspection) -> None:
    """Print the tables."""
    console = Console(highlight=False)
    console.print(_pairs(_overview(found)))
    console.print(_delays(found))
    if found.graph is not None:
        console.print(_signature(found.graph))
    for title, values in (("Configuration", found.config), ("Built with and for", found.build)):
        if values is not None:
            console.print(_pairs(values.items(), title))
    for remark in (*found.manifest.notes, *found.remarks):
        console.print(plain(f"* {remark}"))


def _overview(found: Inspection) -> Iterator[tuple[str, Any]]:
    m = found.manifest
    yield "file", f"{found.file} ({_KINDS[found.kind]}, {found.size_bytes / 1e6:.1f} MB)"
    yield "name", m.name
    yield "precision", m.precision
    if found.graph is not None:
        yield "precision delivered", _products(found.graph.products)
    yield "verified", "yes" if m.verified else "no"
    yield "licence", m.licence or "not said"
    yield "classes", " ".join(f"{entry.code}={entry.note}" for entry in m.classes)
    yield "clock", f"{m.sample_rate} Hz, {m.samples_per_token} samples per token, {m.frames_per_token} frames per token"
    yield (
        "states",
        ", ".join(f"{name} {list(shape)} {m.state_type(name)}" for name, shape in m.states.items()) or "none",
    )
    if found.parameters is not None:
        yield "parameters", f"{found.parameters:,}"
    if found.gflop_per_second is not None:
        yield "arithmetic", f"{found.gflop_per_second:.3f} GFLOP per second of audio (products, batch 1)"
    if found.graph is not None:
        operators = found.graph.operators
        yield "nodes", f"{sum(operators.values())} (opset {found.graph.opset}): {_counts(operators)}"
    yield "weights", f"sha256 {m.weights_sha256}" if m.weights_sha256 else "not said"
    yield from _provenance(m)


def _provenance(m: Manifest) -> Iterator[tuple[str, Any]]:
    """Date and commit of the training, its data, and the first of the scores."""
    for key in ("date", "commit", "seed"):
        if key in m.training:
            yield f"training {key}", m.training[key]
    data = m.training.get("data")
    if data:
        yield "training data", "; ".join(map(str, data.values())) if isinstance(data, Mapping) else data
    rows = list(islice(_score_rows(m.scores), _SCORE_ROWS + 1))
    for row in rows[:_SCORE_ROWS]:
        yield "scores", row
    if len(rows) > _SCORE_ROWS:
        yield "", "(more scores: --json)"


def _score_rows(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """A line per object that holds figures: where it is, and the figures."""
    figures = [f"{key} {value}" for key, value in values.items() if isinstance(value, int | float)]
    if figures:
        yield ": ".join([*path, ", ".join(figures)])
    for key, value in values.items():
        if isinstance(value, Mapping) and len(path) < _SCORE_DEPTH:
            yield from _score_rows(value, (*path, str(key)))


def _products(products: Mapping[str, Mapping[str, int]]) -> str:
    parts = [f"{sum(counts.values())} in {kind} ({_counts(counts)})" for kind, counts in products.items()]
    return "products: " + ", ".join(parts) if parts else "no products"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _delays(found: Inspection) -> Table:
    """A column per delay with its total latency, a row per parent with its thresholds."""
    m = found.manifest
    table = Table(title="Delays, total latencies, thresholds", title_justify="left")
    table.add_column("delay")
    for index, delay_ms in enumerate(m.delays_ms):
        table.add_column(f"{delay_ms} ms" + (" *" if index == m.default_delay else ""), justify="right")
    table.add_row("total latency", *(f"{total:g} ms" for total in found.total_latencies_ms), end_section=True)
    for parent, thresholds in zip(m.decoder.parents, zip(*m.decoder.thresholds, strict=True), strict=True):
        table.add_row(plain(" ".join(parent)), *(f"{threshold:g}" for threshold in thresholds))
    table.caption = f"* default; two classes of a parent at once from {m.decoder.also_threshold:g}"
    table.caption_justify = "left"
    return table


def _signature(graph: GraphFacts) -> Table:
    table = Table(title="Inputs and outputs", title_justify="left")
    for column in ("", "name", "type", "shape"):
        table.add_column(column)
    for kind, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in tensors:
            shape = ", ".join(map(str, tensor.shape))
            table.add_row(kind, plain(tensor.name), plain(tensor.type), plain(f"[{shape}]"))
    return table


def _pairs(pairs: Iterable[tuple[str, Any]], title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(plain(name), plain(value))
    return table
