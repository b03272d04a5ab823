"""A tiny model with random weights that behaves like a trained one: it answers what it hears and reports hits.

Everything about the contract (names, shapes, delays, laws) is that of the shipped presets; only width and depth differ.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ghostnote.export.signals import drum_like
from ghostnote.models.checkpoint import Checkpoint, save
from ghostnote.models.config import PRESETS
from ghostnote.models.transformer import DrumTransformer
from ghostnote.runtime.vocabulary import PARENTS

SEED = 20261122
THRESHOLD = 0.4


def tiny_checkpoint(seed: int = SEED) -> Checkpoint:
    """Random weights, scaled so that logits spread over some units on both sides of the threshold."""
    config = PRESETS["tiny"]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = DrumTransformer(config)
        with torch.no_grad():
            for parameter in (model.delay_embedding.weight, model.bias):  # delays that make a difference
                parameter.add_(0.3 * torch.randn_like(parameter))
            model.head.weight.mul_(3)
            model.head.bias.view(config.frames_per_token, 3, -1)[:, 0] = -2.0
    return Checkpoint(
        config,
        model.state_dict(),
        provenance={"data": "none: random weights for tests", "seed": seed, "licence": "Apache-2.0"},
        thresholds=[[THRESHOLD] * len(PARENTS) for _ in config.delays_ms],
    )


def write_tiny_checkpoint(path: Path, seed: int = SEED) -> Path:
    """Save `tiny_checkpoint` as a .pt file."""
    save(path, tiny_checkpoint(seed))
    return path


def tokens_of_audio(tokens: int, streams: int = 1, seed: int = 0) -> np.ndarray:
    """Drum-like audio [streams, tokens * samples_per_token] float32, each stream another."""
    n = tokens * PRESETS["tiny"].samples_per_token
    rows = [drum_like(seed + row, n / 44100, hits_per_second=12)[:n] for row in range(streams)]
    return np.stack(rows).astype(np.float32)
