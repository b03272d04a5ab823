"""The card of a benchmark: machine, versions, commit, model."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from ..models.revision import changed, commit
from ..runtime.engines.opening import model_file
from ..runtime.engines.protocol import Engine

__all__ = ["load_average", "machine_card", "model_card"]


def machine_card() -> dict[str, Any]:
    """Machine, versions, commit, load."""
    versions = {name: _version(name) for name in ("ghostnote", "numpy", "onnxruntime", "soundfile", "soxr")}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        **({"gpu": gpu} if (gpu := _gpu()) else {}),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version for name, version in versions.items() if version},
        "commit": _commit(),
        "load_at_start": load_average(),
    }


def model_card(engine: Engine, path: Path | None) -> dict[str, Any]:
    """The model, by name and by hashes of its weights and its file."""
    return {
        "model": engine.manifest.name,
        "precision": engine.manifest.precision,
        "weights_sha256": engine.manifest.weights_sha256,
        "file_sha256": hashlib.sha256(model_file(path).read_bytes()).hexdigest(),
        "engine": engine.describe(),
    }


def load_average() -> float | None:
    """Processes that wanted to run, mean over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpu() -> str | None:
    """The first NVIDIA GPU that programs see, the clocks that they get on it, and its power limit; None without one."""
    fields = "name,clocks.applications.graphics,clocks.applications.memory,power.limit"
    # A number, or a UUID: nvidia-smi takes both.
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", f"--id={first}"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _commit() -> str:
    """Short hash of the checkout that runs, with a + where files differ from it."""
    known = commit()
    return "unknown (not a git checkout)" if known == "unknown" else known[:7] + ("+" if changed() else "")
