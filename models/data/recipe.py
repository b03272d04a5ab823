"""The render recipe: every stage that a training clip goes through, with its parameters, in one readable TOML file.

A stage that the file does not name is off. Every stage of a clip draws from a generator of its own, seeded by the
clip's seed and the stage's name: switching one off leaves what the others draw as it was.
"""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.errors import InputError, UsageError

__all__ = ["RECIPES", "Draws", "RenderRecipe", "Settings", "within"]

FOLDER = Path(__file__).parent / "recipes"
RECIPES = ("plain", "solo", "production")
_SHARES = {"swapped", "accented", "in_rhythm", "instead"}  # and what is called a share or a chance
_ABOVE_0 = {"decay_s", "release_s", "bright_gain"}  # divided by, or taken the logarithm of

Settings = Mapping[str, Any]


class Draws:
    """The random numbers of one clip: `draws[stage]` is that stage's generator, the same object every time."""

    def __init__(self, *seed: int):
        self.seed = seed
        self._generators: dict[str, np.random.Generator] = {}

    def __getitem__(self, stage: str) -> np.random.Generator:
        if stage not in self._generators:
            self._generators[stage] = np.random.default_rng([*self.seed, zlib.crc32(stage.encode())])
        return self._generators[stage]


@dataclass(frozen=True)
class RenderRecipe:
    """Stages by name, each with its settings, in the file's order."""

    name: str
    stages: Mapping[str, Settings]

    @classmethod
    def load(cls, source: str | Path) -> RenderRecipe:
        """A recipe of the package by name (`RECIPES`), or a TOML file.

        Raises InputError where the file cannot be read, UsageError for a stage or setting that does not exist.
        """
        shipped = FOLDER / f"{source}.toml"
        path = shipped if str(source) in RECIPES else Path(source)
        try:
            stages = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            names = ", ".join(RECIPES)
            raise InputError(f"{path}: cannot be read ({error.strerror}); give a TOML file or one of {names}") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{path}: not a render recipe ({error})") from None
        recipe = cls(path.stem, stages)
        if path != shipped_reference():
            recipe._check(known=cls.load(RECIPES[-1]).stages)
        return recipe

    def __contains__(self, stage: str) -> bool:
        return stage in self.stages

    def __getitem__(self, stage: str) -> Settings:
        return self.stages[stage]

    def setting(self, stage: str, name: str, off: Any) -> Any:
        """One setting, or `off` where the stage is switched off."""
        return self.stages[stage][name] if stage in self.stages else off

    def without(self, *names: str) -> RenderRecipe:
        """The same recipe with these stages off. Raises UsageError for a name that the recipe does not hold."""
        if unknown := sorted(set(names) - set(self.stages)):
            raise UsageError(f"recipe {self.name} has no stage {', '.join(unknown)}; it has {', '.join(self.stages)}")
        kept = {name: settings for name, settings in self.stages.items() if name not in names}
        return RenderRecipe("-".join([self.name, *(f"no-{name}" for name in names)]), kept)

    def changed(self, stage: str, **settings: Any) -> RenderRecipe:
        """The same recipe with other settings of one stage. Raises UsageError for one that does not exist."""
        changed = RenderRecipe(self.name, {**self.stages, stage: {**self.stages.get(stage, {}), **settings}})
        changed._check(known=RenderRecipe.load(RECIPES[-1]).stages)
        return changed

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as kept with the weights."""
        return {"name": self.name, "stages": {name: dict(settings) for name, settings in self.stages.items()}}

    def _check(self, known: Mapping[str, Settings]) -> None:
        for stage, settings in self.stages.items():
            if stage not in known:
                raise UsageError(f"recipe {self.name}: unknown stage {stage!r}; known: {', '.join(known)}")
            if not isinstance(settings, Mapping):
                raise UsageError(f"recipe {self.name}: {stage} = {settings!r} is no stage; expected a table [{stage}]")
            if set(settings) != set(known[stage]):
                raise UsageError(
                    f"recipe {self.name}: stage {stage} has {', '.join(settings)}; expected {', '.join(known[stage])}"
                )
            for name, value in settings.items():
                expected = _form(known[stage][name])
                if _form(value) != expected:
                    raise UsageError(f"recipe {self.name}: {name} = {value!r} in stage {stage}; expected {expected}")
                if problem := _limits(name, value):
                    raise UsageError(f"recipe {self.name}: {name} = {value!r} in stage {stage}; expected {problem}")


def _limits(name: str, value: Any) -> str:
    """What a setting has to be and is not; empty where it is."""
    lowest, highest = (min(value), max(value)) if isinstance(value, Sequence) else (value, value)
    if (name.endswith(("share", "chance")) or name in _SHARES) and not 0 <= lowest <= highest <= 1:
        return "a share, 0 to 1"
    return "more than 0" if name in _ABOVE_0 and lowest <= 0 else ""


def _form(value: Any) -> str:
    """What a setting is, in words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    numbers = isinstance(value, Sequence) and all(isinstance(limit, int | float) for limit in value)
    if numbers and len(value) == 2:
        return "a range [low, high]" if value[0] <= value[1] else "a range the wrong way round"
    return f"a {type(value).__name__}"


def shipped_reference() -> Path:
    """The file that names every stage and setting there is."""
    return FOLDER / f"{RECIPES[-1]}.toml"


def within(rng: np.random.Generator, limits: Sequence[float]) -> float:
    """An even draw from a range [low, high] of the recipe."""
    low, high = limits
    return float(rng.uniform(low, high))
