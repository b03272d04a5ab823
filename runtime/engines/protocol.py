"""The protocol that every engine keeps, and what goes through it.

Letters: B streams, N samples in the call (a multiple of samples_per_token), F frames, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..manifest import Manifest

__all__ = ["HEADS", "Engine", "Floats", "State", "StepOutput", "select_rows", "zero_arrays"]

Floats: TypeAlias = NDArray[np.float32]

# What an engine keeps of B streams between two calls: arrays by name on a CPU, buffers on a device. Opaque to callers.
State: TypeAlias = Any

HEADS = ("onset_logits", "velocity", "offset")


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Network output of one call, each head [B, F, C], and the state to hand to the next call."""

    onset_logits: Floats
    velocity: Floats
    offset: Floats
    state: State


class Engine(Protocol):
    """Runs the pure function `step`; holds weights, never a stream's state, so one engine serves many streams.

    A state is used once: `step` takes it over (its memory may hold the next one), unless it raises; `select` leaves
    what it was given as it is. Calls come from one thread at a time.
    """

    @property
    def manifest(self) -> Manifest:
        """What the artifact says about itself."""

    def zero_state(self, batch: int) -> State:
        """The state of `batch` streams that begin."""

    def step(self, audio: Floats, delay: NDArray[np.int64], state: State) -> StepOutput:
        """audio [B, N], delay [B, 1] (index into delays_ms), state as returned by the last call or `zero_state`."""

    def select(self, rows: Sequence[tuple[State, int]]) -> State:
        """A state of its own of the streams that stand in these rows of these states, in this order."""

    def describe(self) -> str:
        """One line for humans: model, library, device, precision."""

    def close(self) -> None:
        """Free what the engine holds."""


def zero_arrays(manifest: Manifest, batch: int) -> dict[str, Floats]:
    """The state of `batch` streams that begin, for engines that keep it as arrays [batch, ...] by name."""
    return {name: np.zeros((batch, *shape), np.float32) for name, shape in sorted(manifest.states.items())}


def select_rows(rows: Sequence[tuple[dict[str, Floats], int]]) -> dict[str, Floats]:
    """`Engine.select` for engines that keep their state as arrays [batch, ...] by name."""
    first, _ = rows[0]
    return {name: np.stack([state[name][row] for state, row in rows]) for name in first}
