"""How large activations become: measured on streamed audio, states and all, as a quantised stream will see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..runtime.manifest import Manifest
from .precision import copied, weight_products
from .signals import drum_like

__all__ = ["activation_peaks"]

SEEDS = range(100, 106)  # none that parity tries
SECONDS = 20.0
CALL_TOKENS = 25


def activation_peaks(proto: onnx.ModelProto, manifest: Manifest) -> dict[str, float]:
    """Largest magnitude of what goes into every product of `weight_products`, by tensor name.

    Streams drum-like sounds over noise and silence, at levels from -40 dB to full scale, at every delay.
    """
    names = list(dict.fromkeys(node.input[0] for node in weight_products(proto)))
    probed = copied(proto)
    probed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    peaks = np.zeros(len(names))
    for seed in SEEDS:
        for values in _streamed(probed, manifest, _audio(seed, manifest), seed % len(manifest.delays_ms), names):
            peaks = np.maximum(peaks, [float(np.abs(value).max()) for value in values])
    return dict(zip(names, peaks.tolist(), strict=True))


def _audio(seed: int, manifest: Manifest) -> np.ndarray:
    """Mono float32 [N], whole calls long."""
    audio = drum_like(seed, SECONDS, manifest.sample_rate)
    rng = np.random.default_rng(seed)
    tenth = len(audio) // 10
    audio[3 * tenth : 4 * tenth] += rng.uniform(0, 0.5) * rng.standard_normal(tenth).astype(np.float32)
    audio[6 * tenth : 7 * tenth] = 0
    audio *= np.float32(10 ** (rng.uniform(-40, 0) / 20))
    call = CALL_TOKENS * manifest.samples_per_token
    return np.clip(audio[: len(audio) // call * call], -1, 1)


def _streamed(
    proto: onnx.ModelProto, manifest: Manifest, audio: np.ndarray, delay: int, names: Sequence[str]
) -> Iterator[list[np.ndarray]]:
    """Values of the tensors `names` in every call."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    states = {name: np.zeros((1, *shape), np.float32) for name, shape in manifest.states.items()}
    wanted = [*(f"{name}_out" for name in states), *names]
    call = CALL_TOKENS * manifest.samples_per_token
    for start in range(0, len(audio), call):
        feeds = {"audio": audio[None, start : start + call], "delay": np.array([[delay]]), **states}
        values = session.run(wanted, feeds)
        states = dict(zip(states, values[: len(states)], strict=True))
        yield values[len(states) :]
