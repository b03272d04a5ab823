"""GFLOP per second of audio, per part of the model (a multiply-add is 2 FLOP; only matrix products are counted).

Elementwise work is left out: it is bound by memory, not by arithmetic, and the benchmark measures it.
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from .config import ModelConfig
from .transformer import DrumTransformer

__all__ = ["gflop_per_second"]


def gflop_per_second(config: ModelConfig, tokens_per_call: int = 50) -> dict[str, float]:
    """GFLOP for one second of audio by part, `total` last; attention's share depends on the tokens per call."""
    model = DrumTransformer(config).eval()
    audio = torch.zeros(1, tokens_per_call * config.samples_per_token)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(audio, torch.zeros(1, 1, dtype=torch.long), *model.zero_state(1))
    seconds = tokens_per_call / config.tokens_per_second
    counts = counter.get_flop_counts()

    def part(*names: str) -> float:
        return sum(sum(counts.get(f"DrumTransformer.{name}", {}).values()) for name in names) / seconds / 1e9

    parts = {f"view {name}": part(f"views.{name}") for name in config.views}
    parts["view encoders"] = part(*(f"encoders.{name}" for name in config.views))
    parts["fusion"] = part("fusion")
    parts["temporal blocks"] = part(*(f"blocks.{i}" for i in range(config.layers)))
    parts["heads"] = part("head")
    return {**parts, "total": sum(parts.values())}
