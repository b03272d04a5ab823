"""A plan behind the engine protocol: what runs where, from which memory, and which calls become CUDA graphs.

A call's audio goes through pinned memory to the device, the plan reads one block of states and writes the other
(plan_states), and the heads come back. Streams are padded to few numbers of rows, and longer calls than the plan takes
are run as several. A call of the same size from the same block is plain the first time, captured as a graph the second
time, and from then on launched as that: one launch instead of a hundred kernels.

Letters: B streams, R rows of a call (R >= B), T tokens, N = T * samples_per_token, F frames, C classes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..manifest import Manifest
from .device import Device, DeviceError, Execution, Graph, Plan
from .plan_profile import PlanProfile, profile_of
from .plan_states import DeviceMemory, DeviceState, DeviceStates, WorkingSet
from .protocol import HEADS, Floats, State, StepOutput, check_heads

__all__ = ["PlanEngine"]

# Ways to run that are kept, each with an execution context and a graph: many more than a live stream or a pool uses.
_KEPT_LANES = 64


class _Buffer(NamedTuple):
    """A tensor of the largest call: on the host (pinned, flat) and on the device."""

    host: NDArray[Any]
    device: int

    def view(self, shape: Sequence[int]) -> NDArray[Any]:
        """The host's side of a smaller call."""
        return self.host[: prod(shape)].reshape(shape)


