"""The space of a sweep: which settings vary, between which values; read from TOML, drawn from by Optuna."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.errors import InputError, UsageError

if TYPE_CHECKING:
    import optuna

__all__ = ["DEFAULT", "Choices", "Range", "Space", "load", "suggest"]

DEFAULT = Path(__file__).parent / "default.toml"


@dataclass(frozen=True)
class Range:
    """Values from `low` to `high`, both included; whole numbers where both ends are."""

    low: float
    high: float
    log: bool = False

    def draw(self, name: str, trial: optuna.Trial) -> float:
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choices:
    """Values to choose from; lists among them (a pair of a render recipe)."""

    values: tuple[Any, ...]

    def draw(self, name: str, trial: optuna.Trial) -> Any:
        # Optuna stores plain values only: a list goes by its text.
        texts = [str(value) if isinstance(value, list) else value for value in self.values]
        return self.values[texts.index(trial.suggest_categorical(name, texts))]


Space = Mapping[str, Range | Choices]


def suggest(space: Space, trial: optuna.Trial) -> dict[str, Any]:
    """A trial's values, by name."""
    return {name: entry.draw(name, trial) for name, entry in space.items()}


def load(path: Path, known: Iterable[str]) -> dict[str, Range | Choices]:
    """Read a space. Raises InputError for a file that cannot be read, UsageError for what it may not say."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a TOML file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from None
    entries = dict(_entries(document))
    names = sorted(known)
    if unknown := sorted(set(entries) - set(names)):
        raise UsageError(f"{path}: unknown {', '.join(unknown)}; known: {', '.join(names)}")
    if not entries:
        raise UsageError(
            f"{path}: holds no settings; expected lines like learning_rate = {{ low = 1e-3, high = 1e-2 }}"
        )
    return {name: _entry(f"{path}: {name}", value) for name, value in entries.items()}


def _entries(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names with their entries; a table that is no entry is a stage of the render recipe."""
    for name, value in document.items():
        if not prefix and isinstance(value, dict) and all(isinstance(inner, dict) for inner in value.values()):
            yield from _entries(value, f"{name}.")
        else:
            yield prefix + name, value


def _entry(where: str, value: Any) -> Range | Choices:
    keys = set(value) if isinstance(value, dict) else set()
    if keys == {"choices"} and isinstance(value["choices"], list) and value["choices"]:
        return Choices(tuple(value["choices"]))
    if {"low", "high"} <= keys <= {"low", "high", "log"}:
        return _range(where, value)
    raise UsageError(f"{where}: found {value!r}; expected {{ low, high }}, {{ low, high, log }} or {{ choices }}")


def _range(where: str, value: dict[str, Any]) -> Range:
    ends = value["low"], value["high"]
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends) or ends[0] >= ends[1]:
        raise UsageError(f"{where}: found {ends[0]!r} to {ends[1]!r}; expected two numbers, low below high")
    log = value.get("log", False)
    if log and ends[0] <= 0:
        raise UsageError(f"{where}: log needs low above 0, found {ends[0]!r}")
    return Range(*ends, log=bool(log))
