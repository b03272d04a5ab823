"""Which optimiser moves which parameter: Muon the matrices of the network, AdamW everything else.

Muon (Jordan 2024; Liu et al. 2025, arXiv 2502.16982) makes the update of a matrix orthogonal, so that no direction is
learnt at the cost of the others. Its steps are scaled to the size of AdamW's, so one learning rate serves both.
"""

from __future__ import annotations

import torch
from torch import nn

from .steps import Recipe

__all__ = ["optimizers"]

# Matrices in shape only, or at the ends of the network: tables of biases, embeddings, taps, the learned filters of the
# waveform, output layers. And the stacked gates of an LSTM, which are four matrices.
BESIDE = ("bias", "embedding", "filters", "conv", "head", "lstm")


def optimizers(module: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """The optimisers of a training step's parameters; every parameter is moved by one of them."""
    named = list(module.named_parameters())
    matrices = [p for name, p in named if _is_hidden_matrix(name, p)]
    chosen = {id(p) for p in matrices}
    others = [p for _, p in named if id(p) not in chosen]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    if not matrices:
        return [adamw]
    muon = torch.optim.Muon(
        matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, adamw]


def _is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and not any(part in name for part in BESIDE)
