"""Validation renders as tracks to score: what held-out kits and grooves sound like, with exact references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import UsageError
from ...runtime.vocabulary import CODES
from .analysis import Track
from .notes import Note

if TYPE_CHECKING:
    from ..data.dataset import Batch, Sources

__all__ = ["RenderedTrack", "rendered_tracks"]

CLIPS_PER_BATCH = 4
TOKENS = 384  # 7.68 s per clip
SEED = 3  # of its own: these clips chose neither weights nor thresholds


@dataclass(frozen=True)
class RenderedTrack(Track):
    """One whose audio is in memory, mono [N]."""

    source: NDArray[np.float32]


def rendered_tracks(sample_rate: int, sources: Sources, clips: int) -> Iterator[RenderedTrack]:
    """`clips` validation renders. Raises UsageError for a model at a rate that is not rendered."""
    from ..config import PRESETS
    from ..data.dataset import RenderedBatches

    config = PRESETS["base"]  # only its clock matters here
    if sample_rate != config.sample_rate:
        raise UsageError(f"renders are at {config.sample_rate} Hz, the model takes {sample_rate} Hz")
    batches = RenderedBatches(config, sources, clips=CLIPS_PER_BATCH, tokens=TOKENS, split="validation", seed=SEED)
    for number in range(clips):
        index, row = divmod(number, CLIPS_PER_BATCH)
        if row == 0:
            batch = batches[index]
        yield _track(batch, row, f"render-{number:04d}")


def _track(batch: Batch, row: int, name: str) -> RenderedTrack:
    times, classes, velocities = (batch[key][row].cpu().numpy() for key in ("times", "classes", "velocities"))
    ignored = batch["ignored"][row].cpu().numpy() if "ignored" in batch else np.zeros(len(times), bool)
    notes = [
        (Note(float(t), CODES[c], float(v)), bool(faint))
        for t, c, v, faint in zip(times, classes, velocities, ignored, strict=True)
        if c >= 0
    ]
    audible, faint = ([note for note, is_faint in notes if is_faint == wanted] for wanted in (False, True))
    return RenderedTrack(name, batch["audio"][row].cpu().numpy(), audible, faint)
