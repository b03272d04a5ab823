"""What stands beside a plan, as `NAME.plan.json`: the manifest, and under the key "plan" who built it, for what."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import EngineError, InputError, ManifestError
from ..manifest import Manifest

__all__ = ["RECORD", "Sidecar", "read_sidecar", "sidecar_of", "this_platform"]

RECORD = "plan"  # the key


class Sidecar(NamedTuple):
    """A sidecar's two parts."""

    manifest: Manifest
    record: dict[str, Any]  # flavour, version, compute capabilities, driver, profiles, hashes, seconds


def sidecar_of(plan: Path) -> Path:
    """Where the sidecar of a plan stands: model.plan.json beside model.plan."""
    return plan.with_name(f"{plan.name}.json")


def read_sidecar(plan: Path) -> Sidecar:
    """The sidecar of a plan. Raises InputError where it cannot be read, EngineError or ManifestError if it is none."""
    path = sidecar_of(plan)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); a plan needs it beside it, or is built again"
        ) from error
    except (ValueError, RecursionError) as error:  # not JSON, not text
        raise EngineError(f"{path}: not JSON ({error}); build the plan again") from error
    record = document.get(RECORD) if isinstance(document, dict) else None
    if not isinstance(record, dict):
        raise EngineError(f"{path}: expected a manifest with an object '{RECORD}'; build the plan again")
    try:
        return Sidecar(Manifest.from_dict(document), record)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def this_platform() -> str:
    """System and processor, which a plan is for, as in "linux x86_64"."""
    return f"{platform.system()} {platform.machine()}".lower()
