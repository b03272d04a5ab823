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
    from .decoder import StreamingDecoder, decode
    from .engines.onnxruntime_engine import OnnxRuntimeEngine
    from .engines.opening import bundled_models, open_engine, open_engines
    from .engines.protocol import Engine, StepOutput
    from .errors import EngineError, GhostnoteError, InputError, ManifestError, OutputError, UsageError
    from .events import Hit
    from .input.audio import AudioReader
    from .job import transcribe_file
    from .manifest import Manifest
    from .output.quantise import parse_grid
    from .output.tempo_files import read_tempo
    from .output.writers import FormatOptions, write_hits
    from .streams.asynchronous import AsyncStream
    from .streams.pool import PoolFullError, PoolStats, StreamPool
    from .streams.pooled_stream import BacklogError, PooledStream
    from .streams.stream import StreamingTranscriber

_HOME = {
    "AsyncStream": "streams.asynchronous",
    "AudioReader": "input.audio",
    "BacklogError": "streams.pooled_stream",
    "Engine": "engines.protocol",
    "EngineError": "errors",
    "FormatOptions": "output.writers",
    "GhostnoteError": "errors",
    "Hit": "events",
    "InputError": "errors",
    "Manifest": "manifest",
    "ManifestError": "errors",
    "OnnxRuntimeEngine": "engines.onnxruntime_engine",
    "OutputError": "errors",
    "PoolFullError": "streams.pool",
    "PoolStats": "streams.pool",
    "PooledStream": "streams.pooled_stream",
    "StepOutput": "engines.protocol",
    "StreamPool": "streams.pool",
    "StreamingDecoder": "decoder",
    "StreamingTranscriber": "streams.stream",
    "UsageError": "errors",
    "bundled_models": "engines.opening",
    "decode": "decoder",
    "open_engine": "engines.opening",
    "open_engines": "engines.opening",
    "parse_grid": "output.quantise",
    "read_tempo": "output.tempo_files",
    "transcribe_file": "job",
    "write_hits": "output.writers",
}

__all__ = [
    "AsyncStream",
    "AudioReader",
    "BacklogError",
    "Engine",
    "EngineError",
    "FormatOptions",
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
    "parse_grid",
    "read_tempo",
    "transcribe_file",
    "write_hits",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
