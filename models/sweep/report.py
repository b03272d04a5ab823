"""What a sweep found: a table (Markdown, CSV) and a picture."""

from __future__ import annotations

import csv
import itertools
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from .search import FINISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw", "importances", "write_tables"]

FEWEST_FOR_IMPORTANCES = 8  # complete trials; the best tenth of fewer is no sample
COLUMNS = 3


def write_tables(study: optuna.Study, folder: Path) -> None:
    """results.md, the best first, and results.csv, in the order of the trials."""
    trials = study.get_trials(deepcopy=False, states=FINISHED)
    names = _names(trials)
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["trial", "state", "onset_loss", "steps", "minutes", *names, "folder", "note"])
        writer.writerows(_row(trial, names) for trial in trials)
    (folder / "results.md").write_text(_markdown(study, trials, names), encoding="utf-8")


def _names(trials: list[FrozenTrial]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def _row(trial: FrozenTrial, names: list[str]) -> list[Any]:
    value, minutes = _loss(trial), _minutes(trial)
    return [
        trial.number,
        trial.state.name.lower(),
        "" if value is None else f"{value:.5g}",
        trial.last_step or "",
        f"{minutes:.2f}",
        *(_shown(trial.params.get(name, "")) for name in names),
        trial.user_attrs.get("folder", ""),
        trial.user_attrs.get("note", ""),
    ]


def _markdown(study: optuna.Study, trials: list[FrozenTrial], names: list[str]) -> str:
    def key(trial: FrozenTrial) -> tuple[bool, float]:
        value = _loss(trial)
        return trial.state != TrialState.COMPLETE, math.inf if value is None else value

    header = ["trial", "onset loss", "steps", "minutes", *names]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for trial in sorted(trials, key=key):
        number, state, loss, *rest = _row(trial, names)
        cells = [number, f"{loss or '-'}{' (pruned)' if state == 'pruned' else ''}", *rest[: len(header) - 2]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    shares = importances(study)
    if shares:
        ranked = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
        lines += ["", f"Importance for being among the best tenth (PED-ANOVA, Watanabe et al. 2023): {ranked}."]
    return "\n".join(lines) + "\n"


def _loss(trial: FrozenTrial) -> float | None:
    """A complete trial's value; what a pruned one reported last; None where it reported nothing."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    step = trial.last_step
    return None if step is None else trial.intermediate_values[step]


def _minutes(trial: FrozenTrial) -> float:
    return 0.0 if trial.duration is None else trial.duration.total_seconds() / 60


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each parameter in what tells the best trials from the rest; empty while there are too few."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST_FOR_IMPORTANCES:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return optuna.importance.get_param_importances(study, evaluator=evaluator)


def draw(study: optuna.Study, path: Path) -> None:
    """The course of the search, the parameters' importances, and the loss over each parameter."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    trials = [t for t in study.get_trials(deepcopy=False, states=FINISHED) if _loss(t) is not None]
    names = _names(trials)
    rows = 1 + -(-len(names) // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 3.2 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, COLUMNS)
    _draw_history(figure.add_subplot(grid[0, : COLUMNS - 1]), trials)
    _draw_importances(figure.add_subplot(grid[0, COLUMNS - 1]), importances(study))
    for i, name in enumerate(names):
        _draw_slice(figure.add_subplot(grid[1 + i // COLUMNS, i % COLUMNS]), name, trials)
    figure.savefig(path)


def _draw_history(axes: Axes, trials: list[FrozenTrial]) -> None:
    complete = [(t.number, t.value) for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    _scatter(axes, [t.number for t in trials], trials)
    best = list(itertools.accumulate((value for _, value in complete), min))
    axes.step([number for number, _ in complete], best, where="post", color="tab:red", label="best so far")
    axes.set(xlabel="trial", ylabel="onset loss (validation)", title="course")
    axes.locator_params(axis="x", integer=True)
    axes.legend(fontsize=8)


def _draw_importances(axes: Axes, shares: dict[str, float]) -> None:
    axes.set_title("importance (PED-ANOVA)")
    if not shares:
        axes.text(0.5, 0.5, f"after {FEWEST_FOR_IMPORTANCES} complete trials", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    axes.barh(list(shares)[::-1], list(shares.values())[::-1], color="tab:blue")
    axes.tick_params(axis="y", labelsize=8)


def _draw_slice(axes: Axes, name: str, trials: list[FrozenTrial]) -> None:
    having = [t for t in trials if name in t.params]
    values = [t.params[name] for t in having]
    kind = having[0].distributions[name]
    if isinstance(kind, optuna.distributions.CategoricalDistribution):
        labels = list(kind.choices)
        axes.set_xticks(range(len(labels)), [str(label) for label in labels])
        values = [labels.index(value) for value in values]
    elif getattr(kind, "log", False):
        axes.set_xscale("log")
    _scatter(axes, values, having)
    axes.set_xlabel(name)


def _scatter(axes: Axes, x: list[Any], trials: list[FrozenTrial]) -> None:
    """A dot per trial: filled when complete, hollow when pruned."""
    for state, face, label in ((TrialState.COMPLETE, "tab:blue", "complete"), (TrialState.PRUNED, "none", "pruned")):
        chosen = [(value, _loss(trial)) for value, trial in zip(x, trials, strict=True) if trial.state == state]
        if chosen:
            places, losses = zip(*chosen, strict=True)
            axes.scatter(places, losses, s=22, facecolors=face, edgecolors="tab:blue", label=label)
