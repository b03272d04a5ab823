"""What options that are numbers have in common. Imports nothing heavy."""

from __future__ import annotations

import math

import typer

from .errors import UsageError

__all__ = ["finite"]


def finite(option: typer.CallbackParam, value: float) -> float:
    """An option's callback: a number with an end; NaN passes every minimum. Raises UsageError."""
    if not math.isfinite(value):
        raise UsageError(f"{option.opts[0]} {value}: expected a finite number")
    return value
