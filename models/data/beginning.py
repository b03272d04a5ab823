"""Clips that begin with an attack, as trimmed loops and one-shots do.

A clip as rendered begins anywhere, mostly while something rings: there is nothing to be found at its first sample, and
a model that hears only such clips learns that there never is. Some are therefore cut a moment before an attack.

Letters: B clips, N samples, M hits of the fullest clip.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .packed import SAMPLE_RATE
from .recipe import Draws, Settings, within
from .renderer import Clips

__all__ = ["beginning", "begun_at_attacks"]

ALONE_S = 0.05  # no hit so long before the attack: the cut takes away the label of what still sounds like one


def begun_at_attacks(clips: Clips, draws: Sequence[Draws], settings: Settings) -> Clips:
    """A `share` of the clips, cut `lead_ms` before one of their attacks within `latest_s`; silence fills their ends."""
    audio, times, classes = clips.audio.clone(), clips.times.clone(), clips.classes.clone()
    for row, d in enumerate(draws):
        struck = classes[row] >= 0
        known, covered = (values[row][struck].cpu().numpy() for values in (times, clips.ignored))
        start = beginning(known, covered, d["beginning"], settings)
        if not start:
            continue
        audio[row] = torch.nn.functional.pad(audio[row, start:], (0, start))
        times[row] -= start / SAMPLE_RATE
        classes[row][times[row] < 0] = -1
    return clips._replace(audio=audio, times=times, classes=classes)


def beginning(times: np.ndarray, ignored: np.ndarray, rng: np.random.Generator, settings: Settings) -> int:
    """The sample at which a clip with hits at `times` [H] (seconds, in any order) shall begin; 0: as it does."""
    if rng.random() >= settings["share"]:
        return 0
    attacks = _attacks(times, ignored, settings["latest_s"])
    if not len(attacks):
        return 0
    return max(0, round((float(rng.choice(attacks)) - within(rng, settings["lead_ms"]) / 1000) * SAMPLE_RATE))


def _attacks(times: np.ndarray, ignored: np.ndarray, latest_s: float) -> np.ndarray:
    """Those of the hits [H] up to `latest_s` that are to be found and that no other comes shortly before."""
    order = np.argsort(times, kind="stable")
    known, covered = times[order], ignored[order]
    first = np.diff(known, prepend=0.0) > ALONE_S
    return known[first & ~covered & (known <= latest_s)]
