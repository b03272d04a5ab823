"""A tiny ONNX model that obeys the streaming contract exactly, for testing the runtime without a trained network.

It delays the audio by the chosen delay and reports the peak of every frame: channel 0 (BD) where it exceeds 0.25, each
other channel where it lies within 0.01 of the channel's level (`click_amplitude`). All its arithmetic is element-wise,
maximum and selection, so that results are bit-identical whatever the size of a call. Letters: docs/architecture.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ghostnote.runtime.manifest import METADATA_KEY, ClassSpec, DecoderSpec, Manifest
from ghostnote.runtime.vocabulary import CLASSES

RATE = 44100
TOKEN = 882
FRAME = 441
DELAYS_MS = (10, 30, 50, 70, 120, 220)
MEMORY_TOKENS = 4  # of the second state, which makes logits depend on the peak four tokens earlier
_HISTORY = max(DELAYS_MS) * RATE // 1000
_C = len(CLASSES)


@dataclass(frozen=True)
class Clicks:
    """Mono audio [N] with one-sample clicks, and what they are: (sample, channel)."""

    pcm: np.ndarray
    attacks: tuple[tuple[int, int], ...]


def click_amplitude(channel: int) -> float:
    """The peak that makes channel 1..17 fire."""
    return 0.30 + 0.035 * channel


def make_manifest() -> Manifest:
    """The manifest of the click model: the clock and delays of the shipped presets, all thresholds 0.5."""
    return Manifest(
        name="click",
        sample_rate=RATE,
        samples_per_token=TOKEN,
        frames_per_token=TOKEN // FRAME,
        classes=tuple(ClassSpec(c.code, c.note) for c in CLASSES),
        delays_ms=DELAYS_MS,
        default_delay=len(DELAYS_MS) - 1,
        decoder=DecoderSpec(1, 3, tuple((c.code,) for c in CLASSES), ((0.5,) * _C,) * len(DELAYS_MS)),
        states={"state_audio": (_HISTORY,), "state_cache": (MEMORY_TOKENS, 1)},
        licence="Apache-2.0",
        notes=("a test model: no drums were learned",),
    )


def build(path: Path, *, metadata: str | None = "", manifest: Manifest | None = None) -> Path:
    """Write the model. `metadata` replaces the manifest's JSON; None leaves it out."""
    model = helper.make_model(_graph(), opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    if metadata is not None:
        helper.set_model_props(model, {METADATA_KEY: metadata or (manifest or make_manifest()).to_json()})
    path.write_bytes(model.SerializeToString())
    return path


def build_with_states(path: Path, states: dict[str, tuple[int, ...]]) -> Path:
    """The click model with a manifest that announces other states than the graph has."""
    return build(path, manifest=replace(make_manifest(), states=states))


_CONSTANTS: dict[str, np.ndarray] = {
    "history": np.array(_HISTORY, np.int64),
    "delay_table": np.array([ms * RATE // 1000 for ms in DELAYS_MS], np.int64),
    "zero": np.array(0, np.int64),
    "one": np.array(1, np.int64),
    "axis0": np.array([0], np.int64),
    "axis1": np.array([1], np.int64),
    "axis2": np.array([2], np.int64),
    "from_start": np.array([0], np.int64),
    "last_history": np.array([-_HISTORY], np.int64),
    "last_memory": np.array([-MEMORY_TOKENS], np.int64),
    "to_end": np.array([np.iinfo(np.int64).max], np.int64),
    "frame_shape": np.array([0, -1, FRAME], np.int64),
    "token_shape": np.array([0, -1, TOKEN], np.int64),
    "column_shape": np.array([0, -1, 1], np.int64),
    "per_frame": np.array(1 / FRAME, np.float32),
    "half": np.array(0.5, np.float32),
    "bd_level": np.array(0.25, np.float32),
    "bd_slope": np.array(40, np.float32),
    "levels": np.array([click_amplitude(c) for c in range(1, _C)], np.float32),
    "level_top": np.array(10, np.float32),
    "level_slope": np.array(1000, np.float32),
    "unit_low": np.array(0, np.float32),
    "unit_high": np.array(1, np.float32),
    "all_classes": np.zeros(_C, np.float32),
}


def _graph() -> onnx.GraphProto:
    node = helper.make_node
    nodes = [
        # Audio [B, N], delayed per stream by selecting from history and new samples.
        node("Concat", ["state_audio", "audio"], ["heard"], axis=1),
        node("Slice", ["heard", "last_history", "to_end", "axis1"], ["state_audio_out"]),
        node("Shape", ["audio"], ["n_1"], start=1, end=2),
        node("Squeeze", ["n_1", "axis0"], ["n"]),
        node("Range", ["zero", "n", "one"], ["ramp"]),
        node("Gather", ["delay_table", "delay"], ["delay_samples"]),
        node("Sub", ["history", "delay_samples"], ["first"]),
        node("Add", ["first", "ramp"], ["chosen"]),
        node("GatherElements", ["heard", "chosen"], ["delayed"], axis=1),
        node("Abs", ["delayed"], ["loud"]),
        # Per frame: its peak and where that lies.
        node("Reshape", ["loud", "frame_shape"], ["frames"]),
        node("ReduceMax", ["frames", "axis2"], ["peak"], keepdims=1),
        node("ArgMax", ["frames"], ["position"], axis=2, keepdims=1),
        node("Cast", ["position"], ["position_f"], to=TensorProto.FLOAT),
        node("Mul", ["position_f", "per_frame"], ["position_frames"]),
        node("Sub", ["position_frames", "half"], ["offset_1"]),
        node("Add", ["offset_1", "all_classes"], ["offset"]),
        node("Clip", ["peak", "unit_low", "unit_high"], ["velocity_1"]),
        node("Add", ["velocity_1", "all_classes"], ["velocity"]),
        # The peak four tokens earlier, from the second state, repeated for both frames of a token.
        node("Reshape", ["loud", "token_shape"], ["tokens"]),
        node("ReduceMax", ["tokens", "axis2"], ["token_peak"], keepdims=1),
        node("Concat", ["state_cache", "token_peak"], ["memory"], axis=1),
        node("Slice", ["memory", "last_memory", "to_end", "axis1"], ["state_cache_out"]),
        node("Slice", ["memory", "from_start", "last_memory", "axis1"], ["echo_token"]),
        node("Concat", ["echo_token", "echo_token"], ["echo_pair"], axis=2),
        node("Reshape", ["echo_pair", "column_shape"], ["echo"]),
        # Logits.
        node("Sub", ["peak", "bd_level"], ["bd_above"]),
        node("Mul", ["bd_above", "bd_slope"], ["bd_logit"]),
        node("Sub", ["peak", "levels"], ["miss"]),
        node("Abs", ["miss"], ["miss_abs"]),
        node("Mul", ["miss_abs", "level_slope"], ["penalty"]),
        node("Sub", ["level_top", "penalty"], ["level_logits"]),
        node("Concat", ["bd_logit", "level_logits"], ["raw_logits"], axis=2),
        node("Sub", ["raw_logits", "echo"], ["onset_logits"]),
    ]
    info = helper.make_tensor_value_info
    states = {"state_audio": ["B", _HISTORY], "state_cache": ["B", MEMORY_TOKENS, 1]}
    inputs = [info("audio", TensorProto.FLOAT, ["B", "N"]), info("delay", TensorProto.INT64, ["B", 1])]
    outputs = [info(name, TensorProto.FLOAT, ["B", "F", _C]) for name in ("onset_logits", "velocity", "offset")]
    for name, shape in states.items():
        inputs.append(info(name, TensorProto.FLOAT, shape))
        outputs.append(info(f"{name}_out", TensorProto.FLOAT, shape))
    constants = [numpy_helper.from_array(value, name) for name, value in _CONSTANTS.items()]
    return helper.make_graph(nodes, "click", inputs, outputs, initializer=constants)
