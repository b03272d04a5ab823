"""Targets on the frame grid and the training loss.

Letters: B clips, M hits of the fullest clip, F frames, C classes.

An attack at time a (seconds) heard with delay d belongs to frame k = floor((a + d) / frame). Rendered labels are
exact: the frame before k is forgiven in part (its offset can still say the right time), the frame after k hardly,
because tolerance to the late side is hidden delay. A margin moves the boundaries: an attack that little after a
frame's start belongs to the frame before, so that none is found late by being mistaken for one just after a boundary.
Offset and velocity are supervised at the frame that the decoder would pick: the stronger of k - 1 and k. Labels of
recordings are not exact and teach no offset (data/recorded.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ...runtime.vocabulary import PARENTS, index_of
from ..config import FrameGrid
from ..transformer import Outputs

__all__ = [
    "CLASS_WEIGHTS",
    "PLAIN",
    "WEIGHTED",
    "Losses",
    "OnsetWeights",
    "Targets",
    "alignment_loss",
    "make_targets",
    "transcription_losses",
]

# Positives' weights: inverse entropy of the classes in human grooves (Vogl et al. 2018), spread over the 18 classes.
CLASS_WEIGHTS = {
    "BD": 1.0, "SD": 1.4, "SS": 2.5, "CLP": 2.5, "CHH": 1.1, "PHH": 1.5, "OHH": 1.6, "TB": 2.0, "LT": 3.0, "MT": 3.0,
    "HT": 3.0, "CRC": 2.0, "SPC": 2.5, "CHC": 2.5, "RD": 1.6, "RB": 2.5, "CB": 2.5, "CL": 2.5,
}  # fmt: skip
EARLY_WEIGHT = 0.25  # of a negative one frame before an attack
LATE_WEIGHT = 0.7  # of a negative one frame after it


@dataclass(frozen=True)
class OnsetWeights:
    """What a frame weighs in the onset loss."""

    early: float = EARLY_WEIGHT
    late: float = LATE_WEIGHT
    by_class: bool = True  # positives by CLASS_WEIGHTS; False: all alike


WEIGHTED, PLAIN = OnsetWeights(), OnsetWeights(1.0, 1.0, by_class=False)  # PLAIN: as an ablation


class Targets(NamedTuple):
    """What the model should have said."""

    onset: Tensor  # [B, F, C], 1 at an attack's frame
    weight: Tensor  # [B, F, C], weight of the frame in the onset loss
    hit: tuple[Tensor, Tensor, Tensor]  # clip, frame, class of every hit [H]
    velocity: Tensor  # [H], NaN where the recording's labels have none
    fraction: Tensor  # [H], attack minus centre of its frame, in frames, -0.5..0.5 (+ margin); NaN: labels not exact


class Losses(NamedTuple):
    """Parts of the loss, per second of audio."""

    onset: Tensor
    parent: Tensor
    velocity: Tensor
    offset: Tensor


def make_targets(
    batch: Mapping[str, Tensor],
    config: FrameGrid,
    frames: int,
    weights: OnsetWeights = WEIGHTED,
    margin_ms: float = 0.0,
) -> Targets:
    """The hits of a batch of `RenderedBatches` -> targets on `frames` frames, whose boundaries lie `margin_ms` late.

    `ignored` hits cost nothing, found or not; nor does any frame of a class that a clip does not label.
    """
    times, classes, delay = batch["times"], batch["classes"], batch["delay"]
    delays = torch.tensor([config.delay_frames(i) for i in range(len(config.delays_ms))], device=times.device)
    delay_frames = delays[delay[:, 0]]
    position = times.double() * (1000 / config.frame_ms) + delay_frames[:, None]
    frame = (position - margin_ms / config.frame_ms).floor().long()
    inside = (classes >= 0) & (frame >= 0) & (frame < frames)
    learnt = inside & ~batch["ignored"]
    clip, hit = torch.nonzero(learnt, as_tuple=True)
    k, c = frame[clip, hit], classes[clip, hit]
    onset = torch.zeros(len(times), frames, len(config.classes), device=times.device)
    onset[clip, k, c] = 1.0
    weight = torch.ones_like(onset)
    weight[:, :-1] = torch.where(onset[:, 1:] > 0, weights.early, weight[:, :-1])
    weight[:, 1:] = torch.where(onset[:, :-1] > 0, weights.late, weight[:, 1:])
    covered = torch.nonzero(inside & ~learnt, as_tuple=True)
    for near in (-1, 0, 1):
        weight[covered[0], (frame[covered] + near).clamp(0, frames - 1), classes[covered]] = 0.0
    by_class = [CLASS_WEIGHTS[code] if weights.by_class else 1.0 for code in config.classes]
    # Also where an ignored hit lies beside it.
    weight = torch.where(onset > 0, torch.tensor(by_class, device=times.device), weight)
    # Frames that speak of the time before the stream began are ignored by the decoder: they cost nothing. An attack at
    # its very start lies in the last of them where boundaries are late: that one counts.
    first = delay_frames - math.ceil(margin_ms / config.frame_ms)
    heard = torch.arange(frames, device=times.device)[None, :] >= first[:, None]
    fraction = (position[clip, hit] - k - 0.5).float().where(batch["exact"][clip], torch.nan)
    weight = weight * heard[:, :, None] * batch["labelled"][:, None, :]
    return Targets(onset, weight, (clip, k, c), batch["velocities"][clip, hit], fraction)


def transcription_losses(output: Outputs, targets: Targets, config: FrameGrid) -> Losses:
    """Sums over hits and frames divided by seconds of audio, so that equal shares of a batch average to the whole."""
    logits = output.onset_logits
    seconds = logits.shape[0] * logits.shape[1] * config.frame_ms / 1000
    onset = functional.binary_cross_entropy_with_logits(logits, targets.onset, targets.weight, reduction="sum")
    clip, k, c = targets.hit
    before = (k - 1).clamp(min=0)
    early = (logits[clip, before, c] > logits[clip, k, c]).detach() & (k > 0)
    picked = torch.where(early, before, k)
    known, exact = ~targets.velocity.isnan(), ~targets.fraction.isnan()
    heard = output.velocity[clip, picked, c][known]
    # Squared, not absolute: the mean of what a stroke may have been correlates best with what it was.
    velocity = (heard - targets.velocity[known]).square().sum()
    wanted = (targets.fraction + early.float())[exact]
    offset = functional.smooth_l1_loss(output.offset[clip, picked, c][exact], wanted, reduction="sum", beta=0.1)
    parts = (onset, _parent_loss(logits, targets), velocity, offset)
    return Losses(*(part / seconds for part in parts))


def _parent_loss(logits: Tensor, targets: Targets) -> Tensor:
    """BCE of "any of the parent's classes", its probability being 1 - prod(1 - p): sum over frames and parents."""
    total = logits.new_zeros(())
    for parent in PARENTS:
        if len(parent) == 1:
            continue
        members = [index_of(code) for code in parent]
        none = -functional.softplus(logits[:, :, members]).sum(2)  # log of "none of them"
        some = torch.log1p(-torch.exp(none.clamp(max=-1e-6)))
        positive = targets.onset[:, :, members].amax(2)
        # A positive counts with its class weight, a negative with the smallest weight of the members' frames.
        weight = torch.where(
            positive > 0, (targets.onset * targets.weight)[:, :, members].amax(2), targets.weight[:, :, members].amin(2)
        )
        total = total - (weight * (positive * some + (1 - positive) * none)).sum()
    return total


def alignment_loss(latents: Tensor, temperature: float = 0.1) -> Tensor:
    """Contrast between views (InfoNCE, van den Oord 2018): a latent should find its own token in another view.

    latents [B, N, 3, E]: N tokens per clip; the other tokens of the same clip are the negatives, so the loss of a
    clip does not depend on its batch.
    """
    unit = functional.normalize(latents, dim=3)
    own = torch.arange(latents.shape[1], device=latents.device).expand(latents.shape[0], -1)
    pairs = [(0, 1), (1, 2), (2, 0)]
    similar = [unit[:, :, a] @ unit[:, :, b].transpose(1, 2) / temperature for a, b in pairs]
    return torch.stack([functional.cross_entropy(s, own) for s in similar]).mean()
