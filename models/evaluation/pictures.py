"""The pictures of an evaluation, drawn by matplotlib as SVG text from the plain data of `analysis`.

Every class keeps its colour from picture to picture; the 18 classes have that of their kind.
"""

from __future__ import annotations

import functools
import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...runtime.vocabulary import five_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves", "delays", "differences", "emission", "gap", "panels", "timing", "velocity"]

# Okabe and Ito's palette: told apart with any colour vision.
COLOURS = {"BD": "#0072B2", "SD": "#D55E00", "TT": "#009E73", "HH": "#E69F00", "CY": "#AA4499"}
OTHER_COLOUR = "#777777"
INK, FAINT, GREY = "#222222", "#DDDDDD", "#8C8C8C"
_STYLE: dict[Any, Any] = {  # only the newest matplotlib has a type of the keys
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial", "sans-serif"],
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "ghostnote",  # the same bytes for the same data
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
_WIDTH = 6.6  # inches
_ROUND: dict[str, Any] = {"markersize": 7, "markeredgecolor": "white", "markeredgewidth": 1.2}


def _picture(draw: Callable[..., Figure]) -> Callable[..., str]:
    """Draw in our style, and return SVG to put into a page."""

    @functools.wraps(draw)
    def drawn(*arguments: Any) -> str:
        import matplotlib as mpl

        text = io.StringIO()
        with mpl.rc_context(_STYLE):
            draw(*arguments).savefig(text, format="svg", metadata={"Date": None})
        svg = text.getvalue()
        return re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :])

    return drawn


def colour(name: str) -> str:
    """The colour of a class, or of what is no class (`pooled`)."""
    return INK if name == "pooled" else COLOURS.get(five_class(name) or name, OTHER_COLOUR)


@_picture
def curves(curve: Mapping[str, Any]) -> Figure:
    """Precision against recall, all classes in one picture."""
    figure, axes = _figure(5.2)
    _iso_f(axes)
    for name, row in curve["classes"].items():
        point = row["operating_point"]
        label = f"{name}: F {point['F']:.2f}, n {row['references']}"
        _curve(axes, name, row, label=label)
    axes.legend(loc="lower left")
    _unit_axes(axes)
    axes.set(xlabel="recall", ylabel="precision")
    return figure


