"""A device and plans without a GPU, for PlanEngine: memory of the host by address, and an ONNX graph that really runs.

As strict as the real thing is dangerous: nothing that was issued happens before `synchronize`; every address must lie
in memory that is allocated; and a captured graph fails if its execution was changed after the capture.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from ghostnote.runtime.engines.device import DeviceError, Shape, Tensor
from ghostnote.runtime.engines.onnxruntime_engine import DISABLED_OPTIMIZERS, OnnxRuntimeEngine
from ghostnote.runtime.engines.plan_engine import PlanEngine

DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}
LINE = 256


class HostDevice:
    """A `Device`. `fail` names calls that fail; `limit` is all the memory that there is; `calls` counts."""

    name = "host memory"
    stream = 7

    def __init__(self, fail: Sequence[str] = (), limit: int = 1 << 40) -> None:
        self.fail, self.limit = set(fail), limit
        self.calls: Counter[str] = Counter()
        self.memory: dict[int, tuple[np.ndarray, int, bool]] = {}  # address -> (keeps it, size, is pinned)
        self.queue: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None
        self.graphs: list[list[Callable[[], None]]] = []
        self.closed = False

    def allocate(self, size: int) -> int:
        return self._allocate(size, pinned=False)

    def allocate_pinned(self, size: int) -> int:
        return self._allocate(size, pinned=True)

    def free(self, address: int) -> None:
        self._count("free")
        assert not self.memory.pop(address)[2]

    def free_pinned(self, address: int) -> None:
        assert self.memory.pop(address)[2]

    def upload(self, to: int, source: int, size: int) -> None:
        assert self.region(source, size)
        assert not self.region(to, size)
        self._copy("upload", to, source, size)

    def download(self, to: int, source: int, size: int) -> None:
        assert not self.region(source, size)
        self._copy("download", to, source, size)

    def copy(self, to: int, source: int, size: int) -> None:
        assert not self.region(source, size)
        assert not self.region(to, size)
        self._copy("copy", to, source, size)

    def clear(self, address: int, size: int) -> None:
        self.region(address, size)
        self.issue("clear", lambda: ctypes.memset(address, 0, size))

    def synchronize(self) -> None:
        self._count("synchronize")
        assert self.captured is None, "synchronising ends a capture with an error"
        queue, self.queue = self.queue, []
        for operation in queue:
            operation()

    def begin_capture(self) -> None:
        self._count("begin_capture")
        self.captured = []

    def end_capture(self) -> list[Callable[[], None]]:
        graph, self.captured = self.captured, None
        self._count("end_capture")
        assert graph is not None
        self.graphs.append(graph)
        return graph

    def launch(self, graph: list[Callable[[], None]]) -> None:
        self.issue("launch", lambda: [operation() for operation in graph])

    def discard(self, graph: list[Callable[[], None]]) -> None:
        self._count("discard")
        self.graphs.remove(graph)

    def close(self) -> None:
        self._count("close")
        assert not self.closed
        self.closed = True

    def issue(self, kind: str, operation: Callable[[], object]) -> None:
        self._count(kind)
        (self.queue if self.captured is None else self.captured).append(operation)

    def region(self, address: int, size: int) -> bool:
        """Whether memory that is ours is pinned."""
        for start, (_, length, pinned) in self.memory.items():
            if start <= address and address + size <= start + length:
                return pinned
        raise AssertionError(f"{size} bytes at {address:#x} are not allocated")

    def _allocate(self, size: int, *, pinned: bool) -> int:
        self._count("allocate")
        if size + sum(length for _, length, _ in self.memory.values()) > self.limit:
            raise DeviceError(f"allocating {size} bytes: out of memory")
        array = np.full(size + LINE, 0xFF, np.uint8)  # NaN, unless somebody writes there
        address = -(-array.ctypes.data // LINE) * LINE
        self.memory[address] = (array, size, pinned)
        return address

    def _copy(self, kind: str, to: int, source: int, size: int) -> None:
        self.issue(kind, lambda: ctypes.memmove(to, source, size))

    def _count(self, kind: str) -> None:
        self.calls[kind] += 1
        if kind in self.fail:
            raise DeviceError(f"{kind} failed")


class GraphPlan:
    """A `Plan` that is an ONNX graph, run by onnxruntime on whatever lies at the addresses."""

    library = "a stand-in"
    workspace_size = 1000

    def __init__(self, path: Path, device: HostDevice, batch: tuple[int, int], samples: tuple[int, int]) -> None:
        self.session = onnxruntime.InferenceSession(  # the same operators as the engine that it is compared with
            path, providers=["CPUExecutionProvider"], disabled_optimizers=list(DISABLED_OPTIMIZERS)
        )
        self.device, self.batch, self.samples = device, batch, samples
        self.executions: list[GraphExecution] = []
        self.can_capture = self.open = True

    def tensors(self) -> list[Tensor]:
        found = []
        for is_input, nodes in ((True, self.session.get_inputs()), (False, self.session.get_outputs())):
            for node in nodes:
                shape = tuple(axis if isinstance(axis, int) else -1 for axis in node.shape)
                ends = [self._end(node.name, shape, i) for i in range(2)] if is_input else [(), ()]
                found.append(Tensor(node.name, is_input, DTYPES[node.type], shape, *ends))
        return found

    def execution(self, workspace: int) -> GraphExecution:
        assert not self.device.region(workspace, self.workspace_size)
        self.executions.append(GraphExecution(self))
        return self.executions[-1]

    def close(self) -> None:
        assert self.open
        self.open = False

    def _end(self, name: str, shape: Shape, end: int) -> Shape:
        free = {0: self.batch[end], 1: self.samples[end]}
        return tuple(free[i] if size < 0 else size for i, size in enumerate(shape))


class GraphExecution:
    """An `Execution` of a GraphPlan."""

    def __init__(self, plan: GraphPlan) -> None:
        self.plan = plan
        self.shapes: dict[str, Shape] = {}
        self.addresses: dict[str, int] = {}
        self.inputs = {tensor.name: tensor for tensor in plan.tensors() if tensor.is_input}

    def set_shape(self, name: str, shape: Sequence[int]) -> None:
        tensor = self.inputs[name]
        if not all(low <= size <= high for low, size, high in zip(tensor.smallest, shape, tensor.largest, strict=True)):
            raise DeviceError(f"shape {shape} of '{name}' is outside the profile")
        self.shapes[name] = tuple(shape)

    def shape(self, name: str) -> Shape:
        assert self.shapes.keys() == self.inputs.keys()
        return self._run(zeros=True)[name].shape

    def set_address(self, name: str, address: int) -> None:
        assert address % LINE == 0
        self.addresses[name] = address

    def capturable(self, stream: int) -> bool:
        assert stream == HostDevice.stream
        return self.plan.can_capture

    def enqueue(self, stream: int) -> None:
        assert stream == HostDevice.stream
        shapes, addresses = dict(self.shapes), dict(self.addresses)

        def run() -> None:
            assert (shapes, addresses) == (self.shapes, self.addresses), "changed after it was captured"
            for name, value in self._run(zeros=False).items():
                self.plan.device.region(addresses[name], value.nbytes)
                ctypes.memmove(addresses[name], np.ascontiguousarray(value).ctypes.data, value.nbytes)

        self.plan.device.issue("enqueue", run)

    def _run(self, *, zeros: bool) -> dict[str, np.ndarray]:
        names = [node.name for node in self.plan.session.get_outputs()]
        return dict(zip(names, self.plan.session.run(names, self._values(zeros)), strict=True))

    def _values(self, zeros: bool) -> dict[str, np.ndarray]:
        values = {}
        for name, shape in self.shapes.items():
            values[name] = array = np.zeros(shape, self.inputs[name].dtype)
            if not zeros:
                self.plan.device.region(self.addresses[name], array.nbytes)
                ctypes.memmove(array.ctypes.data, self.addresses[name], array.nbytes)
        return values


def plan_engine(
    path: Path, device: HostDevice | None = None, batch: tuple[int, int] = (1, 8), tokens: tuple[int, int] = (1, 50)
) -> PlanEngine:
    """A PlanEngine on a model.onnx."""
    model = OnnxRuntimeEngine(path)
    token = model.manifest.samples_per_token
    device = device or HostDevice()
    plan = GraphPlan(path, device, batch, (tokens[0] * token, tokens[1] * token))
    return PlanEngine(path.with_suffix(".plan"), model.manifest, plan, device, rebuild="export-model it")
