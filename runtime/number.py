"""What options that are numbers have in common. Imports nothing heavy."""

from __future__ import annotations

import math

import typer

from .errors import UsageError

__all__ = ["check_finite", "finite", "whole"]

_MOST_DIGITS = 9  # of any whole number here; Python refuses to read thousands


def check_finite(name: str, value: float) -> None:
    """Raises UsageError unless an option's value has an end; NaN passes every minimum."""
    if not math.isfinite(value):
        raise UsageError(f"{name} {value}: expected a finite number")


def finite(option: typer.CallbackParam, value: float) -> float:
    """The same as an option's callback, for commands that tell errors of parsing. Raises UsageError."""
    check_finite(option.opts[0], value)
    return value


def whole(text: str) -> int | None:
    """A whole number in decimal digits; None for any other text."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None
