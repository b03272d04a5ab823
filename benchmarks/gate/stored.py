"""Documents against the stored ones of the same machine: device, clocks and all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...runtime.errors import InputError
from ..page import read_results
from ..result import Result
from .statistics import Metric, Verdict, judge_stable

__all__ = ["against"]

MACHINE = ("cpu", "cores", "gpu")  # what must be alike on the cards; `gpu` holds its clocks and its power limit


def against(results: Sequence[Result], baselines: Path) -> list[Metric]:
    """Every figure with a better side that both have, and every limit of `results` that is newly exceeded.

    Raises InputError where `baselines` holds no folder of this machine's, where nothing in it can be compared, and
    where a document was measured in another way than the stored one of the same suite and model.
    """
    stored = {result.key: result for result in _of_this_machine(results, baselines)}
    metrics = [metric for result in results for metric in _judged(result, stored.get(result.key))]
    if not metrics:
        known = ", ".join(sorted(" ".join(key) for key in stored))
        raise InputError(f"nothing to compare: the stored documents are {known}; measure one of these")
    return metrics


def _of_this_machine(results: Sequence[Result], baselines: Path) -> list[Result]:
    machine = _machine(results[0].card)
    for folder in sorted({path.parent for path in baselines.glob("*/*.json")}):  # an empty folder is no device
        found = read_results(folder)
        if _machine(found[0].card) == machine:
            return found
    about = ", ".join(str(value) for value in machine.values())
    raise InputError(
        f"{baselines}: holds no folder of this machine ({about}); keep the documents as {baselines}/NAME to have one"
    )


def _machine(card: Any) -> dict[str, Any]:
    return {key: card[key] for key in MACHINE if card.get(key) is not None}


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
