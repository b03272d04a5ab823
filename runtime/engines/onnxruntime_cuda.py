"""A model.onnx on onnxruntime's CUDA provider; states stay on the GPU between calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from .cuda_driver import probe_driver
from .onnxruntime_engine import OnnxRuntimeEngine, first_line, open_session
from .protocol import HEADS, Floats, State, select_rows, zero_arrays

__all__ = ["OnnxRuntimeCudaEngine"]

_INSTALL = "pip uninstall -y onnxruntime && pip install 'ghostnote[gpu]'"
_LIBRARIES = "pip install 'onnxruntime-gpu[cuda,cudnn]' brings those from NVIDIA"


class _OrtState(Mapping[str, NDArray[Any]]):
    """States on a device. As a mapping it gives arrays [B, ...], copied from there, by name."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values_there = values  # OrtValues by name

    def __getitem__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = self.values_there[name].numpy()
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_there)

    def __len__(self) -> int:
        return len(self.values_there)


class OnnxRuntimeCudaEngine(OnnxRuntimeEngine):
    """A model.onnx on a GPU: audio and heads are copied on every call, states are bound where they lie."""

    # Products in float32 mean float32: the provider's default, TF32, keeps 10 bits of their operands. Convolutions of
    # every new size would be timed by all algorithms in turn.
    provider: tuple[str, dict[str, str]] = (
        "CUDAExecutionProvider",
        {"device_id": "0", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
    )
    device = "cuda"

    def zero_state(self, batch: int) -> State:
        """All zeros, on the device."""
        return self._placed(zero_arrays(self._manifest, batch))

    def select(self, rows: Sequence[tuple[State, int]]) -> State:
        """The streams that stand in these rows of these states; through the host, as onnxruntime copies no rows."""
        fetched = {id(state): dict(state) for state, _ in rows}
        return self._placed(select_rows([(fetched[id(state)], row) for state, row in rows]))

    def describe(self) -> str:
        """One line for humans."""
        m = self._manifest
        return f"{m.name} ({m.precision}) on {self._library}, CUDA"

    def _open(self) -> Any:
        """A session that is on the GPU. Raises EngineError: onnxruntime itself falls back to the CPU in silence."""
        name, _ = self.provider
        self._check_available(name)
        session = open_session(self._ort, self._path, self._threads, providers=[self.provider])
        if session.get_providers()[0] != name:
            raise EngineError(
                f"{self._path}: {self._library} cannot start CUDA and fell back to the CPU; libraries of CUDA or cuDNN "
                f"are missing or do not fit the driver: {_LIBRARIES}"
            )
        return session

    def _check_available(self, provider: str) -> None:
        if problem := probe_driver().problem:
            raise EngineError(f"{self._path}: no GPU to run on, as {problem}; leave --device cuda out to use the CPU")
        if provider not in self._ort.get_available_providers():
            raise EngineError(f"{self._path}: this {self._library} is made for CPUs; {_INSTALL}")
        self._ort.preload_dlls()  # CUDA's libraries out of wheels, where they came that way

    def _run(self, audio: Floats, delay: NDArray[np.int64], state: State) -> tuple[Sequence[Floats], State]:
        binding = self._session.io_binding()
        binding.bind_cpu_input("audio", np.ascontiguousarray(audio))
        binding.bind_cpu_input("delay", np.ascontiguousarray(delay))
        for name, value in state.values_there.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, "cpu" if name in HEADS else self.device)
        self._session.run_with_iobinding(binding)
        values = dict(zip(self._outputs, binding.get_outputs(), strict=True))
        following = _OrtState({name: values[f"{name}_out"] for name in self._states})
        return [values[name].numpy() for name in HEADS], following

    def _placed(self, arrays: Mapping[str, NDArray[Any]]) -> _OrtState:
        """Arrays copied to the device."""
        place = self._ort.OrtValue.ortvalue_from_numpy
        try:
            return _OrtState({name: place(array, self.device, 0) for name, array in arrays.items()})
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise EngineError(f"{self._path}: onnxruntime failed: {first_line(error)}") from error