class _Lane:
    """One way to run: number of rows, of tokens, and which block is read. A graph belongs to one of them alone."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.has_run = False
        self.graph: Graph | None = None


class PlanEngine:
    """A plan of TensorRT, or of TensorRT for RTX, on a device."""

    def __init__(self, path: Path, manifest: Manifest, plan: Plan, device: Device, *, rebuild: str) -> None:
        """Takes over plan and device. `rebuild` is the command that builds the plan again, for messages.

        Raises EngineError where the plan is not what the manifest says, or memory runs out; all is freed then.
        """
        self._path, self._manifest, self._rebuild = path, manifest, rebuild
        self._plan, self._device = plan, device
        self._library, self._closed, self._captures = plan.library, False, True
        self._lanes: OrderedDict[tuple[int, int, int], _Lane] = OrderedDict()
        self._memory = DeviceMemory(device)
        self._states = DeviceStates(device, self._memory, manifest)
        try:
            with self._naming_the_remedy():
                self._profile = profile_of(plan.tensors(), manifest)
                self._workspace = self._memory.allocate(plan.workspace_size)
                self._buffers = self._make_buffers()
        except EngineError:
            self.close()
            raise

    @property
    def manifest(self) -> Manifest:
        """What the plan's sidecar says about it."""
        return self._manifest

    @property
    def profile(self) -> PlanProfile:
        """The sizes of calls that the plan takes."""
        return self._profile

    def zero_state(self, batch: int) -> State:
        """The state of `batch` streams that begin; takes no memory yet."""
        return self._states.zeros(batch)

    def step(self, audio: Floats, delay: NDArray[np.int64], state: State) -> StepOutput:
        """One call of the network; see `Engine.step`. A step that raises EngineError leaves the state as it was."""
        self._check_open()
        self._check_call(audio, delay, state)
        with self._naming_the_remedy():
            rows = self._profile.rows_for(len(audio))
            calls = self._profile.calls_for(audio.shape[1] // self._manifest.samples_per_token)
        with self._naming():
            (onset_logits, velocity, offset), following = self._run_all(audio, delay, state, rows, calls)
        return StepOutput(onset_logits, velocity, offset, following)

    def select(self, rows: Sequence[tuple[State, int]]) -> State:
        """The streams that stand in these rows of these states, copied on the device."""
        self._check_open()
        with self._naming():
            return self._states.select(rows)

    def describe(self) -> str:
        """One line for humans."""
        m = self._manifest
        plainly = "" if self._captures else ", without CUDA graphs"
        return f"{m.name} ({m.precision}) on {self._library}, {self._device.name}{plainly}"

    def close(self) -> None:
        """Free all memory, graphs, the plan and the device's stream; further steps raise EngineError.

        After some errors a device does nothing any more, and cannot free anything either: that is not told.
        """
        if self._closed:
            return
        self._closed = True
        while self._lanes:
            with suppress(DeviceError):
                self._drop_oldest_lane()
        self._plan.close()
        self._memory.close()
        with suppress(DeviceError):
            self._device.close()

    def _run_all(
        self, audio: Floats, delay: NDArray[np.int64], state: DeviceState, rows: int, calls: list[int]
    ) -> tuple[list[Floats], DeviceState]:
        """Run a step in calls of so many tokens: heads [B, F, C] of all of it, and the state after it."""
        if len(calls) == 1:
            return self._run_call(audio, delay, state, rows)
        # Calls work on a copy: if one of them fails, the state is still there.
        current = self._states.select([(state, row) for row in range(state.batch)])
        parts, begin = [], 0
        for tokens in calls:
            end = begin + tokens * self._manifest.samples_per_token
            heads, current = self._run_call(audio[:, begin:end], delay, current, rows)
            parts.append(heads)
            begin = end
        state.use_up()
        return [np.concatenate(pieces, axis=1) for pieces in zip(*parts, strict=True)], current

    def _run_call(
        self, audio: Floats, delay: NDArray[np.int64], state: DeviceState, rows: int
    ) -> tuple[list[Floats], DeviceState]:
        """Run one call that the plan takes."""
        batch, samples = audio.shape
        frames = samples // self._manifest.samples_per_frame
        self._fill("audio", audio, rows)
        self._fill("delay", delay, rows)
        working = self._states.at_work(state, rows)
        self._issue(working, rows, samples // self._manifest.samples_per_token)
        self._device.synchronize()
        shape = (rows, frames, self._manifest.n_classes)
        heads = [self._buffers[name].view(shape)[:batch].copy() for name in HEADS]
        check_heads(self._manifest, heads, audio)
        return heads, self._states.advance(working, state)

    def _fill(self, name: str, values: NDArray[Any], rows: int) -> None:
        """Put an input into pinned memory, with zeros in the rows that no stream uses."""
        view = self._buffers[name].view((rows, values.shape[1]))
        view[: len(values)] = values
        view[len(values) :] = 0

    def _issue(self, working: WorkingSet, rows: int, tokens: int) -> None:
        """Issue one call, by its graph where there is one."""
        key = (rows, tokens, working.side)
        lane = self._lanes.get(key) or self._make_lane(key, working)
        self._lanes.move_to_end(key)
        if lane.has_run and lane.graph is None and self._captures:
            lane.graph = self._capture(lane, rows, tokens)
        if lane.graph is not None:
            self._device.launch(lane.graph)
        else:
            self._issue_plainly(lane, rows, tokens)
        lane.has_run = True

    def _issue_plainly(self, lane: _Lane, rows: int, tokens: int) -> None:
        for name, shape in self._input_shapes(rows, tokens).items():
            buffer = self._buffers[name]
            self._device.upload(buffer.device, buffer.host.ctypes.data, prod(shape) * buffer.host.itemsize)
        lane.execution.enqueue(self._device.stream)
        shape = self._head_shape(rows, tokens)
        for name in HEADS:
            buffer = self._buffers[name]
            self._device.download(buffer.host.ctypes.data, buffer.device, prod(shape) * buffer.host.itemsize)

    def _capture(self, lane: _Lane, rows: int, tokens: int) -> Graph | None:
        """The call as a graph; None, from now on for all calls, where it cannot be captured: it then runs plainly."""
        graph = None
        try:
            if lane.execution.capturable(self._device.stream):
                self._device.begin_capture()
                try:
                    self._issue_plainly(lane, rows, tokens)
                finally:
                    graph = self._device.end_capture()
                return graph
        except DeviceError:  # what is really wrong shows again in the plain call
            if graph is not None:
                self._device.discard(graph)
        self._captures = False
        return None

    def _make_lane(self, key: tuple[int, int, int], working: WorkingSet) -> _Lane:
        """A further way to run. Each has an execution of its own, since a graph refers to it as it was captured."""
        if len(self._lanes) >= _KEPT_LANES:
            self._drop_oldest_lane()
        rows, tokens, _ = key
        execution = self._plan.execution(self._workspace)
        for name, shape in self._input_shapes(rows, tokens).items():
            execution.set_shape(name, shape)
            execution.set_address(name, self._buffers[name].device)
        for name, state_shape in self._manifest.states.items():
            execution.set_shape(name, (rows, *state_shape))
            execution.set_address(name, working.read.addresses[name])
            execution.set_address(f"{name}_out", working.written.addresses[name])
        for name in HEADS:
            found, expected = execution.shape(name), self._head_shape(rows, tokens)
            if found != expected:
                raise EngineError(f"output '{name}' of the plan has shape {found}, expected {expected}")
            execution.set_address(name, self._buffers[name].device)
        return self._lanes.setdefault(key, _Lane(execution))

    def _drop_oldest_lane(self) -> None:
        _, lane = self._lanes.popitem(last=False)
        if lane.graph is not None:
            self._device.discard(lane.graph)

    def _make_buffers(self) -> dict[str, _Buffer]:
        """Memory for the largest call. Addresses never change, as graphs keep them."""
        rows, tokens = self._profile.batch[1], self._profile.tokens[1]
        shapes = self._input_shapes(rows, tokens) | dict.fromkeys(HEADS, self._head_shape(rows, tokens))
        buffers = {}
        for name, shape in shapes.items():
            host = self._memory.pinned(prod(shape), np.int64 if name == "delay" else np.float32)
            buffers[name] = _Buffer(host, self._memory.allocate(host.nbytes))
        return buffers

    def _input_shapes(self, rows: int, tokens: int) -> dict[str, tuple[int, ...]]:
        return {"audio": (rows, tokens * self._manifest.samples_per_token), "delay": (rows, 1)}

    def _head_shape(self, rows: int, tokens: int) -> tuple[int, ...]:
        return rows, tokens * self._manifest.frames_per_token, self._manifest.n_classes

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError(f"{self._path}: the engine is closed; open it again")

    def _check_call(self, audio: Floats, delay: NDArray[np.int64], state: State) -> None:
        """On a device a wrong shape or index would read what is not ours, without an error."""
        token, delays = self._manifest.samples_per_token, len(self._manifest.delays_ms)
        if audio.ndim != 2 or audio.shape[1] % token or delay.shape != (len(audio), 1) or state.batch != len(audio):
            raise EngineError(
                f"{self._path}: audio {audio.shape}, delay {delay.shape} and a state of {state.batch} stream(s); "
                f"expected [B, N] with N a multiple of {token}, [B, 1] and a state of B streams"
            )
        if not ((delay >= 0) & (delay < delays)).all():
            raise EngineError(f"{self._path}: delay {delay.ravel().tolist()}: expected indices 0 to {delays - 1}")

    def _naming_the_remedy(self) -> AbstractContextManager[None]:
        """`_naming` for what another plan would cure."""
        return self._naming(f"; to build it again: {self._rebuild}")

    @contextmanager
    def _naming(self, remedy: str = "") -> Iterator[None]:
        """Put the plan's name before what is wrong."""
        try:
            yield
        except EngineError as error:
            raise type(error)(f"{self._path}: {error}{remedy}") from error
