"""A clip heard once more: slower, filtered and cut elsewhere, so that it is not the same again."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from . import effects
from .packed import SAMPLE_RATE
from .recipe import Settings

__all__ = ["heard_again"]


def heard_again(clip: Tensor, rng: np.random.Generator, settings: Settings) -> tuple[Tensor, float, float]:
    """[N] played slower, filtered, and cut -> [N], how much slower, and the seconds cut off at the start.

    One Fourier transform does both: a spectrum with zeros above it is the same sound at a higher rate.
    """
    samples = len(clip)
    sizes = _sizes(samples, int(samples * settings["slowest"]))
    size = sizes[int(rng.integers(len(sizes)))]
    spectrum = torch.fft.rfft(clip)
    curve = effects.equaliser_curve(rng, settings["spread_db"], settings["tilt_db"])
    spectrum = spectrum * effects.resized(curve, len(spectrum), clip.device) * float(rng.choice([-1, 1]))
    start = int(rng.integers(size - samples + 1))
    return torch.fft.irfft(spectrum, n=size)[start : start + samples], size / samples, start / SAMPLE_RATE


@functools.cache
def _sizes(lowest: int, highest: int) -> list[int]:
    """Lengths that Fourier transforms are fast at."""
    return [size for size in range(lowest + lowest % 2, highest + 1, 2) if _is_smooth(size)] or [lowest]


def _is_smooth(size: int) -> bool:
    for factor in (2, 3, 5, 7):
        while size % factor == 0:
            size //= factor
    return size == 1
