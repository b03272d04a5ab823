"""Rendered batches by number: batch i of a seed is the same on every machine, whatever was rendered before.

A clip's seed is (seed, split, its number), and a batch of W processes is the union of the W shares, so training
resumes exactly and several processes see what one would.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ...runtime.errors import UsageError
from ..config import ModelConfig
from .grooves import GrooveSet
from .kits import SAMPLE_RATE, KitShelf
from .mixture import sample_performance
from .renderer import PREROLL_S, Renderer

__all__ = ["Batch", "RenderedBatches", "Sources"]

Batch = dict[str, torch.Tensor]
# The delay most users run with (total 100 ms) gets the largest share of the clips.
FAVOURED_DELAY_MS, FAVOURED_SHARE = 70, 0.5
VIEW_DROPOUT = 0.15


@dataclass(frozen=True)
class Sources:
    """Where performances and sounds come from; None = generated only (stress patterns, synthesised kits)."""

    kits: Path | None = None
    grooves: Path | None = None
    cache: Path | None = None


class RenderedBatches(Dataset[Batch]):
    """`self[i]` renders share `rank` of batch i.

    Audio [B, N], times, classes, velocities [B, M], delay [B, 1], dropped_view [B].
    """

    def __init__(
        self,
        config: ModelConfig,
        sources: Sources,
        *,
        clips: int,
        tokens: int,
        split: str = "train",
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        device: str = "cpu",
    ):
        if clips % world:
            raise UsageError(f"a batch of {clips} clips cannot be shared by {world} processes; give a multiple of it")
        self.config, self.tokens, self.device = config, tokens, device
        self.clips, self.rank, self.world = clips, rank, world
        self.seed = (seed, {"train": 0, "validation": 1}[split])
        self.grooves = GrooveSet(sources.grooves, split, sources.cache) if sources.grooves else None
        self.renderer = Renderer(KitShelf(sources.kits, split, sources.cache), device)

    def __getitem__(self, index: int) -> Batch:
        share = self.clips // self.world
        first = index * self.clips + self.rank * share
        rngs = [np.random.default_rng([*self.seed, first + i]) for i in range(share)]
        samples = self.tokens * self.config.samples_per_token
        length_s = samples / SAMPLE_RATE + PREROLL_S
        performances = [sample_performance(rng, length_s, self.grooves) for rng in rngs]
        # Drawn last from the clip's generator: a clip's sound does not depend on the list of delays.
        clips = self.renderer.render(performances, rngs, samples)
        return {
            **clips._asdict(),
            "delay": torch.tensor([[self._draw_delay(rng)] for rng in rngs], device=self.device),
            "dropped_view": torch.tensor([_draw_view(rng) for rng in rngs], device=self.device),
        }

    def _draw_delay(self, rng: np.random.Generator) -> int:
        delays = self.config.delays_ms
        if FAVOURED_DELAY_MS in delays and rng.random() < FAVOURED_SHARE:
            return delays.index(FAVOURED_DELAY_MS)
        return int(rng.integers(len(delays)))


def _draw_view(rng: np.random.Generator) -> int:
    """Index of the view to silence in this clip, mostly none (-1)."""
    return int(rng.integers(3)) if rng.random() < VIEW_DROPOUT else -1
