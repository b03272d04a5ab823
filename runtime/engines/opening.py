"""Opening a model by file or by the name of a bundled one."""

from __future__ import annotations

import importlib.resources
import os
import shlex
from importlib.resources.abc import Traversable
from pathlib import Path

from ..errors import EngineError, UsageError
from .choices import MOST_BY_DEFAULT, MOST_THREADS, DeviceName
from .protocol import Engine

__all__ = ["DEFAULT_MODEL", "bundled_models", "model_file", "model_files", "open_engine", "open_engines"]

DEFAULT_MODEL = "base"  # of the bundled ones


def open_engine(path: Path | str | None = None, *, threads: int = 1, device: str = "cpu") -> Engine:
    """Open a model file, or one of the bundled models by its name (None: the default one).

    A .plan runs on the GPU that it was built for. Everything else is an ONNX file for onnxruntime, on `threads` threads
    of the CPU, or with `device` "cuda" on a GPU. Raises EngineError; UsageError for an unknown device or a number of
    threads that is not 1 to MOST_THREADS.
    """
    if device not in [*DeviceName]:
        raise UsageError(f"device '{device}'; expected one of {', '.join(DeviceName)}")
    if not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"{threads} threads; expected 1 to {MOST_THREADS}; more than there are cores gain nothing")
    file = model_file(path)
    if problem := _problem(file):
        names = ", ".join(bundled_models()) or "none"
        raise EngineError(
            f"{file}: {problem}; expected one made by export-model, or the name of a bundled model ({names})"
        )
    with importlib.resources.as_file(file) as opened:
        ending = opened.suffix.lower()
        if ending == ".pt":
            raise EngineError(f"{opened}: a checkpoint; export it first: export-model {shlex.quote(str(opened))}")
        if ending == ".plan":
            from .plan_file import open_plan

            return open_plan(opened)
        if device == DeviceName.CUDA:
            from .onnxruntime_cuda import OnnxRuntimeCudaEngine

            return OnnxRuntimeCudaEngine(opened, threads=threads)
        from .onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(opened, threads=threads)


def open_engines(path: Path | str | None = None, count: int | None = None) -> list[Engine]:
    """As many engines of one thread for a `StreamPool`, 1 or more. Raises what `open_engine` raises.

    None: one per core for an ONNX file, MOST_BY_DEFAULT at most; one for a plan.
    """
    if count is not None and count < 1:
        raise UsageError(f"{count} engines: expected 1 or more")
    if count is None:
        count = 1 if model_file(path).name.lower().endswith(".plan") else min(_usable_cores(), MOST_BY_DEFAULT)
    return [open_engine(path) for _ in range(count)]


def _usable_cores() -> int:
    """Cores that this process may use, where the system tells; else those there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def model_file(path: Path | str | None = None) -> Traversable:
    """The file that `open_engine` opens. A file that is there goes before a bundled model of the same name."""
    given = Path(path or DEFAULT_MODEL)
    if str(given) not in bundled_models() or not _problem(given):
        return given
    return _assets() / f"{given}.onnx"


def model_files(path: Path | str | None = None) -> list[tuple[str, Path]]:
    """The files that `open_engine` reads, as far as they lie on the disk by themselves: what each is, its name."""
    file = model_file(path)
    if not isinstance(file, Path):
        return []
    if file.suffix != ".plan":
        return [("model", file)]
    from .sidecar import sidecar_of

    return [("model", file), ("description of the model", sidecar_of(file))]


def bundled_models() -> list[str]:
    """Names of the models that came with this installation."""
    return sorted(item.name.removesuffix(".onnx") for item in _assets().iterdir() if item.name.endswith(".onnx"))


def _problem(file: Traversable) -> str:
    """Why there is no model file to open; empty where there is one."""
    try:
        return "" if file.is_file() else "no such model file"
    except OSError as error:  # a folder that may not be searched, a name that is too long
        return f"cannot be opened ({error.strerror})"


def _assets() -> Traversable:
    return importlib.resources.files("ghostnote.runtime") / "assets"
