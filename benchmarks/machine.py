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
        **({"instructions": widest} if (widest := _instructions()) else {}),
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
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _instructions() -> str | None:
    """The widest vector instructions of an x86 processor: products take half as long with one set as with the other.

    Clouds call processors of several generations by one name. None where the system does not tell.
    """
    flags = _cpuinfo("flags").split()
    return next((name for name, flag in (("AVX-512", "avx512f"), ("AVX2", "avx2")) if flag in flags), None)


def _cpuinfo(field: str) -> str:
    """A field of the first core, empty where it is not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")


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
