"""What onnxruntime makes of a quantised graph on this CPU: products really done in integers, and the time saved."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from ..runtime.engines.onnxruntime_engine import DISABLED_OPTIMIZERS, OnnxRuntimeEngine
from ..runtime.engines.protocol import Engine
from ..runtime.streams.stream import FILE_TOKENS_PER_CALL
from .signals import drum_like

__all__ = ["RelativeCost", "integer_products", "relative_cost"]

INTEGER_OPERATORS = ("MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul", "QGemm", "DynamicQuantizeMatMul")
FILE_PAIRS = 40
LIVE_TOKENS, LIVE_PAIRS = 2, 200


def integer_products(path: Path) -> int:
    """Products that onnxruntime computes in integers, counted in the graph that it runs after its own optimisation."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(optimised)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(DISABLED_OPTIMIZERS)
        )
        graph = onnx.load(optimised).graph
    return sum(node.op_type in INTEGER_OPERATORS for node in graph.node)


class RelativeCost(NamedTuple):
    """CPU time over another graph's."""

    file: float  # calls as for files
    live: float  # calls of 2 tokens


def relative_cost(path: Path, reference: Path) -> RelativeCost:
    """CPU time of one graph over another's, one thread: medians of paired calls."""
    engines = [OnnxRuntimeEngine(reference), OnnxRuntimeEngine(path)]
    try:
        return RelativeCost(_ratio(engines, FILE_TOKENS_PER_CALL, FILE_PAIRS), _ratio(engines, LIVE_TOKENS, LIVE_PAIRS))
    finally:
        for engine in engines:
            engine.close()


def _ratio(engines: list[OnnxRuntimeEngine], tokens: int, pairs: int) -> float:
    manifest = engines[0].manifest
    samples = tokens * manifest.samples_per_token
    audio = drum_like(0, samples / manifest.sample_rate + 1, manifest.sample_rate)[None, :samples]
    times = np.array([[_cpu_time(engine, audio) for engine in engines] for _ in range(pairs)])
    return float(np.median(times[:, 1] / times[:, 0]))


def _cpu_time(engine: Engine, audio: np.ndarray) -> float:
    state, delay = engine.zero_state(1), np.zeros((1, 1), np.int64)
    begun = time.process_time()
    engine.step(audio, delay, state)
    return time.process_time() - begun
