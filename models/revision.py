"""The commit of the code that runs, where it runs from a checkout of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["changed", "commit"]

PACKAGE = Path(__file__).resolve().parent.parent


def commit() -> str:
    """Its hash; "unknown" where there is no git, or the package lies in somebody else's checkout."""
    top = _git("rev-parse", "--show-toplevel")
    return (_git("rev-parse", "HEAD") if top and Path(top).resolve() == PACKAGE else "") or "unknown"


def changed() -> bool:
    """Whether files differ from it."""
    return bool(_git("status", "--porcelain", "-uno"))


def _git(*arguments: str) -> str:
    """What git answers; nothing where it fails or is missing."""
    try:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
