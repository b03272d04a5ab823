"""Choosing decision thresholds, and the default delay: on renders of held-out kits and grooves, or on recordings.

On renders there is one threshold that is best for all parents (groups of classes) together at +-25 ms. A parent takes a
higher one where that is better for it, never a lower one: renders hold more faint hits than music does, and low
thresholds are paid for on recordings (docs/log.md). On recordings, which are few, all parents and delays share one
threshold, and its score is told leave-one-track-out; a single track has no others to choose for it, and no such score.
Either way the decoder is the very one that users run.
Letters: D delays, P parents, C classes, F frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..runtime.decoder import decode
from ..runtime.events import Hit
from ..runtime.manifest import Manifest
from ..runtime.vocabulary import CODES, PARENTS
from .checkpoint import Checkpoint
from .data.dataset import Batch
from .evaluation.hearing import at_threshold
from .evaluation.scores import Labels, match, score
from .transformer import Transcriber
from .whole_file import Arrays, whole_outputs

__all__ = ["GRID", "Recordings", "calibrated", "calibrated_on_recordings"]

GRID = tuple(np.round(np.arange(0.1, 0.91, 0.05), 2).tolist())
WINDOW_S = 0.025
RECORDINGS_WINDOWS_S = (0.05, 0.025)  # the first one chooses
FORGIVEN_S = 0.05  # an estimate this near a hit that cannot be heard is no mistake
FEWEST_HITS = 40
_OF_THRESHOLDS = ("validation_renders", "threshold_recordings", "default_delay")  # scores that say how they do

Recordings = Mapping[str, tuple[torch.Tensor, Labels]]  # audio [N] at the model's rate and reference hits, by name


def calibrated(checkpoint: Checkpoint, batches: Sequence[Batch]) -> Checkpoint:
    """The checkpoint with thresholds, default delay and scores chosen on `batches` of validation renders."""
    model, manifest = checkpoint.model(), checkpoint.manifest()
    references = [labels for batch in batches for labels in _references(batch, ignored=False)]
    faint = [labels for batch in batches for labels in _references(batch, ignored=True)]
    duration_s = batches[0]["audio"].shape[1] / checkpoint.config.sample_rate
    thresholds, scores = [], []
    for delay in range(len(checkpoint.config.delays_ms)):
        outputs = [row for batch in batches for row in whole_outputs(model, batch["audio"], delay)]
        decoded = ([decode(*o, at_threshold(manifest, t), delay, duration_s) for o in outputs] for t in GRID)
        counts = np.stack([_counts(hits, references, faint) for hits in decoded])
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
    return replace(checkpoint, thresholds=thresholds, scores=_scores(checkpoint, measured), training={})


def calibrated_on_recordings(checkpoint: Checkpoint, recordings: Recordings) -> Checkpoint:
    """The checkpoint with one threshold for all parents and delays, best for five classes at +-50 ms on recordings.

    Recordings named FOLDER/TRACK are scored by folder, too; all of a track's are left out together. The scores of a
    single track are at the threshold that it chose itself, and say so: `pooled_f_of_the_same_track`.
    """
    model, manifest = checkpoint.model(), checkpoint.manifest()
    tracks = np.array([name.rpartition("/")[2] for name in recordings])
    folders = [name.rpartition("/")[0] for name in recordings]
    counts = np.stack([_delay_counts(model, manifest, recordings, d) for d in range(len(manifest.delays_ms))])
    chosen = int(np.argmax(_f(counts[:, :, :, 0].sum((0, 2)))))
    several = len(set(tracks.tolist())) > 1
    scores = _leave_one_out(counts, tracks) if several else counts[:, chosen]
    figure = "pooled_f_leave_one_track_out" if several else "pooled_f_of_the_same_track"
    measured: dict[str, Any] = {
        "threshold_recordings": {
            "tracks": sorted(set(tracks.tolist())),
            "window_s": RECORDINGS_WINDOWS_S[0],
            figure: _by_latency(manifest, [float(_f(s[:, 0].sum(0))) for s in scores]),
            "by_folder": {
                f"{folder or 'recordings'}, +-{1000 * window_s:g} ms": _by_latency(
                    manifest, [float(_f(s[[f == folder for f in folders], w].sum(0))) for s in scores]
                )
                for folder in dict.fromkeys(folders)
                for w, window_s in enumerate(RECORDINGS_WINDOWS_S)
            },
        },
        "default_delay": int(np.argmax([_f(s[:, 0].sum(0)) for s in scores])),
    }
    thresholds = [[GRID[chosen]] * len(PARENTS) for _ in manifest.delays_ms]
    return replace(checkpoint, thresholds=thresholds, scores=_scores(checkpoint, measured), training={})


def _scores(checkpoint: Checkpoint, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of a checkpoint, without those that its thresholds up to now had."""
    kept = {name: score for name, score in checkpoint.scores.items() if name not in _OF_THRESHOLDS}
    return kept | dict(measured)


