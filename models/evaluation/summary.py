"""An evaluation on the terminal: the document that `--json` writes, in a few tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...runtime.terminal import plain
from .timing import latency_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["show"]


def show(document: Mapping[str, Any], *, per_track: bool) -> None:
    """Print what was measured."""
    from rich.console import Console

    console = Console(highlight=False)
    source = document.get("engine") or f"estimates in {document['estimates']}"
    latency = f", {latency_text(document['total_latency_ms'])}" if "total_latency_ms" in document else ""
    console.print(plain(f"{source}{latency}"), soft_wrap=True)
    for result in document.get("results", ()):
        _show_result(console, result)
        if per_track:
            for name, f in result["tracks"].items():
                console.print(plain(f"  {name:24s} {f:.3f}"))
    for key in ("recordings", "renders"):
        if key in document:
            _show_analysis(console, key, document[key])
    for result in document.get("against", {}).get("results", ()):
        console.print(_against(result, document["against"]["estimates"]))
    if "gap" in document:
        console.print(_gap(document["gap"]))


def _show_result(console: Console, result: Mapping[str, Any]) -> None:
    title = f"±{1000 * result['window_s']:g} ms, {len(result['tracks'])} tracks"
    table = _table(title, "class", "n", "P", "R", "F", "|error| ms", "median ms")
    for name, row in [*result["classes"].items(), ("pooled", result["micro"])]:
        rates = [f"{row[key]:.3f}" for key in "PRF"]
        timing = ["-" if row[key] is None else f"{row[key]:.1f}" for key in ("mean_abs_ms", "median_ms")]
        table.add_row(
            name, str(row["tp"] + row["fn"]), *rates, *timing, end_section=name == list(result["classes"])[-1]
        )
    console.print(table)
    console.print(f"mean of per-track F {result['mean_track_F']:.3f}")


def _show_analysis(console: Console, key: str, analysis: Mapping[str, Any]) -> None:
    """One line each for what has no table."""
    if key == "renders":
        for result in analysis["scores"][analysis["group"]]:
            f = result["micro"]["F"]
            console.print(f"{analysis['tracks']} renders, ±{1000 * result['window_s']:g} ms: pooled F {f:.3f}")
    if frequent := analysis["frequent"]:
        console.print(
            f"{key}: pooled F of the {len(frequent['classes'])} of 18 classes with at least "
            f"{frequent['fewest_hits']} hits {frequent['F']:.3f}"
        )
    if analysis["velocity"]:
        row = analysis["velocity"]["classes"]["pooled"]
        if row["r"] is not None:
            f = analysis["velocity"]["transcription_velocity"]["F"]
            console.print(
                f"{key}: velocity r {row['r']:.2f}, mean |error| {row['mean_abs']:.2f}, F with velocity {f:.3f}"
            )
    if "emission" in analysis:
        emission = analysis["emission"]
        console.print(
            f"{key}: of {emission['from_report']['n']} live hits {emission['from_report']['late']} came later than "
            f"{emission['total_latency_ms']:g} ms after their own time"
        )


def _against(result: Mapping[str, Any], folder: str) -> Table:
    title = f"minus {folder}, ±{1000 * result['window_s']:g} ms, interval and p over {result['tracks']} tracks"
    table = _table(title, "class", "F", "its F", "difference", "95 % interval", "p")
    for name, row in result["classes"].items():
        table.add_row(
            name,
            f"{row['ours']:.3f}",
            f"{row['theirs']:.3f}",
            f"{row['difference']:+.3f}",
            "-" if row["p"] is None else f"{row['low']:+.3f} .. {row['high']:+.3f}",
            "-" if row["p"] is None else f"{row['p']:.3g}",
        )
    return table


def _gap(rows: list[dict[str, Any]]) -> Table:
    table = _table("rendered and real audio", "figure", "recordings", "renders", "difference")
    for row in rows:
        real, rendered = row["recordings"], row["renders"]
        table.add_row(row["figure"], f"{real:.3f}", f"{rendered:.3f}", f"{real - rendered:+.3f}")
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=plain(title, "table.title"), title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table
