"""Documents against the stored ones of the same machine: device, clocks and all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ...runtime.errors import InputError
from ..page import read_results
from ..result import Result
from .statistics import Metric, Verdict, judge_stable

__all__ = ["against"]

# What must be alike on the cards; `gpu` holds its clocks and its power limit.
MACHINE = ("cpu", "instructions", "cores", "gpu")


def against(results: Sequence[Result], baselines: Path, say: Callable[[str], None]) -> list[Metric]:
    """Every figure with a better side that both have, and every limit of `results` that is newly exceeded.

    `say` is told which stored documents were not measured. Raises InputError where `baselines` holds no folder of this
    machine's, or several, where nothing in it can be compared, where documents are of several machines, and where one
    was measured in another way than the stored one of the same suite and model.
    """
    stored = {result.key: result for result in _of_machine(_machine_of_all(results, "measured"), baselines)}
    metrics = [metric for result in results for metric in _judged(result, stored.get(result.key))]
    if not metrics:
        raise InputError(f"nothing to compare: the stored documents are {_names(stored)}; measure one of these")
    if missing := stored.keys() - {result.key for result in results}:
        say(f"warning: stored, but not measured: {_names(missing)}")
    return metrics


def _names(keys: Iterable[tuple[str, ...]]) -> str:
    return ", ".join(sorted(" ".join(key) for key in keys))


def _of_machine(machine: str, baselines: Path) -> list[Result]:
    folders = sorted({path.parent for path in baselines.glob("*/*.json")})  # an empty folder is no device
    of_it = {folder: found for folder in folders if machine in map(_machine, found := read_results(folder))}
    if not of_it:
        raise InputError(
            f"{baselines}: holds no folder of this machine ({machine}); keep the documents as {baselines}/NAME to have "
            "one"
        )
    if len(of_it) > 1:
        names = ", ".join(folder.name for folder in of_it)
        raise InputError(f"{baselines}: several folders are of this machine ({machine}): {names}; keep one of them")
    ((folder, stored),) = of_it.items()
    _machine_of_all(stored, f"in {folder}")
    return stored


def _machine_of_all(results: Sequence[Result], where: str) -> str:
    """The machine that all cards name. Raises InputError where one names another."""
    machine = _machine(results[0])
    for result in results:
        if _machine(result) != machine:
            raise InputError(
                f"{' '.join(result.key)}, {where}: of another machine ({_machine(result)}) than "
                f"{' '.join(results[0].key)} ({machine}); keep documents of one machine in a folder"
            )
    return machine


def _machine(result: Result) -> str:
    return ", ".join(str(result.card[key]) for key in MACHINE if result.card.get(key) is not None)


def _judged(result: Result, stored: Result | None) -> Iterator[Metric]:
    name = " ".join(result.key)
    if stored is not None and stored.title != result.title:  # it says with which options
        raise InputError(
            f"{name}: '{result.title}' was measured, '{stored.title}' is stored; measure it with the same options"
        )
    found = {figure.name: figure for figure in result.figures}
    failed = {figure.name for figure in (stored.figures if stored else ()) if figure.verdict == "FAIL"}
    for figure in found.values():
        if figure.verdict == "FAIL" and figure.name not in failed:
            yield _worse(f"{name}: {figure.name}, limit", figure.limit, figure.value, figure.unit)
    for before in () if stored is None else stored.figures:
        if before.better is None or before.value is None:
            continue
        about, now = f"{name}: {before.name}", found.get(before.name)
        if now is None or now.value is None:  # gone, as a size that does not fit any more
            yield _worse(about, before.value, None, before.unit)
        else:
            tolerance = before.tolerance * abs(before.value)
            verdict = judge_stable(before.value, now.value, tolerance, more_is_better=before.better == "more")
            yield Metric(about, before.value, now.value, before.unit, verdict)


def _worse(name: str, base: float | None, value: float | None, unit: str) -> Metric:
    base, value = (math.nan if number is None else number for number in (base, value))
    return Metric(name, base, value, unit, Verdict.WORSE)
