"""What tests of export share: the command's exit code, a graph that is damaged, the names of its products' inputs."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from ghostnote.export import command
from ghostnote.export.precision import weight_products
from ghostnote.models import arithmetic
from ghostnote.models.checkpoint import Checkpoint


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `export-model ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["export-model", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        command.main()
    return int(stop.value.code or 0)


def damaged(proto: onnx.ModelProto, amount: float) -> onnx.ModelProto:
    """`proto` with one number of one weight changed: an entry of the matrix before the heads."""
    weights = max((t for t in proto.graph.initializer if "head" in t.name), key=lambda t: len(t.raw_data))
    values = onnx.numpy_helper.to_array(weights).copy()
    values.flat[0] += amount
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    return proto


def exported_gflop(checkpoint: Checkpoint) -> float:
    """Per second of audio: the model's, and what the graph does otherwise.

    The low-pass before the tone view is three products, pooling in the wave view is one; attention among views sums
    over the channels of all heads at once.
    """
    config, model = checkpoint.config, checkpoint.streaming_model()
    decimate = model.views["tone"].decimate
    low_pass = 2 * decimate.numel() * config.sample_rate / config.tone_decimation / decimate.shape[1]
    among_views = 2 * 2 * len(config.views) ** 2 * config.view_width * config.tokens_per_second
    pooling = 2 * config.wave_filters**2 * config.sample_rate / config.wave_stride
    more = 2 * low_pass + pooling + (model.fusion.heads - 1) * among_views
    return arithmetic.gflop_per_second(config)["total"] + more / 1e9


def product_inputs(path: Path) -> list[str]:
    """What the products with weights of a graph read, by name."""
    return [node.input[0] for node in weight_products(onnx.load(path))]
