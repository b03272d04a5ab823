"""Wider models that begin as narrower ones (Net2Net, Chen, Goodfellow and Shlens 2016, arXiv 1511.05641).

What a new head or hidden unit writes starts at nothing; what is written to a new channel at the mean of the old ones,
so that no normalisation's mean moves; what is read starts as in a fresh model. The wider model then computes what the
narrower one did, but for the mean of what the depthwise convolutions write, and has gradients everywhere.

Letters: D width, H heads, d = D / H, L layers; wide ones have a dash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from .config import ModelConfig
from .transformer import DrumTransformer

__all__ = ["can_widen", "widened"]


def can_widen(narrow: ModelConfig, wide: ModelConfig) -> bool:
    """Whether they differ in width and heads only, and the wide one has more heads of the same size.

    How much the `attack` view softens has no weights: it may be another.
    """
    same = replace(narrow, name=wide.name, width=wide.width, heads=wide.heads, softening=wide.softening) == wide
    return same and wide.heads > narrow.heads and wide.width * narrow.heads == narrow.width * wide.heads


def widened(weights: Mapping[str, Tensor], narrow: ModelConfig, wide: ModelConfig) -> dict[str, Tensor]:
    """The weights of a `DrumTransformer` of shape `wide` that does nearly what `weights` of shape `narrow` do.

    Draws the fresh part from torch's generator. Raises ValueError where `can_widen` says no.
    """
    if not can_widen(narrow, wide):
        raise ValueError(f"{wide} is not {narrow} with more heads")
    fresh = DrumTransformer(wide).state_dict()
    return {name: _grown(name, weights[name], fresh[name].clone(), narrow) for name in fresh}


def _grown(name: str, old: Tensor, new: Tensor, narrow: ModelConfig) -> Tensor:
    """One tensor; `new` comes as a fresh model has it."""
    if old.shape == new.shape:
        return old.clone()
    for ending, rule in RULES.items():
        if name.endswith(ending):
            return rule(old, new, narrow)
    raise ValueError(f"no rule to widen {name}, {tuple(old.shape)} to {tuple(new.shape)}")


def _gain(old: Tensor, new: Tensor, _: ModelConfig) -> Tensor:
    """Gain of a normalisation, [D]: the new channels lie at the mean, so the variance is D / D' of what it was."""
    new[: len(old)] = old * math.sqrt(len(old) / len(new))
    return new


def _beside(old: Tensor, new: Tensor, _: ModelConfig) -> Tensor:
    """What the new channels add to is left as fresh: shift of a normalisation, what units read."""
    new[tuple(slice(size) for size in old.shape)] = old
    return new


def _silent(old: Tensor, new: Tensor, narrow: ModelConfig) -> Tensor:
    """Nothing is added: depthwise taps [taps, D], what the heads read [outputs, D]."""
    return _beside(old, new.zero_(), narrow)


def _written(old: Tensor, new: Tensor, narrow: ModelConfig) -> Tensor:
    """What is written to the channels, by rows: [D, inputs] or [D]; the new ones get the mean, new inputs nothing."""
    _silent(old, new, narrow)
    new[len(old) :] = new[: len(old)].mean(0)
    return new


def _embedded(old: Tensor, new: Tensor, narrow: ModelConfig) -> Tensor:
    """What is written to the channels, by columns: [delays, D]."""
    return _written(old.T, new.T, narrow).T


def _queries(old: Tensor, new: Tensor, narrow: ModelConfig) -> Tensor:
    """Queries, keys and values of every head: [3 H d, D] or [3 H d]."""
    size = narrow.width // narrow.heads
    _beside(old.unflatten(0, (3, -1, size)), new.unflatten(0, (3, -1, size)), narrow)
    return new


def _heads(old: Tensor, new: Tensor, _: ModelConfig) -> Tensor:
    """Relative bias, [delays, L, H, W + 1]: as fresh for new heads."""
    new[:, :, : old.shape[2]] = old
    return new


RULES: dict[str, Callable[[Tensor, Tensor, ModelConfig], Tensor]] = {
    "norm.weight": _gain,
    "norm.bias": _beside,
    "fusion.project.weight": _written,
    "fusion.project.bias": _written,
    "delay_embedding.weight": _embedded,
    ".conv": _silent,
    ".qkv.weight": _queries,
    ".qkv.bias": _queries,
    ".out.weight": _written,
    ".out.bias": _written,
    ".feed.0.weight": _beside,
    ".feed.0.bias": _beside,
    ".feed.2.weight": _written,
    ".feed.2.bias": _written,
    "head.weight": _silent,
    "bias": _heads,
}
