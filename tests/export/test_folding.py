"""The folded model is the trained one, in fewer and cheaper operations."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny import tokens_of_audio

from ghostnote.export.folding import folded
from ghostnote.export.onnx_export import graph_of
from ghostnote.models.config import PRESETS, ModelConfig
from ghostnote.models.frontend import ToneView
from ghostnote.models.transformer import DrumTransformer

TINY = PRESETS["tiny"]
# What the graph of `tiny` may hold: its two blocks, and what comes before and after them. A node costs every live token
# about a microsecond, so a change that adds some should be worth it.
NODES = 355
PER_BLOCK = {"Slice": 5, "Transpose": 5, "Concat": 4, "Split": 1, "MatMul": 6, "Softmax": 1, "Pad": 2, "Conv": 1}
RUN_PER_BLOCK = 62  # after onnxruntime's own optimisation


def random_model(config: ModelConfig, seed: int = 0) -> DrumTransformer:
    """Weights away from where training starts: normalisations that scale and shift, biases that differ."""
    torch.manual_seed(seed)
    model = DrumTransformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1 or parameter is model.bias:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"width": 48, "heads": 3, "view_width": 32, "layers": 1},
        {"fusion": "concatenation"},
        {"subframe": False},
        {"views": ("attack", "wave")},
        {"window_tokens": 5, "conv_tokens": 3},
        {"power_floor": 1e-7},
    ],
    ids=str,
)
def test_folding_changes_no_number(change: dict) -> None:
    """Two streams, in calls shorter and longer than the window, from zero state on."""
    config = replace(TINY, **change)
    model = random_model(config)
    cheap = folded(model)
    audio = torch.from_numpy(tokens_of_audio(40, streams=2))
    delay = torch.tensor([[0], [4]])
    states = [model.zero_state(2)] * 2
    with torch.inference_mode():
        for piece in audio.split([n * config.samples_per_token for n in (1, 2, 7, 30)], dim=1):
            expected, found = (
                module(piece, delay, *state) for module, state in zip((model, cheap), states, strict=True)
            )
            for one, other in zip(expected, found, strict=True):
                torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
            states = [expected.states, found.states]


def test_the_low_pass_adds_up_what_is_loud_without_rounding() -> None:
    """Against double precision: as if the result alone were rounded, once."""
    view = ToneView(TINY)
    low_pass = folded(random_model(TINY)).encoders["tone"].view.decimate
    audio = torch.from_numpy(np.random.default_rng(0).uniform(-0.8, 0.8, (1, 1, 1, 40 * 882)).astype(np.float32))
    stride = view.decimate.shape[1] * TINY.tone_decimation
    with torch.inference_mode():
        found = low_pass(audio, stride)
        exact = low_pass.double()(audio.double(), stride)
    assert (found - exact).abs().max() <= 0.6 * torch.finfo(torch.float32).eps * exact.abs().max()


def test_folding_leaves_the_model_alone() -> None:
    model = random_model(TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_part_that_folding_does_not_know_is_refused() -> None:
    model = random_model(TINY)
    model.blocks[0].feed[0] = torch.nn.Identity()
    with pytest.raises(TypeError, match="Identity where Linear was to be folded"):
        folded(model)


def test_what_lies_after_a_query_counts_nothing_at_all() -> None:
    """Not even as a rounded zero: the numbers are the same bits whatever follows."""
    cheap = folded(random_model(TINY))
    audio = torch.from_numpy(tokens_of_audio(30))
    other = audio.clone()
    other[:, 10 * TINY.samples_per_token :] = 30.0
    delay, state = torch.tensor([[3]]), DrumTransformer(TINY).zero_state(1)
    with torch.inference_mode():
        one, two = (cheap(x, delay, *state).onset_logits[:, :20] for x in (audio, other))
    assert torch.equal(one, two)


@pytest.fixture(scope="module")
def graphs(tiny_onnx: Path) -> list[onnx.ModelProto]:
    """Of one and of two blocks. An export more: for slow tests."""
    return [graph_of(random_model(replace(TINY, layers=1))), onnx.load(tiny_onnx)]


def kinds_of(proto: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in proto.graph.node)


def test_nodes_do_not_creep_in(tiny_onnx: Path) -> None:
    kinds = kinds_of(onnx.load(tiny_onnx))
    assert kinds.total() <= NODES
    # Slow in onnxruntime, or not fused by it; the graph does without.
    assert {"LayerNormalization", "Pow", "Expand", "GatherND", "Gemm"}.isdisjoint(kinds)


@pytest.mark.slow
def test_nodes_do_not_creep_into_a_block(graphs: list[onnx.ModelProto]) -> None:
    more = kinds_of(graphs[1]) - kinds_of(graphs[0])
    over = {kind: more[kind] for kind, limit in PER_BLOCK.items() if more[kind] > limit}
    assert not over, f"nodes per block over {PER_BLOCK}: {over}"


@pytest.mark.slow
def test_onnxruntime_fuses_what_was_meant_to_be_fused(graphs: list[onnx.ModelProto], tmp_path: Path) -> None:
    ran = [optimised(proto, tmp_path / "ran.onnx") for proto in graphs]
    more = ran[1] - ran[0]
    assert more.total() <= RUN_PER_BLOCK
    assert more["Gemm"] == 4  # with their biases: no MatMul with weights is left
    assert more["MatMul"] + more["FusedMatMul"] == 2


def optimised(proto: onnx.ModelProto, path: Path) -> Counter[str]:
    """Nodes by operator as onnxruntime runs the graph."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_nodes_are_named_after_their_modules(tiny_onnx: Path) -> None:
    names = [node.name for node in onnx.load(tiny_onnx).graph.node]
    assert len(set(names)) == len(names)
    modules = {name.rpartition("/")[0] for name in names}
    assert {"view_norm", "blocks.0.feed_norm", "blocks.0.qkv", "encoders.tone.view", "head"} <= modules
    assert np.mean([name.startswith(("blocks.", "encoders.", "fusion")) for name in names]) > 0.7
