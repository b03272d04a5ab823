"""`ghostnote sweep`: short training runs over a space of settings; the results as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...runtime.errors import UsageError
from ...runtime.option_groups import flattened
from ..source_options import SourceOptions

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from ..data.dataset import Sources
    from .trials import Start

__all__ = ["sweep"]


@flattened
def sweep(
    folder: Annotated[Path, typer.Argument(help="Folder of the sweep; an interrupted one in it goes on.")],
    *,
    trials: Annotated[int, typer.Option(min=1, help="Trials to finish in all, earlier calls included.")] = 30,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of a trial.")] = 400,
    space: Annotated[Path | None, typer.Option(help="TOML file of ranges. Default: the package's.")] = None,
    preset: Annotated[str, typer.Option(help="Model shape to start from: small, base or large.")] = "small",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search, the weights and the data.")] = 0,
    origin: SourceOptions,
) -> None:
    """Search settings for the lowest onset loss on validation renders, one short training run per trial."""
    from .report import draw, write_tables
    from .search import open_study, search
    from .space import DEFAULT, load

    start = _start(preset, steps, seed, origin.sources(folder / "cache"))
    ranges = load(space or DEFAULT, start.known())
    study = open_study(folder, _settings(start, ranges), seed)

    def after(trial: FrozenTrial) -> None:
        write_tables(study, folder)
        typer.echo(_line(trial))

    search(study, ranges, trials, folder, start.run, after)
    write_tables(study, folder)
    draw(study, folder / "results.png")
    typer.echo(f"{folder / 'results.md'}, results.csv, results.png; best: {_best(study)}")


def _start(preset: str, steps: int, seed: int, sources: Sources) -> Start:
    from dataclasses import replace

    from ..config import PRESETS
    from ..training.trainer import Recipe
    from .trials import Start, short

    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}; expected one of {', '.join(PRESETS)}")
    course = replace(short(Recipe(), steps), seed=seed)
    return Start(PRESETS[preset], course, sources)


def _settings(start: Start, ranges: dict[str, Any]) -> dict[str, Any]:
    """What has to be the same when a sweep goes on, as plain data."""
    from dataclasses import asdict

    sources = start.sources
    return {
        "preset": start.config.name,
        "steps": start.recipe.steps,
        "seed": start.recipe.seed,
        "space": {
            name: {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(r).items()}
            for name, r in ranges.items()
        },
        "data": sources.given,
        "recipe": sources.recipe.to_dict(),
    }


def _line(trial: FrozenTrial) -> str:
    what = trial.user_attrs.get("note", "pruned") if trial.value is None else f"onset loss {trial.value:.3f}"
    values = ", ".join(f"{name} {v:.4g}" if isinstance(v, float) else f"{name} {v}" for name, v in trial.params.items())
    return f"trial {trial.number}: {what} ({values})"


def _best(study: Any) -> str:
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return _line(min(complete, key=lambda trial: trial.value)) if complete else "none, no trial was completed"
