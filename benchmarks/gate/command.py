"""`ghostnote bench compare` and `against`: is a build worse than another one, or than what is stored?"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ...runtime.files import text_file
from ...runtime.number import finite
from ..measuring import GENERATED
from ..page import read_results
from ..result import cell, shown
from .builds import checked_out
from .comparison import Plan, compare
from .statistics import SLOWDOWN_LIMIT, Metric, Verdict
from .stored import against

__all__ = ["compare_builds", "compare_stored"]

BASELINES = Path(__file__).parents[1] / "baselines"
MarkdownOption = Annotated[Path | None, typer.Option(help="Write the table here, for a comment.")]


def compare_builds(
    base: Annotated[str, typer.Argument(metavar="BASE", help="A git revision, or the folder of a checkout.")],
    head: Annotated[str, typer.Argument(metavar="HEAD", help="The same, of what is to be judged.")],
    engine: Annotated[str, typer.Option(help="Bundled model, by name, of each build; or one model file.")] = "small",
    audio: Annotated[Path, typer.Option(help="Recordings; default: the generated set.")] = GENERATED / "audio",
    labels: Annotated[Path, typer.Option(help="Their labels, NAME.txt.")] = GENERATED / "labels",
    budget_s: Annotated[
        float, typer.Option(min=10, callback=finite, help="How long to go on while nothing can be said.")
    ] = 600,
    markdown: MarkdownOption = None,
) -> None:
    """Compare two builds: times interleaved, with a bootstrap of their ratio; hits, F and counts exactly.

    Hits and counts are those of every bundled model, times those of `--engine` and of models whose file is another one
    with the same weights. Of a model trained anew (other weights) only F counts, not that its hits are others, and
    both builds are timed with the older one. Ends with exit code 1 when anything is worse or a bundled model is gone,
    or when the budget is spent and a slowdown over 10 % cannot be ruled out. The last line is one JSON document.
    """
    plan = Plan.of(engine, audio, labels, budget_s)
    with text_file(markdown) as write:
        with checked_out(base) as one, checked_out(head) as two:
            metrics = compare(one, two, plan, _say)
        _conclude(metrics, base, head, write)


def compare_stored(
    results: Annotated[Path, typer.Argument(help="Folder of documents, as `--out` keeps them.")],
    baselines: Annotated[Path, typer.Option(help="Folder with a folder of documents per machine.")] = BASELINES,
    markdown: MarkdownOption = None,
) -> None:
    """Hold measured documents against the stored ones of the same machine, device and clocks.

    Only where nothing else runs: times are compared as they are. Ends with exit code 1 when a figure is worse by more
    than its tolerance (times 10 %, F half a per cent), is gone, or exceeds its limit. Stored documents that were not
    measured are named on standard error. The last line is one JSON document.
    """
    with text_file(markdown) as write:
        _conclude(against(read_results(results), baselines, _say), "stored", results.name, write)


def _conclude(metrics: Sequence[Metric], base: str, head: str, write: Callable[[str], None]) -> None:
    table = as_markdown(metrics, base, head)
    sys.stdout.write(table)
    write(table)
    failed = [metric.name for metric in metrics if metric.fails]
    sys.stdout.write(json.dumps({"base": base, "head": head, "failed": failed, "metrics": _plain(metrics)}) + "\n")
    if failed:
        raise typer.Exit(1)


def as_markdown(metrics: Sequence[Metric], base: str, head: str) -> str:
    """The table that a person reads, also as a comment on a change."""
    lines = [
        f"### {head} against {base}",
        "",
        "| metric | BASE | HEAD | ratio (99 %) | verdict |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {cell(m.name)} | {_measured(m.base, m)} | {_measured(m.head, m)} | {_ratio(m)} | {_verdict(m)} |"
        for m in metrics
    ]
    return "\n".join(lines) + "\n\n"


def _measured(value: float, metric: Metric) -> str:
    return f"{shown(value, 4)} {metric.unit}".strip()


def _ratio(metric: Metric) -> str:
    if metric.interval is None:
        return ""
    i = metric.interval
    return f"{i.estimate:.3f} [{i.low:.3f}, {i.high:.3f}]"


def _verdict(metric: Metric) -> str:
    if metric.verdict is Verdict.CANNOT_TELL:
        limit = f"{100 * SLOWDOWN_LIMIT:.0f} % slowdown"
        return f"cannot tell; **{limit} not ruled out**" if metric.fails else f"cannot tell; {limit} ruled out"
    if metric.verdict is Verdict.WORSE and not metric.stops:
        return "differs, as other weights may"
    return f"**{metric.verdict}**" if metric.fails else str(metric.verdict)


def _plain(metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    return [
        {
            "name": m.name,
            "base": _known(m.base),
            "head": _known(m.head),
            "unit": m.unit,
            "verdict": str(m.verdict),
            "ratio": None if m.interval is None else [m.interval.estimate, m.interval.low, m.interval.high],
        }
        for m in metrics
    ]


def _known(value: float) -> float | None:
    """JSON has no NaN, which is what could not be measured."""
    return value if math.isfinite(value) else None


def _say(line: str) -> None:
    typer.echo(line, err=True)
