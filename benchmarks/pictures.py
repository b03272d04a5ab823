"""Pictures of kept documents: latency's distribution, cost against chunk and batch, F against latency."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from .result import Result

matplotlib.rcParams["svg.hashsalt"] = "ghostnote"  # the same bytes for the same data

__all__ = ["draw", "draw_history"]

HISTORY_FIGURES = ("whole file, cost per s of audio", "40 ms chunk, p99", "F, total latency 100 ms")


def draw(results: Sequence[Result], folder: Path, device: str) -> Iterator[tuple[str, Path]]:
    """Write the pictures that the documents hold data for into `folder`, which is there; title and file of each."""
    for result in results:
        name = "-".join(result.key)  # as of its document: every one has pictures of its own
        for key, (title, plot) in PICTURES.items():
            if key in result.series:
                figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
                plot(axes, result.series[key])
                axes.set_title(f"{title}: {name}, {device}", fontsize=10)
                axes.grid(color="0.9", linewidth=0.6)
                path = folder / f"{device}-{name}-{key.replace('_', '-')}.svg"
                figure.savefig(path, metadata={"Date": None})
                plt.close(figure)
                yield title, path


def draw_history(lines: Sequence[Mapping[str, Any]], folder: Path, device: str) -> Path | None:
    """Some figures from commit to commit, relative to the first; nothing while none was measured at two commits."""
    commits = list(dict.fromkeys(line["commit"] for line in lines))
    curves = {}  # by label, the latest figure of each commit
    for name in HISTORY_FIGURES:
        for model in sorted({line["model"] for line in lines}):
            latest = {line["commit"]: line["figures"][name] for line in lines if _has(line, name, model)}
            if len(latest) > 1:
                curves[f"{name}, {model}"] = latest
    if not curves:
        return None
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for label, latest in curves.items():
        values = np.array(list(latest.values()))
        axes.plot([commits.index(commit) for commit in latest], values / values[0], "o-", label=label)
    axes.set_xticks(range(len(commits)), commits, rotation=45, fontsize=7)
    axes.set_ylabel("relative to the first")
    axes.legend(fontsize=7)
    path = folder / f"{device}-history.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _has(line: Mapping[str, Any], name: str, model: str) -> bool:
    return line["model"] == model and bool(line["figures"].get(name))


def _distribution(axes: Any, by_chunk: dict[str, list[float]]) -> None:
    for label, quantiles in by_chunk.items():
        above = 1 - np.linspace(0, 1, len(quantiles))
        axes.plot(quantiles[:-1], above[:-1], label=label)
    axes.set(xscale="log", yscale="log", xlabel="ms of wall clock", ylabel="share of chunks that take longer")
    axes.legend(fontsize=8)


def _steps(axes: Any, by_batch: dict[str, dict[str, float]], cost: str = "ms of CPU") -> None:
    for batch, by_tokens in by_batch.items():
        tokens = np.array([int(t) for t in by_tokens])
        axes.plot(tokens, np.array(list(by_tokens.values())) / tokens / int(batch), "o-", label=f"batch {batch}")
    axes.set(xscale="log", yscale="log", xlabel="tokens of 20 ms per call", ylabel=f"{cost} per token of a stream")
    axes.legend(fontsize=8)


def _f_by_latency(axes: Any, rows: dict[str, dict[str, float]]) -> None:
    latency_ms = [float(ms) for ms in rows]
    for name in dict.fromkeys(name for row in rows.values() for name in row):  # a class may have no F at some
        width = 2.5 if name == "pooled" else 1
        axes.plot(latency_ms, [row.get(name, np.nan) for row in rows.values()], "o-", label=name, linewidth=width)
    axes.set(xlabel="total latency, ms", ylabel="F at 50 ms", ylim=(0, 1))
    axes.legend(fontsize=8, ncols=3)


# By a document's series: the title, and what draws the series on axes.
PICTURES: dict[str, tuple[str, Callable[[Any, Any], None]]] = {
    "distribution_ms": ("Latency of chunks", _distribution),
    "step_ms": ("Cost against chunk and batch", _steps),
    "call_ms": ("Calls on a GPU, copies included", functools.partial(_steps, cost="ms of wall clock")),
    "f_by_latency_ms": ("F against latency", _f_by_latency),
}
