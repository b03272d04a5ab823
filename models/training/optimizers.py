"""Which optimiser moves which parameter: Muon the matrices of the network, AdamW everything else.

Muon (Jordan 2024; Liu et al. 2025, arXiv 2502.16982) makes the update of a matrix orthogonal, so that no direction is
learnt at the cost of the others. Its steps are scaled to the size of AdamW's, so one learning rate serves both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

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
    muon = Float32Muon(
        matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, adamw]


class Float32Muon(torch.optim.Muon):
    """torch's Muon; on a CPU matrices are made orthogonal in float32.

    torch does that in bfloat16, for which many processors have no instructions: on one of them a step of `base` took
    6.5 s instead of 1.3. Its state is torch's, so that runs go on on another kind of device.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; see `torch.optim.Muon`."""
        if any(parameter.is_cuda for group in self.param_groups for parameter in group["params"]):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        """One matrix [M, N] by Nesterov's momentum, made orthogonal (`match_rms_adamw`: Liu et al. 2025, eq. 4)."""
        state, grad = self.state[parameter], parameter.grad
        assert grad is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        momentum = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
        update = orthogonal(grad.lerp(momentum, group["momentum"]), group["ns_coefficients"], group["ns_steps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(parameter.shape)))


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """A matrix [M, N] with its singular values moved to about 1: Newton and Schulz's iteration (Jordan 2024).

    Each step is the odd polynomial a x + b x^3 + c x^5 of the singular values.
    """
    a, b, c = coefficients
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


def _is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and not any(part in name for part in BESIDE)
