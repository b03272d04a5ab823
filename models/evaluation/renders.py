"""Validation renders as tracks to score: what held-out kits and grooves sound like, with exact references."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ...runtime.errors import UsageError
from ...runtime.manifest import Manifest
from ...runtime.vocabulary import CODES
from .analysis import Track
from .notes import Note

if TYPE_CHECKING:
    from ..data.dataset import Batch, Sources

__all__ = ["rendered_tracks"]

CLIPS_PER_BATCH = 4
TOKENS = 384  # 7.68 s per clip
SEED = 3  # of its own: these clips chose neither weights nor thresholds


def rendered_tracks(manifest: Manifest, sources: Sources, clips: int) -> Iterator[Track]:
    """`clips` validation renders.

    Raises UsageError for a model at a rate that is not rendered.
    """
    from ..config import PRESETS
    from ..data.dataset import RenderedBatches

    config = PRESETS["base"]  # only its clock matters here
    if manifest.sample_rate != config.sample_rate:
        raise UsageError(f"renders are at {config.sample_rate} Hz, the model takes {manifest.sample_rate} Hz")
    batches = RenderedBatches(config, sources, clips=CLIPS_PER_BATCH, tokens=TOKENS, split="validation", seed=SEED)
    for number in range(clips):
        index, row = divmod(number, CLIPS_PER_BATCH)
        if row == 0:
            batch = batches[index]
        yield _track(batch, row, f"render-{number:04d}")


def _track(batch: Batch, row: int, name: str) -> Track:
    times, classes, velocities = (batch[key][row].cpu().numpy() for key in ("times", "classes", "velocities"))
    ignored = batch["ignored"][row].cpu().numpy() if "ignored" in batch else np.zeros(len(times), bool)
    notes = [
        (Note(float(t), CODES[c], float(v)), bool(faint))
        for t, c, v, faint in zip(times, classes, velocities, ignored, strict=True)
        if c >= 0
    ]
    audible, faint = ([note for note, is_faint in notes if is_faint == wanted] for wanted in (False, True))
    return Track(name, batch["audio"][row].cpu().numpy(), audible, faint)
