"""Whole recordings through any kind of model: outputs as arrays."""

from __future__ import annotations

import numpy as np
import torch

from .transformer import Transcriber

__all__ = ["Arrays", "whole_outputs"]

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]  # onset_logits, velocity, offset, each [F, C]
LOOKAHEAD_MS = 100  # more than the decoder waits for


@torch.inference_mode()
def whole_outputs(model: Transcriber, audio: torch.Tensor, delay: int) -> list[Arrays]:
    """Audio [B, N] at the model's rate -> arrays per clip, run on over silence until the last hit is out."""
    config = model.config
    after = max(config.delays_ms) + LOOKAHEAD_MS
    samples = round(after / 1000 * config.tokens_per_second) * config.samples_per_token
    silence = audio.new_zeros(len(audio), samples - audio.shape[1] % config.samples_per_token)
    outputs = model.whole(torch.cat([audio, silence], dim=1), delay)
    return list(zip(*(value.float().cpu().numpy() for value in outputs), strict=True))
