"""Choosing decision thresholds, and the default delay, on renders of held-out kits and grooves.

For every delay the threshold of each parent (group of classes) is the one with the best F at +-25 ms, found with the
very decoder that users run. Parents with few hits take the threshold that is best for all of them together. Letters:
D delays, C classes, F frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..runtime.decoder import decode
from ..runtime.manifest import Manifest
from ..runtime.vocabulary import CODES, PARENTS
from .checkpoint import Checkpoint
from .data.dataset import Batch
from .evaluation import Labels, match
from .transformer import DrumTransformer

__all__ = ["GRID", "calibrated"]

GRID = tuple(np.round(np.arange(0.1, 0.91, 0.05), 2).tolist())
WINDOW_S = 0.025
FEWEST_HITS = 40

Outputs = tuple[np.ndarray, np.ndarray, np.ndarray]  # onset_logits, velocity, offset, each [F, C]


def calibrated(checkpoint: Checkpoint, batches: Sequence[Batch]) -> Checkpoint:
    """The checkpoint with thresholds, default delay and scores chosen on `batches` of validation renders."""
    model, manifest = checkpoint.model(), checkpoint.manifest()
    references = [labels for batch in batches for labels in _references(batch)]
    duration_s = batches[0]["audio"].shape[1] / checkpoint.config.sample_rate
    thresholds, scores = [], []
    for delay in range(len(checkpoint.config.delays_ms)):
        outputs = [row for batch in batches for row in _outputs(model, batch["audio"], delay)]
        counts = np.stack([_counts(outputs, references, manifest, delay, t, duration_s) for t in GRID])
        chosen = _best(counts)
        thresholds.append([GRID[i] for i in chosen])
        scores.append(float(_f(counts[chosen, np.arange(len(PARENTS))].sum(0))))
    measured: dict[str, Any] = {
        "validation_renders": {
            "clips": len(references),
            "window_s": WINDOW_S,
            "pooled_f": {f"{manifest.total_latency_ms(d):g} ms": round(f, 4) for d, f in enumerate(scores)},
        },
        "default_delay": int(np.argmax(scores)),
    }
    return replace(checkpoint, thresholds=thresholds, scores={**checkpoint.scores, **measured}, training={})


@torch.inference_mode()
def _outputs(model: DrumTransformer, audio: torch.Tensor, delay: int, chunk_tokens: int = 96) -> list[Outputs]:
    """Whole-clip outputs, run on over silence until the last hit is out: [B, N] -> B times [F, C]."""
    config = model.config
    after = max(config.delays_ms) + 100
    silence = audio.new_zeros(len(audio), round(after / 1000 * config.tokens_per_second) * config.samples_per_token)
    index = torch.full((len(audio), 1), delay)
    state, parts = model.zero_state(len(audio)), []
    for piece in torch.cat([audio, silence], dim=1).split(chunk_tokens * config.samples_per_token, dim=1):
        output = model(piece, index, *state)
        state = output[3:]
        parts.append(output[:3])
    whole = [torch.cat(part, dim=1).cpu().numpy() for part in zip(*parts, strict=True)]
    return list(zip(*whole, strict=True))


def _references(batch: Batch) -> list[Labels]:
    return [
        [(float(t), CODES[c]) for t, c in zip(times, classes, strict=True) if c >= 0]
        for times, classes in zip(batch["times"].tolist(), batch["classes"].tolist(), strict=True)
    ]


def _counts(
    outputs: Sequence[Outputs],
    references: Sequence[Labels],
    manifest: Manifest,
    delay: int,
    threshold: float,
    duration_s: float,
) -> np.ndarray:
    """True positives, estimates and references per parent at one threshold: [P, 3]."""
    same = tuple(tuple([threshold] * len(PARENTS)) for _ in manifest.delays_ms)
    at_threshold = replace(manifest, decoder=replace(manifest.decoder, thresholds=same))
    counts = np.zeros((len(PARENTS), 3), int)
    for output, reference in zip(outputs, references, strict=True):
        found = [(hit.time_s, hit.code) for hit in decode(*output, at_threshold, delay, duration_s)]
        for p, parent in enumerate(PARENTS):
            est, ref = (np.unique([t for t, code in labels if code in parent]) for labels in (found, reference))
            counts[p] += (len(match(ref, est, WINDOW_S)), len(est), len(ref))
    return counts


def _f(counts: np.ndarray) -> np.ndarray:
    """F from [..., 3] counts of true positives, estimates and references."""
    return 2 * counts[..., 0] / np.maximum(1, counts[..., 1] + counts[..., 2])


def _best(counts: np.ndarray) -> np.ndarray:
    """Index of the best threshold per parent from [thresholds, P, 3]; the pooled choice where hits are few."""
    pooled = int(np.argmax(_f(counts.sum(1))))
    enough = counts[0, :, 2] >= FEWEST_HITS
    return np.where(enough, np.argmax(_f(counts), axis=0), pooled)
