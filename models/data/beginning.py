"""Clips that begin with an attack, as trimmed loops and one-shots do.

A clip as rendered begins anywhere, mostly while something rings: there is nothing to be found at its first sample, and
a model that hears only such clips learns that there never is. Some are therefore cut a moment before an attack.

Letters: B clips, N samples, M hits of the fullest clip.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .packed import SAMPLE_RATE
from .recipe import Draws, Settings, within
from .renderer import Clips

__all__ = ["begun_at_attacks"]

ALONE_S = 0.05  # no hit so long before the attack: the cut takes away the label of what still sounds like one


def begun_at_attacks(clips: Clips, draws: Sequence[Draws], settings: Settings) -> Clips:
    """A `share` of the clips, cut `lead_ms` before one of their attacks within `latest_s`; silence fills their ends."""
    audio, times, classes = clips.audio.clone(), clips.times.clone(), clips.classes.clone()
    for row, d in enumerate(draws):
        rng = d["beginning"]
        if rng.random() >= settings["share"]:
            continue
        attacks = _attacks(times[row], classes[row], clips.ignored[row], settings["latest_s"])
        if not len(attacks):
            continue
        start = max(0, round((float(rng.choice(attacks)) - within(rng, settings["lead_ms"]) / 1000) * SAMPLE_RATE))
        audio[row] = torch.nn.functional.pad(audio[row, start:], (0, start))
        times[row] -= start / SAMPLE_RATE
        classes[row][times[row] < 0] = -1
    return clips._replace(audio=audio, times=times, classes=classes)


def _attacks(times: Tensor, classes: Tensor, ignored: Tensor, latest_s: float) -> np.ndarray:
    """Times of the audible hits up to `latest_s`, of those [M] that no other comes shortly before."""
    order = torch.argsort(times[classes >= 0])
    known, covered = (values[classes >= 0][order].cpu().numpy() for values in (times, ignored))
    first = np.diff(known, prepend=0.0) > ALONE_S
    return known[first & ~covered & (known <= latest_s)]
