"""The runtime: audio in, drum hits out, through an exported model. Never imports torch or onnx.

    from ghostnote.runtime import StreamingTranscriber, open_engine

    transcriber = StreamingTranscriber(open_engine())
    for block in blocks:  # mono float32 at the manifest's rate, any size
        for hit in transcriber.feed(block):
            print(hit.time_s, hit.code, hit.velocity)
    hits = transcriber.flush()

Names are imported on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .asynchronous import AsyncStream
    from .audio import AudioReader
    from .decoder import StreamingDecoder, decode
    from .engines.onnxruntime_engine import OnnxRuntimeEngine
    from .engines.opening import bundled_models, open_engine, open_engines
    from .engines.protocol import Engine, StepOutput
    from .errors import EngineError, GhostnoteError, InputError, ManifestError, OutputError, UsageError
    from .events import Hit
    from .job import transcribe_file
    from .manifest import Manifest
    from .pool import PoolFullError, PoolStats, StreamPool
    from .pooled_stream import BacklogError, PooledStream
    from .stream import StreamingTranscriber
    from .writers import write_hits

_HOME = {
    "AsyncStream": "asynchronous",
    "AudioReader": "audio",
    "BacklogError": "pooled_stream",
    "Engine": "engines.protocol",
    "EngineError": "errors",
    "GhostnoteError": "errors",
    "Hit": "events",
    "InputError": "errors",
    "Manifest": "manifest",
    "ManifestError": "errors",
    "OnnxRuntimeEngine": "engines.onnxruntime_engine",
    "OutputError": "errors",
    "PoolFullError": "pool",
    "PoolStats": "pool",
    "PooledStream": "pooled_stream",
    "StepOutput": "engines.protocol",
    "StreamPool": "pool",
    "StreamingDecoder": "decoder",
    "StreamingTranscriber": "stream",
    "UsageError": "errors",
    "bundled_models": "engines.opening",
    "decode": "decoder",
    "open_engine": "engines.opening",
    "open_engines": "engines.opening",
    "transcribe_file": "job",
    "write_hits": "writers",
}

__all__ = [
    "AsyncStream",
    "AudioReader",
    "BacklogError",
    "Engine",
    "EngineError",
    "GhostnoteError",
    "Hit",
    "InputError",
    "Manifest",
    "ManifestError",
    "OnnxRuntimeEngine",
    "OutputError",
    "PoolFullError",
    "PoolStats",
    "PooledStream",
    "StepOutput",
    "StreamPool",
    "StreamingDecoder",
    "StreamingTranscriber",
    "UsageError",
    "bundled_models",
    "decode",
    "open_engine",
    "open_engines",
    "transcribe_file",
    "write_hits",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
