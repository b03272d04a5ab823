"""What plans need of a machine: a device with memory and one stream, and a plan that can be enqueued there.

Protocols, so that everything that decides (plan_engine, plan_states) is tested without a GPU, and what needs one
(cuda_device, tensorrt_runtime) only passes calls on. Addresses are integers, sizes are bytes. What is issued runs in
the order of issue, some time before `synchronize` returns; host memory must hold still until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ..errors import EngineError

__all__ = ["Device", "DeviceError", "Execution", "Graph", "Plan", "Shape", "Tensor"]

Graph: TypeAlias = Any  # what a device captured: to be launched there and discarded
Shape: TypeAlias = tuple[int, ...]


class DeviceError(EngineError):
    """A call of the vendor's library failed; says which, and what the library said."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a plan: numpy's name of its type, its shape (-1: free), and of an input the range of it."""

    name: str
    is_input: bool
    dtype: str
    shape: Shape
    smallest: Shape = ()
    largest: Shape = ()


class Device(Protocol):
    """Memory and one stream of a device. All calls raise DeviceError."""

    @property
    def name(self) -> str:
        """For humans."""

    @property
    def stream(self) -> int:
        """Handle of the stream that everything is issued on."""

    def allocate(self, size: int) -> int:
        """Memory on the device, aligned to 256 bytes; its content is undefined."""

    def allocate_pinned(self, size: int) -> int:
        """Memory on the host that the device copies from and to without a detour."""

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""

    def free_pinned(self, address: int) -> None:
        """Give back what `allocate_pinned` gave."""

    def upload(self, to: int, source: int, size: int) -> None:
        """Issue a copy from pinned memory to the device."""

    def download(self, to: int, source: int, size: int) -> None:
        """Issue a copy from the device to pinned memory."""

    def copy(self, to: int, source: int, size: int) -> None:
        """Issue a copy on the device."""

    def clear(self, address: int, size: int) -> None:
        """Issue filling with zeros."""

    def synchronize(self) -> None:
        """Wait until all that was issued is done. Raises what went wrong in it."""

    def begin_capture(self) -> None:
        """From here on, what is issued is recorded instead of run."""

    def end_capture(self) -> Graph:
        """What was recorded. After an error, too, nothing is recorded any more."""

    def launch(self, graph: Graph) -> None:
        """Issue what was recorded."""

    def discard(self, graph: Graph) -> None:
        """Free what was recorded."""

    def close(self) -> None:
        """Free the stream."""


class Execution(Protocol):
    """One way to run a plan: its shapes and addresses. Once it was captured they stay, as the graph refers to it."""

    def set_shape(self, name: str, shape: Sequence[int]) -> None:
        """Of an input. Raises DeviceError where the plan does not take it."""

    def shape(self, name: str) -> Shape:
        """Of an output, once all inputs have theirs."""

    def set_address(self, name: str, address: int) -> None:
        """Where an input or output lies on the device."""

    def capturable(self, stream: int) -> bool:
        """Whether `enqueue` may be captured."""

    def enqueue(self, stream: int) -> None:
        """Issue one run."""


class Plan(Protocol):
    """A plan that was loaded."""

    @property
    def library(self) -> str:
        """Name and version of what runs it."""

    @property
    def workspace_size(self) -> int:
        """Memory that a run needs on the device; runs that do not overlap may share it."""

    def tensors(self) -> Sequence[Tensor]:
        """All inputs and outputs."""

    def execution(self, workspace: int) -> Execution:
        """A further way to run it, with that memory."""

    def close(self) -> None:
        """Free it."""
