"""PyTorch behind the runtime's engine protocol: what parity, the laws and the choice of thresholds compare with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..runtime.engines.protocol import State, StepOutput, select_rows, zero_arrays
from ..runtime.manifest import Manifest
from .checkpoint import Checkpoint
from .transformer import DrumTransformer, state_shapes

__all__ = ["TorchEngine"]


class TorchEngine:
    """Runs `DrumTransformer.step` on arrays; see `ghostnote.runtime.engines.protocol.Engine` for shapes."""

    def __init__(self, model: DrumTransformer, manifest: Manifest) -> None:
        self._model, self._manifest = model.eval(), manifest
        self._names = tuple(state_shapes(model.config))

    @classmethod
    def of(cls, checkpoint: Checkpoint, *, exact: bool = False) -> TorchEngine:
        """The engine of a checkpoint; `exact` computes in double precision, twice as slowly.

        Near silence beside loud bands PyTorch's own rounding in float32 is as large as an export's, and differs from
        processor to processor: compared with it, nobody could tell how far an export is off what was trained.
        """
        model = checkpoint.streaming_model()
        return cls(model.double() if exact else model, checkpoint.manifest())

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def zero_state(self, batch: int) -> State:
        return zero_arrays(self._manifest, batch)

    def step(self, audio: NDArray[np.float32], delay: NDArray[np.int64], state: State) -> StepOutput:
        weight = self._model.head.weight
        floats = [audio, *(state[name] for name in self._names)]
        heard, *states = (torch.from_numpy(np.ascontiguousarray(a)).to(weight) for a in floats)
        with torch.inference_mode():
            result = self._model.step(heard, torch.from_numpy(delay).to(weight.device), *states)
        onset_logits, velocity, offset = (value.float().cpu().numpy() for value in result[:3])
        following = {name: value.cpu().numpy() for name, value in zip(self._names, result.states, strict=True)}
        return StepOutput(onset_logits, velocity, offset, following)

    def select(self, rows: Sequence[tuple[State, int]]) -> State:
        return select_rows(rows)

    def describe(self) -> str:
        m = self._manifest
        return f"{m.name} ({m.precision}) on PyTorch {torch.__version__}, {self._model.head.weight.device}"

    def close(self) -> None:
        """Nothing to free."""
