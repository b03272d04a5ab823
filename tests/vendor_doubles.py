"""NVIDIA's modules as far as the thin layers call them, on host_device: for opening a plan where there is no GPU.

Names, return values and the order of arguments are those of cuda.bindings.runtime and of TensorRT's Python API, which
tests/runtime/test_vendor_api.py checks with the real ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from host_device import GraphExecution, GraphPlan, HostDevice

from ghostnote.runtime.engines.cuda_driver import Device, Driver
from ghostnote.runtime.engines.device import DeviceError
from ghostnote.runtime.engines.sidecar import this_platform
from ghostnote.runtime.manifest import Manifest

GPU = Driver("13.0", (Device("Some GPU", (9, 0)),), None)
VERSION = "11.4.0.106"


class Status(Enum):
    """cudaError_t."""

    cudaSuccess = 0  # noqa: N815
    cudaErrorLaunchFailure = 719  # noqa: N815


class CudaDouble:
    """Module cuda.bindings.runtime."""

    cudaError_t = Status  # noqa: N815
    cudaStreamNonBlocking = 1  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(  # noqa: N815
        cudaMemcpyHostToDevice="upload", cudaMemcpyDeviceToHost="download", cudaMemcpyDeviceToDevice="copy"
    )
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self, device: HostDevice) -> None:
        self.device = device
        d = device
        self.cudaStreamCreateWithFlags = lambda flags: (Status.cudaSuccess, d.stream)
        self.cudaMalloc, self.cudaMallocHost = self._call(d.allocate), self._call(d.allocate_pinned)
        self.cudaFree, self.cudaFreeHost = self._call(d.free), self._call(d.free_pinned)
        self.cudaMemcpyAsync = self._call(lambda to, source, size, kind, _: getattr(d, kind)(to, source, size))
        self.cudaMemsetAsync = self._call(lambda to, value, size, _: d.clear(to, size))
        self.cudaStreamSynchronize = self._call(lambda _: d.synchronize())
        self.cudaStreamBeginCapture = self._call(lambda stream, mode: d.begin_capture())
        self.cudaStreamEndCapture = self._call(lambda _: d.end_capture())
        self.cudaGraphInstantiate = self._call(lambda graph, flags: graph)
        self.cudaGraphDestroy = self._call(lambda graph: None)
        self.cudaGraphLaunch = self._call(lambda graph, stream: d.launch(graph))
        self.cudaGraphExecDestroy = self._call(d.discard)
        self.cudaStreamDestroy = self._call(lambda stream: d.close())

    def cudaGetErrorString(self, status: Status) -> tuple[Status, bytes]:  # noqa: N802
        return Status.cudaSuccess, b"unspecified launch failure"

    def _call(self, function: Callable[..., Any]) -> Callable[..., tuple[Status, Any]]:
        def call(*arguments: Any) -> tuple[Status, Any]:
            try:
                return Status.cudaSuccess, function(*arguments)
            except DeviceError:
                return Status.cudaErrorLaunchFailure, None

        return call


class _Logger:
    """ILogger."""

    ERROR, INTERNAL_ERROR, WARNING = "ERROR", "INTERNAL_ERROR", "WARNING"


class TensorRTDouble:
    """Module tensorrt, lean or for RTX; `refuses` is what deserialising logs. A "plan" is the path of an ONNX file."""

    ILogger = _Logger
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(NONE="none")

    def __init__(self, device: HostDevice, version: str = VERSION, refuses: str = "", batch: int = 8) -> None:
        self.__version__, self.device, self.refuses, self.batch = version, device, refuses, batch
        self.host_code_allowed: bool | None = None
        self.settings: list[SimpleNamespace] = []

    def Runtime(self, log: Any) -> Any:  # noqa: N802
        return _Runtime(self, log)


class _Runtime:
    def __init__(self, module: TensorRTDouble, log: Any) -> None:
        self.module, self.log = module, log

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "engine_host_code_allowed":
            self.module.host_code_allowed = value
        super().__setattr__(name, value)

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        if self.module.refuses:
            self.log.log("WARNING", "of no interest")
            self.log.log("ERROR", self.module.refuses)
            return None
        plan = GraphPlan(Path(data.decode()), self.module.device, (1, self.module.batch), (882, 50 * 882))
        return _Engine(self.module, plan)


class _Engine:
    def __init__(self, module: TensorRTDouble, plan: GraphPlan) -> None:
        self.module, self.plan = module, plan
        self.found = {tensor.name: tensor for tensor in plan.tensors()}
        self.num_io_tensors = len(self.found)
        self.device_memory_size_v2 = plan.workspace_size

    def get_tensor_name(self, index: int) -> str:
        return list(self.found)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if self.found[name].is_input else "output"

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name={"float32": "FLOAT", "float16": "HALF", "int64": "INT64"}[self.found[name].dtype])

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.found[name].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        assert profile == 0
        tensor = self.found[name]
        return [list(tensor.smallest), list(tensor.smallest), list(tensor.largest)]

    def create_runtime_config(self) -> SimpleNamespace:
        settings = SimpleNamespace(create_runtime_cache=lambda: "a cache")
        settings.set_execution_context_allocation_strategy = lambda value: setattr(settings, "strategy", value)
        settings.set_runtime_cache = lambda value: setattr(settings, "cache", value)
        self.module.settings.append(settings)
        return settings

    def create_execution_context(self, settings: SimpleNamespace) -> Any:
        assert settings.strategy == "user managed"
        return _Context(self.plan)


class _Context:
    def __init__(self, plan: GraphPlan) -> None:
        self.plan = plan
        self.execution: GraphExecution | None = None

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size == self.plan.workspace_size
        self.execution = self.plan.execution(memory)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return self._done(lambda execution: execution.set_shape(name, shape))

    def get_tensor_shape(self, name: str) -> list[int]:
        assert self.execution
        return list(self.execution.shape(name))

    def set_tensor_address(self, name: str, address: int) -> bool:
        return self._done(lambda execution: execution.set_address(name, address))

    def execute_async_v3(self, stream: int) -> bool:
        return self._done(lambda execution: execution.enqueue(stream))

    def _done(self, action: Callable[[GraphExecution], None]) -> bool:
        assert self.execution
        try:
            action(self.execution)
        except DeviceError:
            return False
        return True


def write_plan(path: Path, model: Path, manifest: Manifest, **changes: Any) -> Path:
    """A "plan" of a model.onnx for the doubles, with a sidecar as export-model writes it, changed."""
    path.write_bytes(str(model).encode())
    record = {
        "flavour": "tensorrt",
        "version": VERSION,
        "compute_capabilities": ["9.0"],
        "hardware_compatibility": "none",
        "version_compatible": False,
        "built_on": {"platform": this_platform(), "gpu": "Some GPU", "driver_cuda": "13.0"},
        "profiles": [{"batch": [1, 1, 8], "tokens": [1, 1, 50]}],
        "plan_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "command": "export-model mine.pt --target tensorrt",
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps(manifest.to_dict() | {"plan": record | changes}))
    return path
