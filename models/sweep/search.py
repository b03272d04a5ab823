"""The search: one Optuna study in one folder, one short training run per trial; goes on after an interruption.

A trial that was running when the process ended is queued again with the same values, and its training run resumes in
the folder that it had.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError

from ...runtime.errors import InputError, UsageError
from ...runtime.files import make_folder
from .space import Space, suggest

__all__ = ["FINISHED", "Infeasible", "Report", "TrialRun", "open_study", "search"]

STUDY, FILE = "ghostnote", "study.db"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
STARTUP_TRIALS = 4  # before any is pruned


class Infeasible(ValueError):  # noqa: N818 - an answer, not a failure
    """Values that make no model, such as a width that is no multiple of the heads."""


Report = Callable[[int, float], None]  # step and validation loss; raises optuna.TrialPruned to end the run
# Values of the space, the run's folder, where to report: trains, or raises Infeasible.
TrialRun = Callable[[dict[str, Any], Path, Report], None]


def open_study(folder: Path, settings: dict[str, Any], seed: int) -> optuna.Study:
    """The study in a folder, made where there is none.

    Raises UsageError for one made with other `settings`, InputError for a file that is no study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    make_folder(folder)
    database = folder.resolve() / FILE
    try:
        study = optuna.create_study(
            study_name=STUDY,
            storage=URL.create("sqlite", database=str(database)).render_as_string(),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
            load_if_exists=True,
        )
    except DatabaseError as error:
        raise InputError(f"{database}: not a sweep's database ({error.orig}); give another folder") from None
    # A sampler that starts from the same seed again would draw the first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    before = study.user_attrs.get("settings")
    if before is None:
        study.set_user_attr("settings", settings)
    elif before != settings:
        different = sorted(key for key in settings if before.get(key) != settings[key])
        raise UsageError(
            f"{folder} holds a sweep with other settings ({', '.join(different)}); "
            "give the same ones to go on with it, or another folder"
        )
    return study


def search(
    study: optuna.Study,
    space: Space,
    trials: int,
    folder: Path,
    run: TrialRun,
    after: Callable[[optuna.trial.FrozenTrial], None],
) -> None:
    """Run until `trials` trials are finished, those of earlier calls included; `after` sees each one."""
    _queue_unfinished(study)
    while len(study.get_trials(deepcopy=False, states=FINISHED)) < trials:
        trial = study.ask()
        name = trial.user_attrs.get("folder", f"trial-{trial.number:04d}")
        trial.set_user_attr("folder", name)
        values = suggest(space, trial)
        try:
            study.tell(trial, _value(trial, values, folder / name, run))
        except optuna.TrialPruned as pruned:
            trial.set_user_attr("note", str(pruned))
            study.tell(trial, state=TrialState.PRUNED)
        after(study.trials[trial.number])


def _value(trial: optuna.Trial, values: dict[str, Any], folder: Path, run: TrialRun) -> float:
    """The lowest validation loss of the trial's run. Raises optuna.TrialPruned."""
    reported: list[float] = []

    def report(step: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise optuna.TrialPruned(f"diverged: loss {loss} at step {step}")
        trial.report(loss, step)
        reported.append(loss)
        if trial.should_prune():
            raise optuna.TrialPruned(f"above the median at step {step}")

    try:
        run(values, folder, report)
    except Infeasible as error:
        raise optuna.TrialPruned(f"not a model: {error}") from error
    return min(reported)


def _queue_unfinished(study: optuna.Study) -> None:
    """Trials that were running when their process ended: the same values and folder again, the old entry closed."""
    waiting = [trial.user_attrs for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,))]
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs not in waiting:  # else this very step was interrupted the last time
            study.enqueue_trial(trial.params, user_attrs=dict(trial.user_attrs))
        study.tell(trial.number, state=TrialState.FAIL)