def _delay_counts(model: Transcriber, manifest: Manifest, recordings: Recordings, delay: int) -> np.ndarray:
    """`_track_counts` at every threshold of the grid: [thresholds, R, W, 3]."""
    outputs = {name: whole_outputs(model, audio[None], delay)[0] for name, (audio, _) in recordings.items()}
    return np.stack([_track_counts(outputs, recordings, manifest, delay, threshold) for threshold in GRID])


def _track_counts(
    outputs: Mapping[str, Arrays], recordings: Recordings, manifest: Manifest, delay: int, threshold: float
) -> np.ndarray:
    """True positives, estimates, references per recording and window, five classes, at one threshold: [R, W, 3]."""
    rows = []
    for name, (audio, labels) in recordings.items():
        hits = decode(*outputs[name], at_threshold(manifest, threshold), delay, len(audio) / manifest.sample_rate)
        found = [(hit.time_s, hit.code) for hit in hits]
        pooled = [score({name: found}, {name: labels}, window_s=w)["micro"] for w in RECORDINGS_WINDOWS_S]
        rows.append([(p["tp"], p["tp"] + p["fp"], p["tp"] + p["fn"]) for p in pooled])
    return np.array(rows)


def _leave_one_out(counts: np.ndarray, tracks: np.ndarray) -> np.ndarray:
    """Counts [D, thresholds, R, W, 3] -> [D, R, W, 3]: each recording at the threshold that the other tracks choose."""
    rows = np.empty_like(counts[:, 0])
    for track in set(tracks.tolist()):
        left_out = tracks == track
        chosen = int(np.argmax(_f(counts[:, :, ~left_out, 0].sum((0, 2)))))
        rows[:, left_out] = counts[:, chosen, left_out]
    return rows


def _by_latency(manifest: Manifest, scores: Sequence[float]) -> dict[str, float]:
    return {f"{manifest.total_latency_ms(d):g} ms": round(f, 4) for d, f in enumerate(scores)}


def _references(batch: Batch, *, ignored: bool) -> list[Labels]:
    """The hits of every clip: those that can be heard, or those that cannot."""
    rows = zip(*(batch[name].tolist() for name in ("times", "classes", "ignored")), strict=True)
    return [
        [(float(t), CODES[c]) for t, c, covered in zip(*row, strict=True) if c >= 0 and covered == ignored]
        for row in rows
    ]


def _counts(hits: Sequence[Sequence[Hit]], references: Sequence[Labels], faint: Sequence[Labels]) -> np.ndarray:
    """True positives, estimates and references per parent over all clips: [P, 3]."""
    counts = np.zeros((len(PARENTS), 3), int)
    for found, reference, covered in zip(hits, references, faint, strict=True):
        estimates = [(hit.time_s, hit.code) for hit in found]
        for p, parent in enumerate(PARENTS):
            est, ref, free = (_times(labels, parent) for labels in (estimates, reference, covered))
            pairs = match(ref, est, WINDOW_S)
            rest = np.delete(est, [e for _, e in pairs])
            counts[p] += (len(pairs), len(est) - len(match(free, rest, FORGIVEN_S)), len(ref))
    return counts


def _times(labels: Labels, parent: tuple[str, ...]) -> np.ndarray:
    return np.unique([time_s for time_s, code in labels if code in parent])


def _f(counts: np.ndarray) -> np.ndarray:
    """F from [..., 3] counts of true positives, estimates and references."""
    return 2 * counts[..., 0] / np.maximum(1, counts[..., 1] + counts[..., 2])


def _best(counts: np.ndarray) -> np.ndarray:
    """Index of the threshold per parent from [thresholds, P, 3].

    The one that is best for all; a parent's own best where it has enough hits and its own lies higher.
    """
    pooled = int(np.argmax(_f(counts.sum(1))))
    enough = counts[0, :, 2] >= FEWEST_HITS
    return np.where(enough, np.maximum(np.argmax(_f(counts), axis=0), pooled), pooled)