@_picture
def panels(curve: Mapping[str, Any], columns: int = 5) -> Figure:
    """Precision against recall, a small panel per class."""
    rows = curve["classes"]
    lines = -(-len(rows) // columns)
    figure, grid = _figure(1.42 * lines + 0.3, rows=lines, columns=columns, sharex=True, sharey=True)
    for axes in grid.flat[len(rows) :]:
        axes.set_visible(False)
    for axes, (name, row) in zip(grid.flat, rows.items(), strict=False):
        _curve(axes, name, row)
        _unit_axes(axes, steps=2)
        axes.set_title(f"{name}: F {row['operating_point']['F']:.2f}, n {row['references']}", fontsize=8)
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    return figure


@_picture
def delays(by_delay: Mapping[str, Any], chosen_ms: float) -> Figure:
    """Pooled F against total latency for every window, and F of the classes at the first."""
    figure, (pooled, classes) = _figure(3.6, columns=2, sharex=True)
    rows = by_delay["rows"]
    latency_ms = [row["total_latency_ms"] for row in rows]
    for w, line in zip(range(len(rows[0]["windows"])), itertools.cycle(("-", "--", ":", "-.")), strict=False):
        window_ms = 1000 * rows[0]["windows"][w]["window_s"]
        f = [row["windows"][w]["F"] for row in rows]
        pooled.plot(latency_ms, f, line, color=INK, marker="o", markersize=4, label=f"±{window_ms:g} ms")
    for name in rows[0]["windows"][0]["classes"]:
        f = [row["windows"][0]["classes"][name] for row in rows]
        classes.plot(latency_ms, f, color=colour(name), marker="o", markersize=3, label=name)
    pooled.set(title="pooled", ylabel="F", ylim=_from_above(window["F"] for row in rows for window in row["windows"]))
    classes.set(title=f"by class, ±{1000 * rows[0]['windows'][0]['window_s']:g} ms")
    classes.set_ylim(_from_above(f for row in rows for f in row["windows"][0]["classes"].values()))
    for axes in (pooled, classes):
        axes.axvline(chosen_ms, color=GREY, linewidth=1, linestyle=":")
        axes.set(xlim=(0, max(400, *latency_ms)), xlabel="total latency, ms")
        axes.legend(loc="lower right", ncols=2 if axes is classes else 1)
    return figure


@_picture
def timing(errors: Mapping[str, Any]) -> Figure:
    """Histogram of estimated minus reference time."""
    figure, axes = _figure(2.8)
    _bars(axes, errors["histogram"], COLOURS["BD"])
    axes.axvline(0, color=INK, linewidth=1)
    axes.axvline(errors["median_ms"], color=COLOURS["SD"], linestyle="--", linewidth=1.2)
    _name_line(axes, errors["median_ms"], f"median {errors['median_ms']:+.1f} ms", COLOURS["SD"])
    axes.set(xlabel="estimated minus reference time, ms", ylabel="hits")
    return figure


@_picture
def emission(times: Mapping[str, Any]) -> Figure:
    """Histograms of the time from attack to report in a live stream, with the total latency."""
    figure, stacked = _figure(4.2, rows=2, sharex=True)
    titles = {"from_reference": "after the reference's attack", "from_report": "after the hit's own time"}
    for axes, (key, title) in zip(stacked, titles.items(), strict=True):
        row = times[key]
        _bars(axes, row["histogram"], COLOURS["BD"])
        limit_ms = times["total_latency_ms"]
        axes.axvline(limit_ms, color=COLOURS["SD"], linewidth=1.4)
        axes.set(title=f"{title}: {row['late']} of {row['n']} late", ylabel="hits")
        _name_line(axes, limit_ms, f"total latency {limit_ms:g} ms", COLOURS["SD"])
    stacked[-1].set(xlabel="time until the hit came out, ms")
    return figure


@_picture
def velocity(errors: Mapping[str, Any]) -> Figure:
    """Estimated against reference velocity of matched hits, 0..1."""
    figure, axes = _figure(4.6)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    for name, row in errors["classes"].items():
        if name != "pooled":
            points = [(r, e) for n, r, e in errors["points"] if n == name]
            r = "-" if row["r"] is None else f"{row['r']:.2f}"
            axes.scatter(*zip(*points, strict=True), s=12, alpha=0.45, linewidths=0, color=colour(name))
            axes.scatter([], [], s=24, linewidths=0, color=colour(name), label=f"{name}: r {r}, n {row['n']}")
    _unit_axes(axes)
    axes.set(xlabel="reference velocity", ylabel="estimated velocity")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@_picture
def differences(result: Mapping[str, Any]) -> Figure:
    """Difference of F with its interval, by class."""
    rows = list(result["classes"].items())
    figure, axes = _figure(0.34 * len(rows) + 0.9)
    for y, (name, row) in enumerate(rows):
        if row["p"] is not None:
            axes.plot([row["low"], row["high"]], [y, y], color=colour(name), linewidth=2.4, solid_capstyle="round")
        axes.plot(row["difference"], y, "o", color=colour(name), **_ROUND)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set(yticks=range(len(rows)), yticklabels=[name for name, _ in rows], ylim=(len(rows) - 0.4, -0.6))
    axes.set(xlabel=f"difference of F at ±{1000 * result['window_s']:g} ms (right: better than the other)")
    axes.grid(visible=False, axis="y")
    return figure


@_picture
def gap(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """F on recordings and on renders, side by side."""
    shown = [row for row in rows if "F" in row["figure"]]
    figure, axes = _figure(0.32 * len(shown) + 0.9)
    for y, row in enumerate(shown):
        axes.plot([row["renders"], row["recordings"]], [y, y], color=FAINT, linewidth=3, zorder=1)
    for key, face in (("renders", COLOURS["HH"]), ("recordings", COLOURS["BD"])):
        axes.plot([row[key] for row in shown], range(len(shown)), "o", color=face, label=key, **_ROUND)
    axes.set(yticks=range(len(shown)), yticklabels=[row["figure"] for row in shown], ylim=(len(shown) - 0.4, -0.6))
    axes.set(xlabel="F", xlim=(0, 1.02))
    axes.grid(visible=False, axis="y")
    axes.legend(loc="lower left")
    return figure


def _figure(height: float, *, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure and its axes, without matplotlib's global state (no window, no list of open figures)."""
    from matplotlib.figure import Figure

    figure = Figure((_WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def _curve(axes: Axes, name: str, row: Mapping[str, Any], label: str | None = None) -> None:
    shown = [(r, p) for r, p in zip(row["recall"], row["precision"], strict=True) if p is not None]
    point = row["operating_point"]
    if shown:
        line = "--" if name == "pooled" else "-"
        axes.plot(*zip(*shown, strict=True), color=colour(name), label=label, linestyle=line)
    axes.plot(point["R"], point["P"], "o", color=colour(name), zorder=3, clip_on=False, **_ROUND)


def _iso_f(axes: Axes) -> None:
    """Faint lines of equal F, named at the right edge."""
    for f in (0.5, 0.6, 0.7, 0.8, 0.9):
        recall = [f / 2 + (1 - f / 2) * step / 100 + 1e-6 for step in range(101)]
        shown = [(r, p) for r in recall if (p := f * r / (2 * r - f)) <= 1]
        axes.plot(*zip(*shown, strict=True), color=FAINT, linewidth=0.9, zorder=0)
        axes.text(1.012, f / (2 - f), f"F {f:g}", color=GREY, fontsize=7, va="center")
    axes.grid(visible=False)


def _unit_axes(axes: Axes, steps: int = 5) -> None:
    ticks = [step / steps for step in range(steps + 1)]
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01), aspect="equal", xticks=ticks, yticks=ticks)


def _bars(axes: Axes, histogram: Mapping[str, Any] | None, face: str) -> None:
    if histogram:
        edges = [histogram["low"] + histogram["width"] * i for i in range(len(histogram["counts"]))]
        axes.bar(edges, histogram["counts"], histogram["width"], align="edge", color=face, linewidth=0)
        axes.set_xlim(edges[0], edges[-1] + histogram["width"])


def _name_line(axes: Axes, x: float, text: str, face: str) -> None:
    """A word above a vertical line."""
    axes.annotate(
        text, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points", ha="center",
        va="bottom", color=face, fontsize=8,
    )  # fmt: skip


def _from_above(values: Any) -> tuple[float, float]:
    """Limits of an axis of F: up to 1, down to the lowest tenth below the data."""
    return max(0.0, int(10 * min(values)) / 10 - 0.1), 1.0
