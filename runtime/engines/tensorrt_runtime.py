"""`Plan` by NVIDIA's runtimes: tensorrt, tensorrt_lean and tensorrt_rtx have the same Python API here.

Networks that fail say None or False and log why, so everything is asked and the log's last errors become the
exception's text. Names say what objects are: `trt` is the module, `engine`, `context`, `settings` are NVIDIA's (a test
looks up everything that is asked of them). Without a driver some calls end the process: ask it first (plan_file).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .device import DeviceError, Shape, Tensor
from .flavours import Flavour

__all__ = ["TensorRTPlan", "start_runtime"]

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64"}  # numpy's names; others stay as they are
_LOGGED = 3  # error lines in a message


class TensorRTPlan:
    """A plan that was loaded; see `Plan`."""

    def __init__(self, trt: Any, flavour: Flavour, data: bytes, *, host_code: bool) -> None:
        """`host_code`: the plan is version-compatible and carries its own runtime. Raises DeviceError."""
        self._trt, self._flavour = trt, flavour
        self._log = _make_log(trt, flavour)
        runtime = start_runtime(trt, flavour, self._log, host_code=host_code)
        engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise DeviceError(f"{self.library} does not load the plan ({self._log.last_errors()})")
        self._runtime, self._engine = runtime, engine
        self._settings = self._configure(engine)

    @property
    def library(self) -> str:
        """Product and version."""
        return f"{self._flavour.product} {self._trt.__version__}"

    @property
    def workspace_size(self) -> int:
        """Bytes of activations at the profile's largest shapes."""
        engine = self._engine
        return int(engine.device_memory_size_v2)

    def tensors(self) -> Sequence[Tensor]:
        """All inputs and outputs."""
        engine = self._engine
        return [self._tensor(engine.get_tensor_name(i)) for i in range(engine.num_io_tensors)]

    def execution(self, workspace: int) -> TensorRTExecution:
        """An execution context that computes in that memory. Raises DeviceError."""
        engine = self._engine
        context = engine.create_execution_context(self._settings)
        if context is None:
            raise DeviceError(f"{self.library} makes no execution context ({self._log.last_errors()})")
        context.set_device_memory(workspace, self.workspace_size)
        return TensorRTExecution(context, self._log)

    def close(self) -> None:
        """Let go of everything, in the order in which NVIDIA's objects need each other."""
        self._settings = self._engine = self._runtime = None

    def _tensor(self, name: str) -> Tensor:
        trt, engine = self._trt, self._engine
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        kind = engine.get_tensor_dtype(name).name
        shape = tuple(engine.get_tensor_shape(name))
        smallest = largest = shape
        if is_input and -1 in shape:
            ends = engine.get_tensor_profile_shape(name, 0)
            smallest, largest = tuple(ends[0]), tuple(ends[2])
        return Tensor(name, is_input, _DTYPES.get(kind, kind.lower()), shape, smallest, largest)

    def _configure(self, engine: Any) -> Any:
        """How contexts are made: on memory that is ours, as they share it."""
        trt = self._trt
        settings = engine.create_runtime_config()
        settings.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if not self._flavour.needs_gpu:
            _configure_rtx(trt, settings)
        return settings


def start_runtime(trt: Any, flavour: Flavour, log: Any, *, host_code: bool) -> Any:
    """NVIDIA's runtime, which loads plans. `log` has `last_errors`. Raises DeviceError where it does not start."""
    try:
        runtime = trt.Runtime(log)
    except TypeError as error:  # "factory function returned nullptr"
        raise DeviceError(
            f"{flavour.product} {trt.__version__} does not start ({log.last_errors()}): no usable GPU, or a driver too "
            "old for it; `nvidia-smi` tells which CUDA version the driver supports"
        ) from error
    if host_code:
        runtime.engine_host_code_allowed = True
    return runtime


def _configure_rtx(trt: Any, settings: Any) -> None:
    """TensorRT for RTX compiles kernels where it runs.

    Kernels for one shape are compiled in the background unless told otherwise and take over when they are ready: the
    second run would compute otherwise than the first, and a graph keep what it was captured with. Contexts share what
    was compiled.
    """
    settings.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.NONE
    settings.set_runtime_cache(settings.create_runtime_cache())


class TensorRTExecution:
    """An execution context; see `Execution`."""

    def __init__(self, context: Any, log: Any) -> None:
        self._context, self._log = context, log

    def set_shape(self, name: str, shape: Sequence[int]) -> None:
        """Raises DeviceError for one outside of the profile."""
        context = self._context
        self._check(context.set_input_shape(name, tuple(shape)), f"shape {list(shape)} of '{name}'")

    def shape(self, name: str) -> Shape:
        """-1 where a shape is not known yet."""
        context = self._context
        return tuple(context.get_tensor_shape(name))

    def set_address(self, name: str, address: int) -> None:
        """Where the tensor lies on the device."""
        context = self._context
        self._check(context.set_tensor_address(name, address), f"the address of '{name}'")

    def capturable(self, stream: int) -> bool:
        """TensorRT cannot say: there it is tried."""
        context = self._context
        if not hasattr(context, "is_stream_capturable"):
            return True
        return bool(context.is_stream_capturable(stream))

    def enqueue(self, stream: int) -> None:
        """Issue one run."""
        context = self._context
        self._check(context.execute_async_v3(stream), "a run")

    def _check(self, done: bool, what: str) -> None:
        if not done:
            raise DeviceError(f"TensorRT refuses {what} ({self._log.last_errors()})")


def _make_log(trt: Any, flavour: Flavour) -> Any:
    """A logger that keeps the last errors. Its class can only be made once the module is there."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            is_error = severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
            if is_error and not any(part in msg for part in flavour.noise):
                self.errors = [*self.errors, " ".join(msg.split())][-_LOGGED:]

        def last_errors(self) -> str:
            return "; ".join(self.errors) or "no reason was logged"

    return Log()
