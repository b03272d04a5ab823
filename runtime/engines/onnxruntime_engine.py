"""A model.onnx on onnxruntime."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, ManifestError
from ..manifest import METADATA_KEY, Manifest
from .protocol import HEADS, Floats, State, StepOutput, check_heads, select_rows, zero_arrays

__all__ = ["OnnxRuntimeEngine", "first_line", "import_onnxruntime", "open_session"]

_INSTALL = "install exactly one: pip install 'ghostnote[cpu]' or pip install 'ghostnote[gpu]'"

# It would make one operator of a product and its bias before the products of an int8 graph are recognised; with a bias
# in float32 they then never are, and the graph takes up to four times as long.
DISABLED_OPTIMIZERS = ("MatMulAddFusion",)


class OnnxRuntimeEngine:
    """A model.onnx on onnxruntime's CPU provider."""

    def __init__(self, path: Path | str, *, threads: int = 1) -> None:
        self._path = Path(path)
        self._ort = import_onnxruntime()
        self._library = f"onnxruntime {self._ort.__version__}"
        self._threads = threads
        self._session: Any = self._open()
        self._manifest = _read_manifest(self._session, self._path)
        _check_signature(self._session, self._manifest, self._path)
        self._states = sorted(self._manifest.states)
        self._outputs = [*HEADS, *(f"{name}_out" for name in self._states)]
        self._zeros: dict[str, NDArray[Any]] = {}

    @property
    def manifest(self) -> Manifest:
        """What the model file says about itself."""
        return self._manifest

    def zero_state(self, batch: int) -> State:
        """All zeros, not to be written to: the start of `batch` streams.

        They are rows of the largest such state so far, which is kept: a system hands out new memory slowly (up to 2 ms
        per MB on virtual machines), and many streams that begin together would all wait for it.
        """
        if batch > min(map(len, self._zeros.values()), default=0):
            self._zeros = zero_arrays(self._manifest, batch)
            for zeros in self._zeros.values():
                zeros.flags.writeable = False
        return {name: zeros[:batch] for name, zeros in self._zeros.items()}

    def step(self, audio: Floats, delay: NDArray[np.int64], state: State) -> StepOutput:
        """One call of the network; see `Engine.step`. Raises EngineError when the library fails."""
        if self._session is None:
            raise EngineError(f"{self._path}: the engine is closed; open it again")
        try:
            heads, following = self._run(audio, delay, state)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise EngineError(f"{self._path}: onnxruntime failed: {first_line(error)}") from error
        try:
            check_heads(self._manifest, heads, audio)
        except EngineError as error:
            raise EngineError(f"{self._path}: {error}") from None
        onset_logits, velocity, offset = heads
        return StepOutput(onset_logits, velocity, offset, following)

    def select(self, rows: Sequence[tuple[State, int]]) -> State:
        """The streams that stand in these rows of these states, copied."""
        return select_rows(rows)

    def describe(self) -> str:
        """One line for humans."""
        m = self._manifest
        return f"{m.name} ({m.precision}) on {self._library}, CPU, {self._threads} thread(s)"

    def close(self) -> None:
        """Free the session; further steps raise EngineError."""
        self._session = None

    def _open(self) -> Any:
        """The session."""
        return open_session(self._ort, self._path, self._threads, providers=["CPUExecutionProvider"])

    def _run(self, audio: Floats, delay: NDArray[np.int64], state: State) -> tuple[Sequence[Floats], State]:
        """Heads and states of a call. May raise anything."""
        values = self._session.run(self._outputs, {"audio": audio, "delay": delay, **state})
        return values[: len(HEADS)], dict(zip(self._states, values[len(HEADS) :], strict=True))


def import_onnxruntime() -> Any:
    """onnxruntime, once it is clear that exactly one distribution provides it. Raises EngineError: what to install."""
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) == 2:
        raise EngineError(
            "onnxruntime and onnxruntime-gpu are both installed and break each other: "
            f"pip uninstall -y onnxruntime onnxruntime-gpu, then {_INSTALL}"
        )
    try:
        import onnxruntime
    except ImportError as error:
        if installed:
            raise EngineError(
                f"{installed[0]} is installed but does not load ({first_line(error)}); reinstall it"
            ) from error
        raise EngineError(f"onnxruntime is not installed; {_INSTALL}") from None
    return onnxruntime


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def open_session(ort: Any, path: Path, threads: int, *, providers: Sequence[object]) -> Any:
    """A session on the first of these providers. Raises EngineError."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only: failures reach us as exceptions, once
    # Memory is planned once per size of call and kept: a tenth less time per token, and as much memory as the largest
    # call so far needs, whatever mixture of sizes comes.
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = True
    try:
        return ort.InferenceSession(
            str(path), options, providers=providers, disabled_optimizers=list(DISABLED_OPTIMIZERS)
        )
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise EngineError(f"{path}: not a model that onnxruntime can load ({first_line(error)})") from error


def _read_manifest(session: Any, path: Path) -> Manifest:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise EngineError(f"{path}: not a ghostnote model (no '{METADATA_KEY}' metadata); make one with export-model")
    try:
        return Manifest.from_json(text)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def _check_signature(session: Any, manifest: Manifest, path: Path) -> None:
    """The graph must have exactly the inputs and outputs that the manifest announces."""
    states = {name: (None, *shape) for name, shape in manifest.states.items()}
    head = (None, None, manifest.n_classes)
    inputs = {"audio": (None, None), "delay": (None, 1), **states}
    outputs = dict.fromkeys(HEADS, head) | {f"{name}_out": shape for name, shape in states.items()}
    for kind, expected, found in (("input", inputs, session.get_inputs()), ("output", outputs, session.get_outputs())):
        names = {node.name for node in found}
        if names != set(expected):
            wrong = ", ".join(sorted(names ^ set(expected)))
            raise EngineError(f"{path}: {kind}s of graph and manifest differ ({wrong}); export the model again")
        for node in found:
            _check_node(node, _type_of(node.name, manifest), expected[node.name], kind, path)


def _type_of(name: str, manifest: Manifest) -> str:
    """onnxruntime's name for the type that an input or output has by the manifest."""
    if name == "delay":
        return "tensor(int64)"
    return {"float32": "tensor(float)", "float16": "tensor(float16)"}[manifest.state_type(name.removesuffix("_out"))]


def _check_node(node: Any, wanted: str, shape: tuple[int | None, ...], kind: str, path: Path) -> None:
    """Type and shape of one graph input or output; None and named dimensions are free."""
    # Shape inference may leave dimensions of outputs without a number; those are checked when they run.
    fits = len(node.shape) == len(shape) and all(
        free is None or not isinstance(have, int) or have == free for have, free in zip(node.shape, shape, strict=True)
    )
    if node.type != wanted or not fits:
        raise EngineError(
            f"{path}: {kind} '{node.name}' is {node.type} {node.shape}, the manifest says {wanted} {list(shape)}; "
            "export the model again"
        )


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
