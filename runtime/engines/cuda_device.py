"""`Device` on an NVIDIA GPU, by cuda-bindings: each method passes one call on and looks at what it returns.

Device 0, which CUDA_VISIBLE_DEVICES chooses. In this file, names say what objects are: `cuda` is the module
cuda.bindings.runtime (a test looks up everything that is asked of it).
"""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import EngineError
from .device import DeviceError, Graph

__all__ = ["CudaDevice", "load_cuda"]

_INSTALL = "pip install 'ghostnote[trt]'"


def load_cuda() -> Any:
    """cuda-bindings' module of the CUDA runtime. Raises EngineError, which says how to get it."""
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ModuleNotFoundError as error:
        raise EngineError(f"plans need cuda-bindings, which is not installed; {_INSTALL}") from error
    except (ImportError, OSError) as error:
        raise EngineError(f"cuda-bindings is installed, but does not load ({error}); {_INSTALL}") from error


class CudaDevice:
    """A GPU with a stream of its own, which is not the default one: that cannot be captured."""

    def __init__(self, cuda: Any, name: str) -> None:
        """`cuda` is the module that `load_cuda` gives. Raises DeviceError."""
        self._cuda, self._name = cuda, name
        self._stream = self._value("a stream", cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))

    @property
    def name(self) -> str:
        """Of the GPU."""
        return self._name

    @property
    def stream(self) -> int:
        """Handle of the stream that everything is issued on."""
        return int(self._stream)

    def allocate(self, size: int) -> int:
        """Memory on the GPU; CUDA aligns it to 256 bytes."""
        return int(self._value(_memory(size, "the GPU"), self._cuda.cudaMalloc(size)))

    def allocate_pinned(self, size: int) -> int:
        """Memory on the host that is never swapped out."""
        return int(self._value(_memory(size, "the host, pinned"), self._cuda.cudaMallocHost(size)))

    def free(self, address: int) -> None:
        """Waits for what uses it."""
        self._check("freeing memory", self._cuda.cudaFree(address))

    def free_pinned(self, address: int) -> None:
        """Give back what `allocate_pinned` gave."""
        self._check("freeing pinned memory", self._cuda.cudaFreeHost(address))

    def upload(self, to: int, source: int, size: int) -> None:
        """Issue a copy to the GPU."""
        self._copy(to, source, size, self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def download(self, to: int, source: int, size: int) -> None:
        """Issue a copy from the GPU."""
        self._copy(to, source, size, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def copy(self, to: int, source: int, size: int) -> None:
        """Issue a copy on the GPU."""
        self._copy(to, source, size, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice)

    def clear(self, address: int, size: int) -> None:
        """Issue filling with zeros."""
        self._check("clearing memory", self._cuda.cudaMemsetAsync(address, 0, size, self._stream))

    def synchronize(self) -> None:
        """Errors of what was issued show here."""
        self._check("running", self._cuda.cudaStreamSynchronize(self._stream))

    def begin_capture(self) -> None:
        """Thread-local: what other threads do with CUDA meanwhile does not spoil it."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._check("capturing", self._cuda.cudaStreamBeginCapture(self._stream, mode))

    def end_capture(self) -> Graph:
        """The recorded graph, ready to be launched."""
        recorded = self._value("capturing", self._cuda.cudaStreamEndCapture(self._stream))
        try:
            return self._value("instantiating a graph", self._cuda.cudaGraphInstantiate(recorded, 0))
        finally:
            self._check("freeing a graph", self._cuda.cudaGraphDestroy(recorded))

    def launch(self, graph: Graph) -> None:
        """Issue what was recorded."""
        self._check("launching a graph", self._cuda.cudaGraphLaunch(graph, self._stream))

    def discard(self, graph: Graph) -> None:
        """Free what was recorded."""
        self._check("freeing a graph", self._cuda.cudaGraphExecDestroy(graph))

    def close(self) -> None:
        """Free the stream."""
        self._check("freeing a stream", self._cuda.cudaStreamDestroy(self._stream))

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        self._check("copying", self._cuda.cudaMemcpyAsync(to, source, size, kind, self._stream))

    def _value(self, doing: str, returned: Any) -> Any:
        """The second of what a call returned, behind its status."""
        self._check(doing, returned)
        return returned[1]

    def _check(self, doing: str, returned: Any) -> None:
        status = returned[0]
        if status != self._cuda.cudaError_t.cudaSuccess:
            _, text = self._cuda.cudaGetErrorString(status)
            raise DeviceError(f"CUDA failed at {doing}: {text.decode(errors='replace')} ({status.name})")


def _memory(size: int, where: str) -> str:
    return f"allocating {size / 2**20:.1f} MiB on {where}"
