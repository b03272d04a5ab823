"""Rendered batches by number: batch i of a seed is the same on every machine, whatever was rendered before.

A clip's seed is (seed, split, its number), and a batch of W processes is the union of the W shares, so training
resumes exactly and several processes see what one would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ...runtime.errors import GhostnoteError, UsageError
from ..config import FrameGrid
from ..corpora.recording import Recording
from .beginning import begun_at_attacks
from .drums.kits import KitShelf
from .music.backing import BackingShelf
from .packed import SAMPLE_RATE
from .performances.grooves import GrooveSet
from .performances.mixture import sample_drummers
from .recipe import Draws, RenderRecipe
from .renderer import PREROLL_S, Clips, Renderer

__all__ = ["Batch", "RenderedBatches", "Sources", "draw_delays", "draw_view", "loaded", "main_delay"]

Batch = dict[str, torch.Tensor]
Item = TypeVar("Item")
# The delays most users run with (total latency 100 and 60 ms) get the largest shares; the rest is shared evenly.
DELAY_SHARES = {70: 0.35, 30: 0.2}
VIEW_DROPOUT = 0.15


@dataclass(frozen=True)
class Sources:
    """Where performances and sounds come from, and what is done to them.

    None = generated only: stress patterns, synthesised kits, synthesised instruments.
    """

    kits: Path | None = None
    grooves: Path | None = None
    backing: Path | None = None
    cache: Path | None = None
    recipe: RenderRecipe = field(default_factory=lambda: RenderRecipe.load("production"))
    # None = the same. Runs whose recipes differ can only be compared on renders of one.
    validation_recipe: RenderRecipe | None = None
    # Recordings to train on beside renders, by kind of corpus, and their share of the batches (recorded.py).
    corpora: Mapping[str, Sequence[Recording]] = field(default_factory=dict)
    corpus_share: float = 0.0
    # Renders of training kept in a folder and heard again, and how many different batches there are (store.py).
    store: Path | None = None
    distinct: int = 0

    @property
    def given(self) -> list[str]:
        """Which of the folders of sounds and performances there are: what renders can be compared by."""
        return [name for name in ("kits", "grooves", "backing") if getattr(self, name)]


class RenderedBatches(Dataset[Batch]):
    """`self[i]` renders share `rank` of batch i.

    Audio [B, N]; times, classes, velocities, ignored [B, M]; labelled [B, C]; exact [B]: times are those of the
    attacks; delay [B, 1]; dropped_view [B].
    """

    def __init__(
        self,
        config: FrameGrid,
        sources: Sources,
        *,
        clips: int,
        tokens: int,
        split: str = "train",
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        device: str = "cpu",
        one_delay: int = 0,
    ):
        """The first `one_delay` batches are to be reported at the main delay, all of them; later ones at any."""
        if clips % world:
            raise UsageError(f"a batch of {clips} clips cannot be shared by {world} processes; give a multiple of it")
        self.config, self.tokens, self.device = config, tokens, device
        self.clips, self.rank, self.world, self.one_delay = clips, rank, world, one_delay
        self.seed = (seed, {"train": 0, "validation": 1}[split])
        self.grooves = GrooveSet(sources.grooves, split, sources.cache) if sources.grooves else None
        self.recipe = (split == "validation" and sources.validation_recipe) or sources.recipe
        shelf = KitShelf(sources.kits, split, sources.cache)
        self.renderer = Renderer(shelf, BackingShelf(sources.backing, sources.cache), self.recipe, device)

    def __getitem__(self, index: int) -> Batch:
        return self.batch(index, self.render(index), self.draws(index))

    def draws(self, index: int, *more: int) -> list[Draws]:
        """The random numbers of this share's clips in batch `index`; `more` numbers give others."""
        share = self.clips // self.world
        first = index * self.clips + self.rank * share
        return [Draws(*self.seed, first + i, *more) for i in range(share)]

    def render(self, index: int) -> Clips:
        """Audio and labels of this share of batch `index`."""
        draws = self.draws(index)
        samples = self.tokens * self.config.samples_per_token
        length_s = samples / SAMPLE_RATE + PREROLL_S
        performances = [sample_drummers(d, length_s, self.grooves, self.recipe) for d in draws]
        return self.renderer.render(performances, draws, samples)

    def batch(self, index: int, clips: Clips, draws: list[Draws]) -> Batch:
        """The clips as batch `index`, with what else a training step needs to know, as drawn."""
        share = len(draws)
        if "beginning" in self.recipe:
            clips = begun_at_attacks(clips, draws, self.recipe["beginning"])
        return {
            **clips._asdict(),
            "labelled": torch.ones(share, len(self.config.classes), dtype=torch.bool, device=self.device),
            "exact": torch.ones(share, dtype=torch.bool, device=self.device),
            "delay": draw_delays(self.config, draws, only_main=index < self.one_delay).to(self.device),
            "dropped_view": torch.tensor([draw_view(d["view"]) for d in draws], device=self.device),
        }


def loaded(dataset: Dataset[Item], numbers: Sequence[int], workers: int, ahead: int | None = None) -> Iterator[Item]:
    """The items with these numbers, made by worker processes (0: by this one), each up to `ahead` items early.

    An expected failure in a worker is raised as itself: a DataLoader would hide its message in that of a traceback.
    """
    told = _FailuresTold(dataset)
    for item in DataLoader(told, batch_size=None, sampler=numbers, num_workers=workers, prefetch_factor=ahead):
        if isinstance(item, GhostnoteError):
            raise item
        yield item


class _FailuresTold(Dataset[Any]):
    """The items of a dataset, or the expected failures in their place."""

    def __init__(self, dataset: Dataset[Any]):
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except GhostnoteError as error:
            return error


def draw_delays(config: FrameGrid, draws: Sequence[Draws], *, only_main: bool = False) -> torch.Tensor:
    """Indices [B, 1] of the delays that the clips are trained with; `only_main`: the one that most users run with."""
    if only_main:
        return torch.full((len(draws), 1), main_delay(config))
    return torch.tensor([[draw_delay(config, d["delay"])] for d in draws])


def main_delay(config: FrameGrid) -> int:
    """Index of the delay with the largest share."""
    return max(range(len(config.delays_ms)), key=lambda i: DELAY_SHARES.get(config.delays_ms[i], 0.0))


def draw_delay(config: FrameGrid, rng: np.random.Generator) -> int:
    """Index of the delay that a clip is trained with."""
    delays = config.delays_ms
    shares = {ms: share for ms, share in DELAY_SHARES.items() if ms in delays}
    rest = (1 - sum(shares.values())) / max(1, len(delays) - len(shares))
    chances = np.array([shares.get(ms, rest) for ms in delays])
    return int(rng.choice(len(delays), p=chances / chances.sum()))


def draw_view(rng: np.random.Generator) -> int:
    """Index of the view to silence in this clip, mostly none (-1)."""
    return int(rng.integers(3)) if rng.random() < VIEW_DROPOUT else -1
