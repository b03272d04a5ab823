"""Failures of an export, each with its exit code (docs/architecture.md)."""

from __future__ import annotations

from ..runtime.errors import GhostnoteError

__all__ = ["CheckError", "MissingLibraryError"]


class CheckError(GhostnoteError):
    """The graph does not pass a gate (checker, parity, NVIDIA's parser); nothing was written under the final name."""

    exit_code = 3


class MissingLibraryError(GhostnoteError):
    """The target cannot be made on this machine: a library or a GPU is missing. Says which, and how to get it."""

    exit_code = 4
