"""Streams per GPU: calls of many sizes, against what the device's memory and arithmetic allow.

A call is timed with its copies: audio from pinned host memory to the device, the three heads back; states stay there.
`torch` steps the PyTorch model, captured as a CUDA graph for each size; `engine` steps whatever `open_engine` opens (a
plan, onnxruntime's CUDA provider). What was measured is in the name of every figure.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.engines.flavours import FLAVOURS
from ...runtime.engines.protocol import Engine
from ...runtime.engines.sidecar import read_sidecar
from ...runtime.errors import EngineError
from ...runtime.manifest import Manifest
from ..measuring import Figure, state_bytes

__all__ = ["device_figures", "engine_caller", "engine_label", "gpu", "torch_caller"]

BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
TOKENS = (1, 2, 4, 8)
CALLS, WARM_UP = 60, 5

Caller = Callable[[int, int], Callable[[], None]]  # (streams, tokens) -> one call of that size, with its copies


def gpu(
    caller: Caller,
    manifest: Manifest,
    label: str,
    device: dict[str, float],
    batches: Sequence[int] = BATCHES,
    tokens: Sequence[int] = TOKENS,
) -> tuple[list[Figure], dict[str, Any]]:
    """Latency of a call and streams in real time for every size; a size that does not fit ends its row.

    `device`: `bytes_per_s` and `flop_per_s` as measured, and the model's `gflop` per second of audio.
    """
    figures: list[Figure] = []
    series: dict[str, dict[str, float]] = {}
    for count in tokens:
        for batch in batches:
            try:
                call = caller(batch, count)
                call()  # a plan says only here that it takes no call of this size
            except (EngineError, MemoryError, RuntimeError, ValueError) as error:
                figures.append(Figure(f"{label}, {batch} x {count} tokens: {_first_line(error)}", None, ""))
                break
            times_s = _times(call)
            best_s = _best_s(batch, count * manifest.token_s, manifest, device)
            figures += _figures(f"{label}, {batch} x {count} tokens", times_s, batch * count * manifest.token_s, best_s)
            series.setdefault(str(batch), {})[str(count)] = 1000 * statistics.median(times_s)
    return figures, {"call_ms": series}


def _figures(name: str, times_s: Sequence[float], audio_s: float, best_s: float) -> list[Figure]:
    """Of calls that bring `audio_s` seconds of audio, all streams together, and could take `best_s`."""
    median_s, p99_s = statistics.median(times_s), float(np.quantile(times_s, 0.99))
    return [
        Figure(f"{name}: call, median", 1000 * median_s, "ms", theory=1000 * best_s, better="less"),
        Figure(f"{name}: call, p99", 1000 * p99_s, "ms"),
        Figure(f"{name}: streams in real time", audio_s / p99_s, "", theory=audio_s / best_s),
    ]


def torch_caller(checkpoint: Path, device: str = "cuda", *, half: bool = True) -> Caller:
    """The PyTorch model of a checkpoint as a caller; on a GPU each size is captured as a CUDA graph."""
    import torch

    from ...models.checkpoint import load

    loaded = load(checkpoint)
    model = loaded.streaming_model().to(device)
    config = model.config
    graphs = device.startswith("cuda")

    def prepare(batch: int, tokens: int) -> Callable[[], None]:
        host = torch.zeros(batch, tokens * config.samples_per_token, pin_memory=graphs)
        audio, delay = host.to(device), torch.zeros(batch, 1, dtype=torch.long, device=device)
        states = [state.to(device) for state in model.zero_state(batch)]

        def step() -> list[Any]:
            with torch.inference_mode(), torch.autocast(device.split(":")[0], torch.bfloat16, enabled=half):
                result = model(audio, delay, *states)
            for state, new in zip(states, result.states, strict=True):
                state.copy_(new)  # in the captured region: addresses stay
            return list(result[:3])

        if not graphs:
            return lambda: _from_host(audio, host, step)
        return _captured(step, audio, host)

    return prepare


def _from_host(audio: Any, host: Any, step: Callable[[], list[Any]]) -> None:
    audio.copy_(host)
    for head in step():
        head.float().cpu()


def _captured(step: Callable[[], list[Any]], audio: Any, host: Any) -> Callable[[], None]:
    """The step as a CUDA graph, replayed between the copies."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        heads = step()
    back = [torch.empty(head.shape, dtype=head.dtype, pin_memory=True) for head in heads]

    def call() -> None:
        audio.copy_(host, non_blocking=True)
        graph.replay()
        for target, head in zip(back, heads, strict=True):
            target.copy_(head, non_blocking=True)
        torch.cuda.synchronize()

    return call


def engine_caller(engine: Engine) -> Caller:
    """Whatever the runtime opens, as a caller."""
    manifest = engine.manifest

    def prepare(batch: int, tokens: int) -> Callable[[], None]:
        audio = np.zeros((batch, tokens * manifest.samples_per_token), np.float32)
        delay = np.zeros((batch, 1), np.int64)
        state = [engine.zero_state(batch)]

        def call() -> None:
            state[0] = engine.step(audio, delay, state[0]).state

        return call

    return prepare


def engine_label(path: Path, manifest: Manifest) -> str:
    """What the figures of a model file are called: the library and the precision.

    Versions and the device are left to the card: with a later version it is the same figure, and to be compared.
    """
    plan = path.suffix == ".plan"
    library = FLAVOURS[read_sidecar(path).record["flavour"]].product if plan else "onnxruntime"
    return f"{library}, {manifest.precision}"


def device_figures(device: str = "cuda") -> tuple[list[Figure], dict[str, float]]:
    """What the device reaches with PyTorch: copying in its memory, a bfloat16 matrix product."""
    import torch

    graphs = device.startswith("cuda")
    size, side = (1 << 30, 8192) if graphs else (1 << 26, 512)
    source = torch.zeros(size // 4, device=device)
    target = torch.empty_like(source)
    one = torch.ones(side, side, device=device, dtype=torch.bfloat16 if graphs else torch.float32)

    def timed(action: Callable[[], Any]) -> float:
        def call() -> None:
            action()
            if graphs:
                torch.cuda.synchronize()

        return statistics.median(_times(call, 10))

    bytes_per_s = 2 * size / timed(lambda: target.copy_(source))
    flop_per_s = 2 * side**3 / timed(lambda: one @ one)
    rates = {"bytes_per_s": bytes_per_s, "flop_per_s": flop_per_s}
    return [
        Figure("memory, read and written", bytes_per_s / 1e9, "GB/s"),
        Figure("matrix product", flop_per_s / 1e12, "TFLOP/s"),
    ], rates


def _best_s(batch: int, chunk_s: float, manifest: Manifest, device: dict[str, float]) -> float:
    """The longer of moving the states in and out once, and of the arithmetic."""
    moving_s = 2 * batch * state_bytes(manifest) / device["bytes_per_s"]
    return max(moving_s, 1e9 * device.get("gflop", 0.0) * chunk_s * batch / device["flop_per_s"])


def _times(call: Callable[[], None], count: int = CALLS) -> list[float]:
    for _ in range(WARM_UP):
        call()
    times_s = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - start)
    return times_s


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:80]
