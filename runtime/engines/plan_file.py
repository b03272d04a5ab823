"""From a .plan file and its sidecar to an engine, or to one sentence that says why not here and what to do.

Plans load only where they were made for, and what their libraries do elsewhere ranges from a cryptic line to the end of
the process. So the sidecar is held against this machine before any of it is loaded: first the driver, which everything
needs, then what the plan is for, then the library and its version.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EngineError, InputError
from .cuda_device import CudaDevice, load_cuda
from .cuda_driver import Driver, probe_driver
from .flavours import FLAVOURS, Flavour, dotted
from .plan_engine import PlanEngine
from .sidecar import Sidecar, read_sidecar, sidecar_of, this_platform
from .tensorrt_runtime import TensorRTPlan

__all__ = ["open_plan", "start_plan"]

_AMPERE = (8, 0)


@dataclass(frozen=True)
class _Record:
    """What a sidecar says of its plan, as far as it decides whether it runs here."""

    flavour: Flavour
    version: str
    capabilities: tuple[str, ...]
    hardware_compatibility: str
    version_compatible: bool
    platform: str
    driver_cuda: str | None
    sha256: str
    rebuild: str


def open_plan(path: Path) -> PlanEngine:
    """Open a plan with its sidecar. Raises EngineError where it cannot run here."""
    try:
        sidecar = read_sidecar(path)
        data = path.read_bytes()
    except InputError as error:
        raise EngineError(str(error)) from error
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror or error})") from error
    return start_plan(path, sidecar, data)


def start_plan(path: Path, sidecar: Sidecar, data: bytes) -> PlanEngine:
    """A plan and its sidecar that are read already; `path` is for messages: what is wrong, ";", what to do.

    Raises EngineError where it cannot run here.
    """
    record = _read_record(path, sidecar)
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise EngineError(
            f"{sidecar_of(path)} does not describe {path}: one of them was replaced; build it here: {record.rebuild}"
        )
    driver = probe_driver()
    try:
        _check_machine(record, driver)
        cuda, trt = load_cuda(), _load_library(record)
    except EngineError as error:
        raise EngineError(f"{path}: {error}") from error
    return _load(path, sidecar, record, data, cuda, trt, driver.devices[0].name)


def _load(path: Path, sidecar: Sidecar, record: _Record, data: bytes, cuda: Any, trt: Any, gpu: str) -> PlanEngine:
    """Load a plan that should run here."""
    device = None
    try:
        device = CudaDevice(cuda, gpu)
        plan = TensorRTPlan(trt, record.flavour, data, host_code=record.version_compatible)
    except EngineError as error:
        if device is not None:
            device.close()
        raise type(error)(f"{path}: {error}; build it here: {record.rebuild}") from error
    return PlanEngine(path, sidecar.manifest, plan, device, rebuild=record.rebuild)


def _read_record(path: Path, sidecar: Sidecar) -> _Record:
    """The sidecar's record. Raises EngineError where it does not say what it should."""
    record = sidecar.record
    try:
        flavour = FLAVOURS[record["flavour"]]
        built_on = record["built_on"]
        return _Record(
            flavour=flavour,
            version=_text(record["version"]),
            capabilities=tuple(map(_text, record["compute_capabilities"])),
            hardware_compatibility=_text(record["hardware_compatibility"]),
            version_compatible=record["version_compatible"] is True,
            platform=_text(built_on["platform"]),
            driver_cuda=built_on["driver_cuda"] and _text(built_on["driver_cuda"]),
            sha256=_text(record["plan_sha256"]),
            rebuild=_rebuild(flavour, record.get("command")),
        )
    except (LookupError, TypeError) as error:
        raise EngineError(
            f"{sidecar_of(path)}: not what export-model writes beside a plan ({type(error).__name__}: {error}); "
            "build the plan again"
        ) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r}")
    return value


def _rebuild(flavour: Flavour, command: object) -> str:
    """The command that built the plan, where it was one of ours; else what such a command looks like."""
    if isinstance(command, str) and command.isprintable() and command.split(" ", 1)[0] in ("export-model", "ghostnote"):
        return command
    return f"export-model MODEL.onnx --target {flavour.name}"


def _check_machine(record: _Record, driver: Driver) -> None:
    """Raises EngineError where the plan is for another machine."""
    product = record.flavour.product
    if driver.problem:
        raise EngineError(
            f"a plan of {product} needs an NVIDIA GPU, and {driver.problem}; install the driver, or use the .onnx file"
        )
    here, gpu = this_platform(), driver.devices[0]
    if record.platform != here:
        raise EngineError(f"the plan was built on {record.platform}, this is {here}; build it here: {record.rebuild}")
    if not _fits(record, gpu.compute_capability):
        raise EngineError(
            f"the plan is for compute capability {', '.join(record.capabilities)}, {gpu.name} has "
            f"{dotted(gpu.compute_capability)}; build it here: {record.rebuild}"
        )
    if _major(driver.version) < _major(record.driver_cuda):
        raise EngineError(
            f"the plan was built with a driver for CUDA {record.driver_cuda}, the driver here is for CUDA "
            f"{driver.version}; update the driver, or build it here: {record.rebuild}"
        )


def _fits(record: _Record, capability: tuple[int, int]) -> bool:
    if record.hardware_compatibility == "ampere_plus":
        return capability >= _AMPERE
    return dotted(capability) in record.capabilities


def _load_library(record: _Record) -> Any:
    """The module that runs the plan. Raises EngineError where it is missing, or of another version."""
    flavour = record.flavour
    modules = [name for name in (flavour.module, flavour.lean) if name and importlib.util.find_spec(name)]
    if not modules:
        raise EngineError(
            f"{flavour.product} {record.version} is not installed (module {flavour.module}); {_install(record)}"
        )
    if modules[0] == flavour.lean and not record.version_compatible:
        raise EngineError(
            f"{flavour.lean} runs only plans built with --version-compatible, and this one was not; "
            f"{_install(record)}, or build it here: {record.rebuild} --version-compatible"
        )
    try:
        trt = importlib.import_module(modules[0])
    except (ImportError, OSError) as error:
        raise EngineError(f"{modules[0]} is installed, but does not load ({error}); {_install(record)}") from error
    if not _loads(record, trt.__version__):
        raise EngineError(
            f"the plan was built by {flavour.product} {record.version}, here is {trt.__version__}; "
            f"{_install(record)}, or build it here: {record.rebuild}"
        )
    return trt


def _loads(record: _Record, version: str) -> bool:
    """Plans are for one version; version-compatible ones for later ones of the same major version, too."""
    if not record.version_compatible:
        return version == record.version
    return _major(version) == _major(record.version) and _numbers(version) >= _numbers(record.version)


def _install(record: _Record) -> str:
    """How to get the version that the plan was built with."""
    if record.flavour.needs_gpu:
        return record.flavour.install
    return f"pip install '{record.flavour.module.replace('_', '-')}=={record.version}'"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]


def _major(version: str | None) -> int:
    return (_numbers(version or "") or [0])[0]
