"""Accuracy: F per class against delay on an annotated folder; by default the generated set with exact labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...models.evaluation.inputs import references
from ...models.evaluation.opening import estimate as hits_of
from ...models.evaluation.scores import score
from ...runtime.engines.protocol import Engine
from ..measuring import GENERATED, Figure, labelled_recordings

__all__ = ["GENERATED", "accuracy"]

F_TOLERANCE = 0.005  # of F itself

WINDOW_S = 0.05


def accuracy(engine: Engine, audio: Path, labels: Path, classes: str) -> tuple[list[Figure], dict[str, Any]]:
    """Pooled F at every total latency, F of each class at the default one, and the series behind them.

    Raises InputError where labels or their recordings cannot be read.
    """
    wanted = references(labels)
    recordings = labelled_recordings(audio, labels, wanted)
    manifest = engine.manifest
    by_latency: dict[str, dict[str, float]] = {}
    for index in range(len(manifest.delays_ms)):
        total_ms = manifest.total_latency_ms(index)
        found = {name: hits_of(engine, file, total_ms) for name, file in recordings.items()}
        result = score(found, wanted, window_s=WINDOW_S, group=classes)
        by_latency[f"{total_ms:g}"] = {
            "pooled": result["micro"]["F"],
            **{name: row["F"] for name, row in result["classes"].items() if row["F"] is not None},
        }
    default = f"{manifest.total_latency_ms(manifest.default_delay):g}"
    figures = [
        Figure(f"F, total latency {ms} ms", rows["pooled"], "", better="more", tolerance=F_TOLERANCE)
        for ms, rows in by_latency.items()
    ]
    figures += [
        Figure(f"F of {name}, {default} ms", f, "") for name, f in by_latency[default].items() if name != "pooled"
    ]
    return figures, {"f_by_latency_ms": by_latency}
