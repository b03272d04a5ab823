"""Drums brought forward in a mix by median filtering (FitzGerald 2010): what sustains is made softer.

In a spectrogram music lies along time and strokes along frequency. H is the median over time, P that over frequency,
and every bin is multiplied by FLOOR + (1 - FLOOR) P^2 / (P^2 + H^2). Letters: N samples, K bins, T windows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["BEFORE", "ROUND", "Medians", "percussive"]

FLOOR = 0.3  # all of what sustains taken away leaves holes that no model was trained on
ACROSS_BINS = 31
_ROWS = 32  # filtered at a time: a window of every value of a long recording would fill the memory
_SILENCE = 1e-9


class Medians(NamedTuple):
    """Window of the transform in samples, a quarter of it apart; windows that the median over time spans, and which."""

    window: int
    span: int
    past_only: bool  # those before and at a bin, so that no stroke is softened by what follows it


ROUND = Medians(2048, 17, past_only=False)
BEFORE = Medians(1024, 61, past_only=True)


def percussive(audio: Tensor, medians: Medians) -> Tensor:
    """[N] -> [N], at 44.1 kHz. Shorter audio than a window comes back as it is."""
    if len(audio) < medians.window:
        return audio
    window = torch.hann_window(medians.window)
    hop = medians.window // 4
    spectrum = torch.stft(audio, medians.window, hop, window=window, return_complex=True)
    level = spectrum.abs()
    before = medians.span - 1 if medians.past_only else medians.span // 2
    music = _median(level, medians.span, before) ** 2
    strokes = _median(level.T, ACROSS_BINS, ACROSS_BINS // 2).T ** 2
    gain = FLOOR + (1 - FLOOR) * strokes / (strokes + music + _SILENCE)
    return torch.istft(spectrum * gain, medians.window, hop, window=window, length=len(audio))


def _median(level: Tensor, span: int, before: int) -> Tensor:
    """[R, L] -> [R, L]: of `span` values of a row, `before` of them in front; beyond the ends lies silence."""
    padded = np.pad(level.numpy(), ((0, 0), (before, span - 1 - before)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=1)
    # NumPy's partition is six times as fast as torch's median.
    rows = [np.partition(windows[r : r + _ROWS], span // 2)[..., span // 2] for r in range(0, len(windows), _ROWS)]
    return torch.from_numpy(np.concatenate(rows))
