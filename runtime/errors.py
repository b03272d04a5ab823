"""Errors that a user can cause or cure. Each carries the exit code of docs/architecture.md and a one-line message:
what came, what was expected, what to do.
"""

from __future__ import annotations

__all__ = ["EngineError", "GhostnoteError", "InputError", "ManifestError", "OutputError", "UsageError"]


class GhostnoteError(Exception):
    """Base of all expected failures; `exit_code` is what a command returns for it."""

    exit_code: int = 1


class UsageError(GhostnoteError):
    """The request makes no sense as asked (bad command line, a latency no model setting meets)."""

    exit_code = 2


class InputError(GhostnoteError):
    """The input cannot be read: missing, not audio, empty, broken half-way."""

    exit_code = 5


class OutputError(GhostnoteError):
    """The output cannot be written."""

    exit_code = 6


class EngineError(GhostnoteError):
    """The engine or its model file is unusable: not ours, broken, runtime library missing or clashing."""

    exit_code = 7


class ManifestError(EngineError):
    """A model's manifest is missing something, wrong, or of a newer schema."""
