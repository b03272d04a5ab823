"""What hears, opened: a model file of the runtime, or a checkpoint of any kind on PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...runtime.engines.opening import open_engine
from ...runtime.engines.protocol import Engine
from ...runtime.errors import UsageError
from .hearing import Listener, WholeFile

__all__ = ["about", "delay_for", "engine_for", "estimate", "streaming_engine_for"]


def engine_for(path: Path | None, threads: int = 1) -> Listener:
    """Open a model: a checkpoint (.pt) of any kind on PyTorch, anything else as the runtime does."""
    if path is not None and path.suffix.lower() == ".pt":
        from ..checkpoint import load
        from ..kinds import STREAMING
        from ..torch_engine import TorchEngine

        loaded = load(path, kind=None)
        return TorchEngine.of(loaded) if loaded.config.kind == STREAMING else WholeFile(loaded)
    return open_engine(path, threads=threads)


def streaming_engine_for(path: Path | None, threads: int = 1) -> Engine:
    """The same, for what only a stream has. Raises UsageError for a model that hears the whole file."""
    opened = engine_for(path, threads)
    if isinstance(opened, WholeFile):
        raise UsageError(f"{path}: a model that hears the whole file has no stream; give one that streams")
    return opened


def delay_for(engine: Listener, latency_ms: float | None) -> int:
    """Index of the delay that `--latency-ms` asks for. Raises UsageError where none meets it."""
    manifest = engine.manifest
    if latency_ms is None:
        return manifest.default_delay
    if isinstance(engine, WholeFile):
        raise UsageError(f"model '{manifest.name}' hears the whole file and has no latency; leave out --latency-ms")
    return manifest.delay_for_latency(latency_ms)


def about(engine: Listener, delay: int) -> dict[str, Any]:
    """What produces the estimates; an accuracy without its latency (None: whole file) says nothing."""
    manifest = engine.manifest
    return {
        "engine": engine.describe(),
        "weights_sha256": manifest.weights_sha256,
        "total_latency_ms": None if isinstance(engine, WholeFile) else manifest.total_latency_ms(delay),
    }


def estimate(engine: Engine, recording: Path, latency_ms: float | None = None) -> list[tuple[float, str]]:
    """Transcribe a recording: (seconds, class code), sorted; times in whole microseconds, as label files hold them."""
    from ...runtime.job import transcribe_file

    hits = transcribe_file(recording, engine, latency_ms=latency_ms)
    return sorted((float(f"{hit.time_s:.6f}"), hit.code) for hit in hits)
