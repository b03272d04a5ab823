"""A model that hears a recording twice, as it is and with its drums brought forward, with its longest delay."""

from __future__ import annotations

import numpy as np
import torch

from ...runtime.decoder import decode
from ...runtime.events import Hit
from ..checkpoint import Checkpoint
from ..corpora.heard import CERTAIN
from ..evaluation.hearing import at_threshold
from ..whole_file import whole_outputs
from .percussive import percussive

__all__ = ["LOWEST_CONFIDENCE", "Teacher"]

LOWEST_CONFIDENCE = 0.1  # hits down to here are told: below it, nothing was struck
_LEVELS = (CERTAIN, 0.4, LOWEST_CONFIDENCE)


class Teacher:
    """Hits of whole recordings, certain and doubtful."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.manifest = checkpoint.manifest()
        self._model = checkpoint.model()
        self._delay = len(checkpoint.config.delays_ms) - 1

    def hits(self, audio: np.ndarray) -> list[Hit]:
        """All hits of mono samples [N] at the model's rate, from `LOWEST_CONFIDENCE` up, in order of time.

        They are decided level by level, certain ones alone: a fainter peak shortly before hides what is behind it.
        """
        heard = torch.from_numpy(audio)
        versions = [heard, percussive(heard)]
        heads = zip(*(whole_outputs(self._model, version[None], self._delay)[0] for version in versions), strict=True)
        onset_logits, velocity, offset = (np.mean(head, axis=0) for head in heads)
        duration_s = len(audio) / self.manifest.sample_rate
        hits: list[Hit] = []
        for level, above in zip(_LEVELS, (np.inf, *_LEVELS), strict=False):
            manifest = at_threshold(self.manifest, level)
            decoded = decode(onset_logits, velocity, offset, manifest, self._delay, duration_s)
            hits += [hit for hit in decoded if hit.confidence < above]
        return sorted(hits, key=lambda hit: (hit.time_s, hit.code))
