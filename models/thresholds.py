"""Choosing decision thresholds, and the default delay: on renders of held-out kits and grooves, or on recordings.

On renders the threshold of each parent (group of classes) is the one with the best F at +-25 ms; parents with few hits
take the one that is best for all of them together. On recordings, which are few, all parents share one threshold, and
its score is told leave-one-track-out. Either way the decoder is the very one that users run.
Letters: D delays, P parents, C classes, F frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..runtime.decoder import decode
from ..runtime.manifest import Manifest
from ..runtime.vocabulary import CODES, PARENTS
from .checkpoint import Checkpoint
from .data.dataset import Batch
from .evaluation.scores import Labels, match, score
from .whole_file import Arrays, whole_outputs

__all__ = ["GRID", "Recordings", "at_threshold", "calibrated", "calibrated_on_recordings"]

GRID = tuple(np.round(np.arange(0.1, 0.91, 0.05), 2).tolist())
WINDOW_S = 0.025
RECORDINGS_WINDOW_S = 0.05
FEWEST_HITS = 40

Recordings = Mapping[str, tuple[torch.Tensor, Labels]]  # audio [N] at the model's rate and reference hits, by name


def calibrated(checkpoint: Checkpoint, batches: Sequence[Batch]) -> Checkpoint:
    """The checkpoint with thresholds, default delay and scores chosen on `batches` of validation renders."""
    model, manifest = checkpoint.model(), checkpoint.manifest()
    references = [labels for batch in batches for labels in _references(batch)]
    duration_s = batches[0]["audio"].shape[1] / checkpoint.config.sample_rate
    thresholds, scores = [], []
    for delay in range(len(checkpoint.config.delays_ms)):
        outputs = [row for batch in batches for row in whole_outputs(model, batch["audio"], delay)]
        counts = np.stack([_counts(outputs, references, manifest, delay, t, duration_s) for t in GRID])
        chosen = _best(counts)
        thresholds.append([GRID[i] for i in chosen])
        scores.append(float(_f(counts[chosen, np.arange(len(PARENTS))].sum(0))))
    measured: dict[str, Any] = {
        "validation_renders": {
            "clips": len(references),
            "window_s": WINDOW_S,
            "pooled_f": _by_latency(manifest, scores),
        },
        "default_delay": int(np.argmax(scores)),
    }
    return replace(checkpoint, thresholds=thresholds, scores={**checkpoint.scores, **measured}, training={})


def calibrated_on_recordings(checkpoint: Checkpoint, recordings: Recordings) -> Checkpoint:
    """The checkpoint with one threshold per delay for all parents, best for five classes at +-50 ms on recordings."""
    model, manifest = checkpoint.model(), checkpoint.manifest()
    thresholds, scores = [], []
    for delay in range(len(checkpoint.config.delays_ms)):
        outputs = {name: whole_outputs(model, audio[None], delay)[0] for name, (audio, _) in recordings.items()}
        counts = np.stack([_track_counts(outputs, recordings, manifest, delay, t) for t in GRID])
        thresholds.append([GRID[int(np.argmax(_f(counts.sum(1))))]] * len(PARENTS))
        scores.append(_leave_one_out(counts))
    measured: dict[str, Any] = {
        "threshold_recordings": {
            "tracks": sorted(recordings),
            "window_s": RECORDINGS_WINDOW_S,
            "pooled_f_leave_one_track_out": _by_latency(manifest, scores),
        },
        "default_delay": int(np.argmax(scores)),
    }
    return replace(checkpoint, thresholds=thresholds, scores={**checkpoint.scores, **measured}, training={})


def _track_counts(
    outputs: Mapping[str, Arrays], recordings: Recordings, manifest: Manifest, delay: int, threshold: float
) -> np.ndarray:
    """True positives, estimates and references per track over five classes, at one threshold: [tracks, 3]."""
    rows = []
    for name, (audio, labels) in recordings.items():
        hits = decode(*outputs[name], at_threshold(manifest, threshold), delay, len(audio) / manifest.sample_rate)
        found = [(hit.time_s, hit.code) for hit in hits]
        pooled = score({name: found}, {name: labels}, window_s=RECORDINGS_WINDOW_S)["micro"]
        rows.append((pooled["tp"], pooled["tp"] + pooled["fp"], pooled["tp"] + pooled["fn"]))
    return np.array(rows)


def _leave_one_out(counts: np.ndarray) -> float:
    """Pooled F of [thresholds, tracks, 3] where each track is scored at the threshold that the others choose."""
    others = counts.sum(1, keepdims=True) - counts
    chosen = np.argmax(_f(others), axis=0)
    return float(_f(counts[chosen, np.arange(counts.shape[1])].sum(0)))


def _by_latency(manifest: Manifest, scores: Sequence[float]) -> dict[str, float]:
    return {f"{manifest.total_latency_ms(d):g} ms": round(f, 4) for d, f in enumerate(scores)}


def at_threshold(manifest: Manifest, threshold: float) -> Manifest:
    """The manifest with one threshold for everything."""
    same = tuple(tuple([threshold] * len(PARENTS)) for _ in manifest.delays_ms)
    return replace(manifest, decoder=replace(manifest.decoder, thresholds=same))


def _references(batch: Batch) -> list[Labels]:
    """The hits of every clip that can be heard."""
    rows = zip(*(batch[name].tolist() for name in ("times", "classes", "ignored")), strict=True)
    return [
        [(float(t), CODES[c]) for t, c, ignored in zip(*row, strict=True) if c >= 0 and not ignored] for row in rows
    ]


def _counts(
    outputs: Sequence[Arrays],
    references: Sequence[Labels],
    manifest: Manifest,
    delay: int,
    threshold: float,
    duration_s: float,
) -> np.ndarray:
    """True positives, estimates and references per parent at one threshold: [P, 3]."""
    alike = at_threshold(manifest, threshold)
    counts = np.zeros((len(PARENTS), 3), int)
    for output, reference in zip(outputs, references, strict=True):
        found = [(hit.time_s, hit.code) for hit in decode(*output, alike, delay, duration_s)]
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
