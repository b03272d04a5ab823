"""A .plan from file to hits with NVIDIA's modules replaced; what is refused, and in which words."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import click_model
import laws
import numpy as np
import pytest
from host_device import HostDevice
from typer.testing import CliRunner
from vendor_doubles import GPU, VERSION, CudaDouble, TensorRTDouble, write_plan

from ghostnote.runtime import Engine, EngineError, OnnxRuntimeEngine, open_engine
from ghostnote.runtime.command import app
from ghostnote.runtime.engines import plan_file
from ghostnote.runtime.engines.cuda_driver import Device, Driver
from ghostnote.runtime.engines.device import DeviceError

REBUILD = "build it here: export-model mine.pt --target tensorrt"


@pytest.fixture
def device() -> HostDevice:
    return HostDevice()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, device: HostDevice) -> Callable[..., None]:
    """Give this machine a driver and modules; None: not installed."""

    def have(driver: Driver = GPU, **modules: Any) -> None:
        modules = {"cuda.bindings.runtime": CudaDouble(device), "tensorrt": TensorRTDouble(device)} | modules
        find, load = importlib.util.find_spec, importlib.import_module
        others = ("tensorrt_lean", "tensorrt_rtx")

        def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
            if name in modules or name in others:
                return ModuleSpec(name, None) if modules.get(name) is not None else None
            return find(name, package)

        def import_module(name: str, package: str | None = None) -> Any:
            module = modules.get(name)
            if isinstance(module, Exception):
                raise module
            if name in modules and module is None:
                raise ModuleNotFoundError(f"No module named {name!r}")
            return module if name in modules else load(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)
        monkeypatch.setattr(importlib, "import_module", import_module)
        monkeypatch.setattr(plan_file, "probe_driver", lambda: driver)

    return have


@pytest.fixture
def make(tmp_path: Path, click_path: Path, click_engine: Engine) -> Callable[..., Path]:
    def call(**changes: Any) -> Path:
        return write_plan(tmp_path / "click.plan", click_path, click_engine.manifest, **changes)

    return call


def without(*path: str) -> Callable[[Path], None]:
    """Take something out of a sidecar."""

    def change(plan: Path) -> None:
        sidecar = plan.with_name(f"{plan.name}.json")
        document = json.loads(sidecar.read_text())
        inner = document
        for name in path[:-1]:
            inner = inner[name]
        del inner[path[-1]]
        sidecar.write_text(json.dumps(document))

    return change


# --- what runs


def test_a_plan_runs_through_nvidias_calls(machine, make, device: HostDevice, click_engine: OnnxRuntimeEngine) -> None:
    machine()
    engine = open_engine(make())
    assert engine.describe() == f"click (float32) on TensorRT {VERSION}, Some GPU"
    rng = np.random.default_rng(1)
    audio = rng.uniform(-1, 1, (3, 60 * click_model.TOKEN)).astype(np.float32)
    found, expected = (laws.run_engine(one, audio, (0, 1, 2), laws.every(2)) for one in (engine, click_engine))
    laws.assert_same_heads(found, expected, 0.0, "plan")
    assert device.calls["launch"] > 20
    engine.close()
    assert device.memory == {}
    assert device.closed


def test_rt_transcribe_takes_a_plan(machine, make, click_wav: Path, click_path: Path) -> None:
    machine()
    runs = [CliRunner().invoke(app, ["--engine", str(path), str(click_wav)]) for path in (make(), click_path)]
    assert [run.exit_code for run in runs] == [0, 0]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout.count("\n") > 20
    assert f"on TensorRT {VERSION}, Some GPU" in runs[0].stderr


def test_rt_transcribe_says_why_not_and_ends_with_7(make, click_wav: Path) -> None:
    done = CliRunner().invoke(app, ["--engine", str(make()), str(click_wav)])
    assert done.exit_code == 7
    assert "a plan of TensorRT needs an NVIDIA GPU, and " in done.stderr


@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_lean"])
def test_a_version_compatible_plan_runs_in_later_versions_and_on_the_lean_runtime(
    machine, make, device: HostDevice, module: str
) -> None:
    later = TensorRTDouble(device, "11.5.1.2")
    machine(**({"tensorrt": None} | {module: later}))
    assert "TensorRT 11.5.1.2" in open_engine(make(version_compatible=True)).describe()
    assert later.host_code_allowed


def test_other_plans_run_no_code_of_theirs_on_the_host(machine, make, device: HostDevice) -> None:
    trt = TensorRTDouble(device)
    machine(tensorrt=trt)
    open_engine(make())
    assert trt.host_code_allowed is None


def test_ampere_plus_runs_on_later_gpus(machine, make) -> None:
    machine()
    open_engine(make(compute_capabilities=["8.0"], hardware_compatibility="ampere_plus"))


def test_tensorrt_for_rtx_keeps_its_kernels(machine, make, device: HostDevice) -> None:
    rtx = TensorRTDouble(device, "1.7.1.116")
    machine(Driver("13.0", (Device("An RTX GPU", (8, 9)),), None), tensorrt=None, tensorrt_rtx=rtx)
    plan = make(flavour="tensorrt-rtx", version="1.7.1.116", compute_capabilities=["8.6", "8.9"])
    assert open_engine(plan).describe() == "click (float32) on TensorRT for RTX 1.7.1.116, An RTX GPU"
    (settings,) = rtx.settings
    assert (settings.dynamic_shapes_kernel_specialization_strategy, settings.cache) == ("none", "a cache")


# --- what is refused before anything is loaded


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"compute_capabilities": ["8.9", "12.0"]},
            f"the plan is for compute capability 8.9, 12.0, Some GPU has 9.0; {REBUILD}",
        ),
        (
            {"compute_capabilities": ["8.9"], "hardware_compatibility": "same_compute_capability"},
            f"the plan is for compute capability 8.9, Some GPU has 9.0; {REBUILD}",
        ),
        (
            {"built_on": {"platform": "windows amd64", "driver_cuda": None}},
            f"the plan was built on windows amd64, this is linux x86_64; {REBUILD}",
        ),
        (
            {"version": "11.2.0.1"},
            f"the plan was built by TensorRT 11.2.0.1, here is {VERSION}; install TensorRT 11 with its Python bindings "
            f"from NVIDIA, or use NVIDIA's container of it, or {REBUILD}",
        ),
        ({"version": "12.0.0.1", "version_compatible": True}, "the plan was built by TensorRT 12.0.0.1, here is 11.4"),
        ({"version": "11.9.0.1", "version_compatible": True}, "the plan was built by TensorRT 11.9.0.1, here is 11.4"),
        ({"flavour": "tensorrt-rtx", "compute_capabilities": ["9.0"]}, "TensorRT for RTX 11.4.0.106 is not installed"),
    ],
)
def test_a_plan_for_something_else(machine, make, monkeypatch, changes: dict[str, Any], message: str) -> None:
    machine()
    monkeypatch.setattr(plan_file, "this_platform", lambda: "linux x86_64")
    changes = {"built_on": {"platform": "linux x86_64", "driver_cuda": "13.0"}} | changes
    monkeypatch.setattr(plan_file, "TensorRTPlan", lambda *_, **__: pytest.fail("it was deserialised"))
    plan = make(**changes)
    with pytest.raises(EngineError) as refused:
        open_engine(plan)
    assert str(refused.value).startswith(f"{plan}: {message}")
    assert refused.value.exit_code == 7


NO_DRIVER = Driver(None, (), "the NVIDIA driver is not installed (libcuda.so.1 was not found)")
OLD_DRIVER = Driver("12.4", GPU.devices, None)


@pytest.mark.parametrize(
    ("driver", "modules", "message"),
    [
        (
            NO_DRIVER,
            {"tensorrt": ImportError("it was imported")},
            "a plan of TensorRT needs an NVIDIA GPU, and the NVIDIA driver is not installed (libcuda.so.1 was not "
            "found); install the driver, or use the .onnx file",
        ),
        (
            OLD_DRIVER,
            {},
            "the plan was built with a driver for CUDA 13.0, the driver here is for CUDA 12.4; update the driver, or",
        ),
        (
            GPU,
            {"cuda.bindings.runtime": None},
            "plans need cuda-bindings, which is not installed; pip install 'ghostnote[trt]'",
        ),
        (
            GPU,
            {"cuda.bindings.runtime": ImportError("no libcudart")},
            "cuda-bindings is installed, but does not load (no libcudart)",
        ),
        (GPU, {"tensorrt": None}, f"TensorRT {VERSION} is not installed (module tensorrt); install TensorRT 11"),
        (
            GPU,
            {"tensorrt": ImportError("libnvinfer.so.11: no such file")},
            "tensorrt is installed, but does not load (libnvinfer.so.11: no such file); install TensorRT 11",
        ),
        (
            GPU,
            {"tensorrt": None, "tensorrt_lean": ImportError("it was imported")},
            "tensorrt_lean runs only plans built with --version-compatible, and this one was not; install TensorRT 11",
        ),
    ],
)
def test_what_is_missing_is_named(machine, make, driver: Driver, modules: dict[str, Any], message: str) -> None:
    machine(driver, **modules)
    plan = make()
    with pytest.raises(EngineError) as refused:
        open_engine(plan)
    assert str(refused.value).startswith(f"{plan}: {message}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        without("plan", "version"),
        without("plan", "built_on", "platform"),
        without("plan", "plan_sha256"),
        without("plan"),
        without("states"),
        lambda plan: plan.with_name("click.plan.json").write_text("{"),
        lambda plan: plan.with_name("click.plan.json").unlink(),
        lambda plan: plan.write_bytes(b"another plan"),
    ],
)
def test_sidecars_that_do_not_say_what_they_should(machine, make, change: Callable[[Path], None]) -> None:
    machine()
    plan = make()
    change(plan)
    with pytest.raises(EngineError, match=r"click\.plan\.json.*(buil[dt]|export)") as refused:
        open_engine(plan)
    assert refused.value.exit_code == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"flavour": "tensorrt-9"},
        {"flavour": ["tensorrt"]},
        {"version": 11},
        {"compute_capabilities": [9.0]},
        {"compute_capabilities": None},
        {"built_on": "here"},
        {"hardware_compatibility": True},
    ],
)
def test_sidecars_of_wrong_types(machine, make, changes: dict[str, Any]) -> None:
    machine()
    with pytest.raises(EngineError, match=r"click\.plan\.json: not what export-model writes beside a plan"):
        open_engine(make(**changes))


@pytest.mark.parametrize("command", [None, 3, "pytest -x", "export-model \x1b[2J"])
def test_commands_that_are_none_of_ours_are_not_repeated(machine, make, command: object) -> None:
    machine()
    with pytest.raises(EngineError, match=r"build it here: export-model MODEL\.onnx --target tensorrt$"):
        open_engine(make(command=command, version="11.0.0.1"))


def test_no_such_plan(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no such model file"):
        open_engine(tmp_path / "no.plan")


# --- what fails in NVIDIA's calls


def test_a_runtime_that_does_not_start_is_an_error_of_one_line(machine, make, device: HostDevice) -> None:
    """NVIDIA's bindings raise a TypeError where the library gives null: exclusive GPUs, drivers of another CUDA."""

    class Null(TensorRTDouble):
        def Runtime(self, log: Any) -> Any:  # noqa: N802
            log.log("ERROR", "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    machine(tensorrt=Null(device))
    with pytest.raises(
        DeviceError, match=r"does not start \(CUDA initialization failure with error: 35\): .*build it here"
    ):
        open_engine(make())
    assert device.closed


def test_a_plan_that_does_not_load_after_all(machine, make, device: HostDevice) -> None:
    machine(tensorrt=TensorRTDouble(device, refuses="Platform specific tag mismatch"))
    with pytest.raises(DeviceError, match=r"does not load the plan \(Platform specific tag mismatch\); build it here"):
        open_engine(make())
    assert device.closed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("enqueue", r"click\.plan: TensorRT refuses a run \(no reason was logged\)$"),
        ("synchronize", r"click\.plan: CUDA failed at running: unspecified launch failure \(cudaErrorLaunchFailure\)$"),
        ("upload", r"click\.plan: CUDA failed at copying: unspecified"),
        ("allocate", r"click\.plan: CUDA failed at allocating 0\.0 MiB on the GPU: unspecified"),
    ],
)
def test_calls_that_fail(machine, make, device: HostDevice, call: str, message: str) -> None:
    machine()
    engine = open_engine(make())
    device.fail.add(call)
    with pytest.raises(DeviceError, match=message):
        engine.step(np.zeros((1, 882), np.float32), np.zeros((1, 1), np.int64), engine.zero_state(1))


def test_shapes_outside_the_profile(machine, make) -> None:
    machine()
    engine = open_engine(make())
    with pytest.raises(
        EngineError, match=r"9 streams in a call: the plan takes 1 to 8 \(--batch\); .*: export-model mine"
    ):
        engine.step(np.zeros((9, 882), np.float32), np.zeros((9, 1), np.int64), engine.zero_state(9))


def test_importing_the_engines_loads_no_library() -> None:
    names = "plan_file, plan_engine, cuda_device, tensorrt_runtime, onnxruntime_cuda"
    heavy = "{'cuda', 'tensorrt', 'tensorrt_rtx', 'onnxruntime'}"
    code = f"import sys; from ghostnote.runtime.engines import {names}; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
