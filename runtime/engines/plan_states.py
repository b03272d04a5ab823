"""Streams' states on a device.

Plans are enqueued with addresses, and captured graphs keep them. So there is one working set per number of rows, two
blocks of memory that take turns at being read and written, and a state is at work there for as long as it is the one
that comes again. Who comes instead finds its place taken: the state at work is parked in a block of its own first,
unless nobody refers to it any more. States that begin are zeros and take no memory at all.

Letters: B rows (streams) of a state.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..manifest import Manifest
from .device import Device, DeviceError

__all__ = ["DeviceMemory", "DeviceState", "DeviceStates", "WorkingSet"]

_ALIGNMENT = 256  # of every tensor, as TensorRT wants it


class DeviceMemory:
    """All memory of one engine, freed together."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._allocated: list[int] = []
        self._pinned: list[int] = []

    def allocate(self, size: int) -> int:
        """Memory on the device. Raises DeviceError."""
        self._allocated.append(self._device.allocate(max(1, size)))
        return self._allocated[-1]

    def pinned(self, count: int, dtype: type[np.generic]) -> NDArray[Any]:
        """So many numbers in pinned host memory. Raises DeviceError."""
        size = count * np.dtype(dtype).itemsize
        address = self._device.allocate_pinned(size)
        self._pinned.append(address)
        memory: Any = (ctypes.c_ubyte * size).from_address(address)
        return np.frombuffer(memory, dtype, count)

    def close(self) -> None:
        """Free everything, as far as the device still can."""
        for addresses, free in ((self._allocated, self._device.free), (self._pinned, self._device.free_pinned)):
            while addresses:
                with suppress(DeviceError):
                    free(addresses.pop())


class _Block:
    """Memory for the states of some rows: for each kind of state all rows in a piece."""

    def __init__(self, address: int, rows: int, layout: _Layout) -> None:
        self.rows = rows
        self.addresses = {name: address + offset for name, offset in layout.offsets(rows).items()}
        self._layout = layout

    def row(self, name: str, row: int) -> int:
        """Where one row of one kind of state begins."""
        return self.addresses[name] + row * self._layout.row_sizes[name]


class _Layout:
    """How states lie in memory."""

    def __init__(self, manifest: Manifest) -> None:
        self.shapes = {name: tuple(shape) for name, shape in sorted(manifest.states.items())}
        self.dtypes = {name: np.dtype(manifest.state_type(name)) for name in self.shapes}
        self.row_sizes = {name: prod(shape) * self.dtypes[name].itemsize for name, shape in self.shapes.items()}

    def offsets(self, rows: int) -> dict[str, int]:
        """Where each kind begins in a block."""
        found, end = {}, 0
        for name, size in self.row_sizes.items():
            found[name] = end
            end += _aligned(rows * size)
        return found

    def size(self, rows: int) -> int:
        """Bytes of a block."""
        return sum(_aligned(rows * size) for size in self.row_sizes.values())


class WorkingSet:
    """Two blocks for one number of rows; `side` says which one holds what is read next."""

    def __init__(self, blocks: tuple[_Block, _Block]) -> None:
        self._blocks = blocks
        self.rows = blocks[0].rows
        self.side = 0
        self.occupant: weakref.ref[DeviceState] | None = None

    @property
    def read(self) -> _Block:
        """What the next call reads."""
        return self._blocks[self.side]

    @property
    def written(self) -> _Block:
        """What the next call writes."""
        return self._blocks[1 - self.side]

    def holds(self, state: DeviceState) -> bool:
        """Whether this state is at work here."""
        return self.occupant is not None and self.occupant() is state


class DeviceState(Mapping[str, NDArray[Any]]):
    """The state of B streams on a device. As a mapping it gives arrays [B, ...], copied from there, by name."""

    def __init__(self, states: DeviceStates, batch: int, block: _Block | None = None) -> None:
        self.batch = batch
        self.block = block  # where it is parked, or at work; None: nowhere, as it is all zeros
        self.used = False
        self._states = states

    def use_up(self) -> None:
        """The state went into a step; what is left of it may be written over."""
        self.used, self.block = True, None

    # Two states are the same if they are the same object: as keys of a mapping they would be compared by content.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._states.fetch(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._states.names)

    def __len__(self) -> int:
        return len(self._states.names)


