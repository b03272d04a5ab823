"""An engine on ONNX's reference evaluator: numpy, operator by operator, each in the type that the graph declares.

Slow and honest. onnxruntime on a CPU widens float16, bfloat16 and float8 to float32 where it can, so a variant that
only it has run has not been tried in its own precision.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from ..runtime.engines.protocol import HEADS, State, StepOutput, select_rows, zero_arrays
from ..runtime.errors import EngineError
from ..runtime.manifest import Manifest
from .errors import MissingLibraryError

__all__ = ["ReferenceEngine", "check_evaluator"]

BFLOAT16_SINCE = (1, 23)  # version of onnx whose evaluator multiplies bfloat16


def check_evaluator(precision: str) -> None:
    """Raises MissingLibraryError where the installed onnx cannot evaluate graphs in it (a manifest's name)."""
    installed = tuple(int(number) for number in re.findall(r"\d+", onnx.__version__)[:2])
    if precision == "bfloat16" and installed < BFLOAT16_SINCE:
        raise MissingLibraryError(
            f"bfloat16 is verified by ONNX's reference evaluator, and that of onnx {onnx.__version__} has no products "
            f"in it; pip install -U 'onnx>={'.'.join(map(str, BFLOAT16_SINCE))}'"
        )


class ReferenceEngine:
    """A graph with its manifest, evaluated by `onnx.reference`; an `Engine` (runtime/engines/protocol.py)."""

    def __init__(self, proto: onnx.ModelProto, manifest: Manifest) -> None:
        """Raises EngineError where the evaluator lacks an operator."""
        try:
            self._evaluator: Any = ReferenceEvaluator(proto)
        except Exception as error:  # whatever an operator's constructor may raise
            raise EngineError(f"ONNX's reference evaluator cannot run the graph: {error}") from error
        self._manifest = manifest
        self._outputs = [*HEADS, *(f"{name}_out" for name in manifest.states)]

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def zero_state(self, batch: int) -> State:
        return zero_arrays(self._manifest, batch)

    def step(self, audio: np.ndarray, delay: np.ndarray, state: State) -> StepOutput:
        try:
            with np.errstate(all="ignore"):  # exp(-1e4) is 0, as meant
                values = self._evaluator.run(self._outputs, {"audio": audio, "delay": delay, **state})
        except Exception as error:  # numpy's and the evaluator's exceptions share no base class
            raise EngineError(f"ONNX's reference evaluator failed: {error}") from error
        onset_logits, velocity, offset, *states = values
        return StepOutput(onset_logits, velocity, offset, dict(zip(self._manifest.states, states, strict=True)))

    def select(self, rows: Sequence[tuple[State, int]]) -> State:
        return select_rows(rows)

    def describe(self) -> str:
        return f"{self._manifest.name} ({self._manifest.precision}) on onnx.reference {onnx.__version__}"

    def close(self) -> None:
        """Nothing to free."""
