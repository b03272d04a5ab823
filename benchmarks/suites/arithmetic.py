"""Arithmetic of a model file, counted from its graph."""

from __future__ import annotations

from pathlib import Path

from ...runtime.engines.opening import model_file

__all__ = ["gflop_per_second"]


def gflop_per_second(path: Path | None) -> float | None:
    """GFLOP per second of audio of an ONNX file or a bundled model.

    None for plans, without the `onnx` package, and for graphs that do not say all shapes (as others' optimisers leave).
    """
    file = model_file(path)
    if not file.name.endswith(".onnx"):
        return None
    try:
        import onnx

        from ...export.graph_facts import gflop_per_second as counted
        from ...export.onnx_export import manifest_of
    except ImportError:
        return None
    proto = onnx.load_model_from_string(file.read_bytes())
    try:
        return counted(proto, manifest_of(proto))
    except ValueError:
        return None