class DeviceStates:
    """Keeps all states of one engine."""

    def __init__(self, device: Device, memory: DeviceMemory, manifest: Manifest) -> None:
        self._device, self._memory = device, memory
        self._layout = _Layout(manifest)
        self._working: dict[int, WorkingSet] = {}
        self._free: dict[int, list[int]] = {}  # addresses of blocks by their number of rows

    @property
    def names(self) -> tuple[str, ...]:
        """Kinds of state."""
        return tuple(self._layout.shapes)

    def zeros(self, batch: int) -> DeviceState:
        """The state of streams that begin."""
        return DeviceState(self, batch)

    def at_work(self, state: DeviceState, rows: int) -> WorkingSet:
        """The working set of that many rows with this state in its first ones. Raises EngineError, DeviceError."""
        _check_unused(state)
        working = self._working.get(rows) or self._make_working_set(rows)
        if not working.holds(state):
            self._park_occupant(working)
            self._write(state, working.read)
            working.occupant, state.block = weakref.ref(state), working.read
        return working

    def advance(self, working: WorkingSet, state: DeviceState) -> DeviceState:
        """The state after a call that read `state` and wrote the other block. `state` is used up."""
        working.side = 1 - working.side
        following = DeviceState(self, state.batch, working.read)
        working.occupant = weakref.ref(following)
        state.use_up()
        return following

    def select(self, rows: Sequence[tuple[DeviceState, int]]) -> DeviceState:
        """A state of its own of the streams that stand in these rows. Raises EngineError, DeviceError."""
        block = self._take_block(len(rows))
        for to, (state, row) in enumerate(rows):
            _check_unused(state)
            for name, size in self._layout.row_sizes.items():
                if state.block is None:
                    self._device.clear(block.row(name, to), size)
                else:
                    self._device.copy(block.row(name, to), state.block.row(name, row), size)
        return DeviceState(self, len(rows), block)

    def fetch(self, state: DeviceState, name: str) -> NDArray[Any]:
        """One kind of state as an array [B, ...] on the host. Raises EngineError, DeviceError."""
        _check_unused(state)
        shape, dtype = (state.batch, *self._layout.shapes[name]), self._layout.dtypes[name]
        if state.block is None:
            return np.zeros(shape, dtype)
        array = np.empty(shape, dtype)
        self._device.download(array.ctypes.data, state.block.addresses[name], array.nbytes)
        self._device.synchronize()
        return array

    def _make_working_set(self, rows: int) -> WorkingSet:
        size = self._layout.size(rows)
        one, other = (_Block(self._memory.allocate(size), rows, self._layout) for _ in range(2))
        for block in (one, other):  # rows that no stream uses take part in the arithmetic
            self._device.clear(block.addresses[self.names[0]], size)
        return self._working.setdefault(rows, WorkingSet((one, other)))

    def _park_occupant(self, working: WorkingSet) -> None:
        state = working.occupant() if working.occupant else None
        if state is not None:
            block = self._take_block(state.batch)
            self._write(state, block)
            state.block = block
        working.occupant = None

    def _write(self, state: DeviceState, block: _Block) -> None:
        """Copy all rows of a state to the first rows of a block."""
        for name, size in self._layout.row_sizes.items():
            if state.block is None:
                self._device.clear(block.addresses[name], state.batch * size)
            else:
                self._device.copy(block.addresses[name], state.block.addresses[name], state.batch * size)

    def _take_block(self, rows: int) -> _Block:
        """A block that goes back to the free ones once nobody refers to it. Safe, as one stream runs all in order."""
        free = self._free.setdefault(rows, [])
        address = free.pop() if free else self._memory.allocate(self._layout.size(rows))
        block = _Block(address, rows, self._layout)
        weakref.finalize(block, free.append, address).atexit = False
        return block


def _check_unused(state: DeviceState) -> None:
    if state.used:
        raise EngineError("this state went into an earlier step: a state is used once; `select` makes a copy to keep")


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
