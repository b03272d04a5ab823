"""A trial's values applied to a starting point: training recipe, shape of the model, render recipe; and its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..config import FrameGrid
from ..data.dataset import Sources
from ..training.trainer import Recipe, Trainer
from .search import Infeasible, Report

__all__ = ["VALIDATION_CLIPS", "Start", "short"]

# Given by the command, or deciding what is validated on: runs that differ in these cannot be compared.
FIXED = {"steps", "seed", "tokens", "validation_every", "validation_batches"}
FIXED |= {"plain_onset_loss", "margin_ms", "view_dropout", "delays_ms"}  # the validation loss is made of them
FIXED |= {"precision"}  # Accelerate has one per process
FIXED |= {"distillation_weight"}  # a trial has no teacher
FIXED |= {"name", "classes", "sample_rate", "samples_per_token", "frames_per_token"}
VALIDATIONS = 5  # per run
VALIDATION_CLIPS = 48
WARMUP_SHARE = 0.1  # of the steps at most


@dataclass(frozen=True)
class Start:
    """What every trial starts from."""

    config: FrameGrid
    recipe: Recipe
    sources: Sources

    def known(self) -> list[str]:
        """The names that a space may hold: fields of recipe and config, STAGE.SETTING of the render recipe."""
        names = [field.name for part in (self.recipe, self.config) for field in fields(part)]
        stages = self.sources.recipe.stages
        rendering = [f"{stage}.{setting}" for stage, settings in stages.items() for setting in settings]
        return [name for name in names if name not in FIXED] + rendering

    def changed(self, values: Mapping[str, Any]) -> Start:
        """The same with a trial's values. Raises Infeasible for values that make no model."""
        try:
            recipe = replace(self.recipe, **_of(self.recipe, values))
            config = replace(self.config, **_of(self.config, values))
        except ValueError as error:
            raise Infeasible(str(error)) from error
        # The same clips in batches of any size that divides their number.
        recipe = replace(recipe, validation_batches=max(1, VALIDATION_CLIPS // recipe.clips))
        rendering = self.sources.recipe
        for name, value in values.items():
            stage, _, setting = name.partition(".")
            rendering = rendering.changed(stage, **{setting: value}) if setting else rendering
        # Validated on the unchanged recipe: a renderer that makes easy clips would win otherwise.
        sources = replace(self.sources, recipe=rendering, validation_recipe=self.sources.recipe)
        return Start(config, recipe, sources)

    def run(self, values: dict[str, Any], folder: Path, report: Report) -> None:
        """Train a trial in its folder, from where it was left; reports the onset loss of every validation."""
        trial = self.changed(values)
        trainer = Trainer(trial.config, trial.recipe, trial.sources, folder, {"sweep": values})
        if trainer.step:
            report(trainer.step, trainer.best)
        trainer.run(on_validation=lambda step, losses: report(step, losses["onset"]))


def short(recipe: Recipe, steps: int) -> Recipe:
    """The recipe for a run of a few steps: an early end of the warm-up, some validations on the way."""
    return replace(
        recipe,
        steps=steps,
        warmup_steps=max(1, min(recipe.warmup_steps, int(WARMUP_SHARE * steps))),
        validation_every=max(1, steps // VALIDATIONS),
    )


def _of(part: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are fields of a dataclass, lists as tuples."""
    names = {field.name for field in fields(part)}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in names}
