"""Try one inference library, in a process of its own: `python -m ghostnote.runtime.probes NAME`.

These libraries crash where drivers and versions do not fit, so nothing here runs in the process that wants to know
(runtime/doctor.py). What is found out is said at once, a line per step, so that a crash costs only what comes after it.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from importlib.resources import as_file
from typing import Any

import numpy as np

from .doctor import LINE
from .engines.cuda_driver import probe_driver
from .engines.opening import model_file, open_engine
from .engines.protocol import zero_arrays
from .errors import GhostnoteError
from .manifest import METADATA_KEY, Manifest

__all__ = ["PROBES", "main"]

_GPU_PACKAGE = "pip uninstall -y onnxruntime && pip install 'ghostnote[gpu]'"
_GPU_LIBRARIES = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
# GPUs that TensorRT for RTX runs on. It builds plans without any.
RTX_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
# x [4] float32 -> x + x, as ONNX (opset 13): the smallest graph there is to parse and build, without the onnx package.
_DOUBLE_IT = bytes.fromhex(
    "08083a350a0e0a01780a017812017922034164641201675a0f0a0178120a0a08080112040a020804"
    "620f0a0179120a0a08080112040a02080442040a00100d"
)


class _GapError(Exception):
    """Something that the library needs is not here; `fix` is the command that helps, "" where none does."""

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem)
        self.fix = fix


def main() -> None:
    """Run the probe named on the command line; whatever it meets becomes a `problem`."""
    try:
        PROBES[sys.argv[1]]()
    except _GapError as gap:
        _say(problem=str(gap), fix=gap.fix)
    except GhostnoteError as error:
        _say(problem=str(error))
    except ImportError as error:
        _say(problem=f"it does not load: {_brief(error)}")
    except Exception as error:  # noqa: BLE001 - libraries raise what they like; all of it is the answer
        _say(problem=_brief(error))
        sys.exit(1)  # not foreseen: what the library logged on stderr is worth reading


def _onnxruntime_cpu() -> None:
    """The bundled model for one token, as transcribing would run it."""
    _load("onnxruntime")
    engine = open_engine()
    engine.step(*_one_token(engine.manifest), engine.zero_state(1))  # refuses output that is not finite
    _say(can="run", detail=engine.describe())


def _onnxruntime_cuda() -> None:
    """The bundled model for one token on the GPU, once it is sure that it is there and nowhere else."""
    ort = _load("onnxruntime")
    if problem := probe_driver().problem:
        raise _GapError(problem)
    wanted = "CUDAExecutionProvider"
    if wanted not in ort.get_available_providers():
        raise _GapError("this onnxruntime is made for CPUs", _GPU_PACKAGE)
    ort.preload_dlls()  # the CUDA libraries out of wheels, where they came that way
    with as_file(model_file()) as path:
        session = ort.InferenceSession(str(path), providers=[wanted])
    # Where CUDA does not start, onnxruntime falls back to the CPU and says so in a line of its log only.
    if session.get_providers()[0] != wanted:
        raise _GapError("CUDA does not start, onnxruntime fell back to the CPU", _GPU_LIBRARIES)
    manifest = Manifest.from_json(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    audio, delay = _one_token(manifest)
    outputs = session.run(None, {"audio": audio, "delay": delay, **zero_arrays(manifest, 1)})
    if not all(np.isfinite(value).all() for value in outputs):
        raise _GapError("it runs, but its output is not finite")
    _say(can="run", detail=f"{manifest.name} ({manifest.precision}) on {wanted}")


def _one_token(manifest: Manifest) -> tuple[Any, Any]:
    """Audio [1, samples_per_token] (silence) and delay [1, 1] of one call."""
    return np.zeros((1, manifest.samples_per_token), np.float32), np.full((1, 1), manifest.default_delay, np.int64)


def _tensorrt() -> None:
    """Builds need a GPU here, so the driver is asked first."""
    trt = _load("tensorrt")
    if problem := probe_driver().problem:
        raise _GapError(f"it cannot build or run here: {problem}")
    _open_plan(trt, _build(trt))


def _tensorrt_rtx() -> None:
    """Builds without a GPU; runs on RTX GPUs alone."""
    trt = _load("tensorrt_rtx")
    plan = _build(trt)
    driver = probe_driver()
    if driver.problem:
        raise _GapError(f"its plans cannot run here: {driver.problem}")
    if all(device.compute_capability not in RTX_CAPABILITIES for device in driver.devices):
        listed = ", ".join(f"{major}.{minor}" for major, minor in RTX_CAPABILITIES)
        raise _GapError(f"its plans cannot run here: that takes an RTX GPU (compute capability {listed})")
    _open_plan(trt, plan)


def _tensorrt_lean() -> None:
    """A runtime only. Without a driver, its second call crashes the process."""
    trt = _load("tensorrt_lean")
    if problem := probe_driver().problem:
        raise _GapError(f"plans cannot run here: {problem}")
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    runtime.max_threads = 1  # a call that does something: a runtime that is none shows here
    _say(detail="makes a runtime on this GPU; it loads plans that were built version-compatible")


def _load(name: str) -> Any:
    library = importlib.import_module(name)
    _say(can="load", version=library.__version__)
    return library


def _build(trt: Any) -> Any:
    """Parse and build a graph of one node. TensorRT returns None or False where it fails, and logs why."""
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network()
    if not trt.OnnxParser(network, log).parse(_DOUBLE_IT):
        raise RuntimeError("its parser refuses a graph of one node")
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    if plan is None:
        raise RuntimeError("it cannot build a graph of one node")
    _say(can="build", detail="parses and builds a graph")
    return plan


def _open_plan(trt: Any, plan: Any) -> None:
    """Make an engine of the plan on this GPU. Nothing is computed: that takes CUDA memory, which is not ours here."""
    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(plan)
    if engine is None or engine.create_execution_context() is None:
        raise RuntimeError("it builds a plan that this GPU does not load")
    _say(can="open", detail="parses and builds a graph, and opens the plan on this GPU")


def _say(**facts: str) -> None:
    """Tell the asking process. `can` values add up; of the others the last one stands."""
    sys.stdout.write(f"{LINE}{json.dumps(facts)}\n")
    sys.stdout.flush()


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return f"it finds no usable GPU ({text})" if "factory function returned nullptr" in text else text


PROBES: Mapping[str, Callable[[], None]] = {
    "onnxruntime-cpu": _onnxruntime_cpu,
    "onnxruntime-cuda": _onnxruntime_cuda,
    "tensorrt": _tensorrt,
    "tensorrt_lean": _tensorrt_lean,
    "tensorrt_rtx": _tensorrt_rtx,
}


if __name__ == "__main__":
    main()
