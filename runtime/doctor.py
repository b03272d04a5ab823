"""What this machine can transcribe and export with, what it cannot and why, and what would help.

Works in the base install. Every inference library is tried in a process of its own (runtime/probes.py), so that one
which crashes is reported instead of suffered.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from .engines.cuda_driver import Driver, probe_driver

__all__ = ["LINE", "Diagnosis", "Extra", "Finding", "diagnose"]

TIMEOUT_S = 120  # the first start of CUDA may take a minute
LINE = "ghostnote-probe "  # begins every line that a probe says to us; libraries print, too
_CLASH = "onnxruntime and onnxruntime-gpu are both installed and break each other"
# `cpu` and `gpu` are shown as engines; `dev` is for those who work on ghostnote.
_NO_EXTRAS_OF_USERS = {"cpu", "gpu", "dev"}


@dataclass(frozen=True)
class _Library:
    """One row of the engines: how it is probed, its module, and whether it is of no use without a GPU."""

    name: str
    probe: str
    module: str
    needs_gpu: bool


LIBRARIES = (
    _Library("onnxruntime, CPU", "onnxruntime-cpu", "onnxruntime", needs_gpu=False),
    _Library("onnxruntime, CUDA", "onnxruntime-cuda", "onnxruntime", needs_gpu=True),
    _Library("TensorRT", "tensorrt", "tensorrt", needs_gpu=True),
    _Library("TensorRT, lean runtime", "tensorrt_lean", "tensorrt_lean", needs_gpu=True),
    _Library("TensorRT for RTX", "tensorrt_rtx", "tensorrt_rtx", needs_gpu=False),  # builds plans without
)


@dataclass(frozen=True)
class Finding:
    """What one inference library can do here.

    `can` holds, in this order, those of "load", "build" (make a plan), "open" (load its own plan on the GPU)
    and "run" (compute the bundled model) that were done. `problem` is None where nothing is missing; `fix` is a
    command, None where no command helps.
    """

    name: str
    version: str | None = None
    can: tuple[str, ...] = ()
    detail: str | None = None
    problem: str | None = None
    fix: str | None = None


@dataclass(frozen=True)
class Extra:
    """An extra of this package: versions of what it brings, what of that is missing, and the command that adds it."""

    name: str
    versions: dict[str, str]
    missing: tuple[str, ...]
    fix: str | None


@dataclass(frozen=True)
class Diagnosis:
    """Everything found; `transcribes` says whether some engine computed the bundled model."""

    ghostnote: str
    python: str
    platform: str
    driver: Driver
    engines: tuple[Finding, ...]
    extras: tuple[Extra, ...]
    transcribes: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "transcribes", any("run" in engine.can for engine in self.engines))


def diagnose(timeout_s: float = TIMEOUT_S) -> Diagnosis:
    """Look at the driver, try the libraries one after the other, look for the extras. Takes some seconds."""
    from .. import __version__

    driver = probe_driver()
    return Diagnosis(
        ghostnote=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=platform.platform(),
        driver=driver,
        engines=tuple(_try(library, driver, timeout_s) for library in LIBRARIES),
        extras=tuple(_extras()),
    )


def _try(library: _Library, driver: Driver, timeout_s: float) -> Finding:
    if library.module == "onnxruntime" and _version("onnxruntime") and _version("onnxruntime-gpu"):
        fix = f"pip uninstall -y onnxruntime onnxruntime-gpu && {_install(library, driver)}"
        return Finding(library.name, problem=_CLASH, fix=fix)
    if importlib.util.find_spec(library.module) is None:
        if library.needs_gpu and not driver.devices:
            return Finding(library.name, problem=f"not installed, and of no use here: {driver.problem}")
        return Finding(library.name, problem="not installed", fix=_install(library, driver))
    # -P: a file of this name in the current folder is not the library.
    command = [sys.executable, "-P", "-m", f"{__package__}.probes", library.probe]
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, text=True
        )
    except subprocess.TimeoutExpired:
        return Finding(library.name, problem=f"no answer within {timeout_s:g} s", fix=_again(library))
    return _finding(library, done)


def _finding(library: _Library, done: subprocess.CompletedProcess[str]) -> Finding:
    """Put together what the probe said before it ended, and how it ended."""
    can: list[str] = []
    facts: dict[str, str] = {}
    for said in _said(done.stdout):
        can += [said.pop("can")] if "can" in said else []
        facts |= said
    problem = facts.get("problem")
    if done.returncode:
        problem = _ending(done, problem, "after it is loaded" if can else "while it loads")
    fix = facts.get("fix") or (_again(library) if problem and (done.returncode or not can) else None)
    return Finding(library.name, facts.get("version"), tuple(can), facts.get("detail"), problem, fix)


def _said(output: str) -> Iterator[dict[str, str]]:
    """The probe's own lines among those that the library printed."""
    for line in output.splitlines():
        if line.startswith(LINE):
            yield json.loads(line.removeprefix(LINE))


def _ending(done: subprocess.CompletedProcess[str], problem: str | None, when: str) -> str:
    """Why a probe did not end well, with the last line of what its library logged."""
    if done.returncode < 0:
        problem = f"crashes {when} ({_signal_name(-done.returncode)})"
    last = done.stderr.strip().splitlines()[-1:]
    logged = f"; it logged: {last[0].strip()[:200]}" if last else ""
    return f"{problem or f'fails {when} (exit code {done.returncode})'}{logged}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _again(library: _Library) -> str:
    """The command that installs what is installed once more, in the same version."""
    for distribution in (library.module, f"{library.module}-gpu"):
        if version := _version(distribution):
            return f"pip install --force-reinstall {distribution}=={version}"
    return f"pip install --force-reinstall {library.module}"


def _install(library: _Library, driver: Driver) -> str:
    """The command that installs a library. Of onnxruntime there may be one only: with CUDA (and the CPU) or without."""
    if library.module == "onnxruntime":
        return f"pip install 'ghostnote[{'gpu' if driver.devices else 'cpu'}]'"
    return f"pip install {library.module}"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extras() -> Iterator[Extra]:
    """The extras that users install, as this package's own metadata lists them."""
    wanted: dict[str, list[str]] = {}
    for line in _requirements():
        requirement, _, marker = line.partition(";")
        extra = re.search(r"""extra == ['"](.+?)['"]""", marker)
        name = re.split(r"[\s\[<>=!~(]", requirement.strip())[0]
        if extra and name != "ghostnote":
            wanted.setdefault(extra[1], []).append(name)
    for extra_name in sorted(wanted.keys() - _NO_EXTRAS_OF_USERS):
        found = {name: _version(name) for name in sorted(set(wanted[extra_name]))}
        missing = tuple(name for name, version in found.items() if version is None)
        versions = {name: version for name, version in found.items() if version is not None}
        yield Extra(extra_name, versions, missing, f"pip install 'ghostnote[{extra_name}]'" if missing else None)


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires("ghostnote") or []
    except importlib.metadata.PackageNotFoundError:
        return []  # a bare checkout: nothing says what its extras are
