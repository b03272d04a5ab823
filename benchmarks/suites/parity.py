"""Parity: the same audio through a reference and other forms of the model, logits and hits compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...export.parity import TOLERANCES, Trial, check_parity, fitted, trials
from ...models.checkpoint import load
from ...models.torch_engine import TorchEngine
from ...runtime.engines.opening import bundled_models, open_engine
from ...runtime.engines.plan_engine import PlanEngine
from ...runtime.engines.protocol import Engine
from ...runtime.errors import UsageError
from ...runtime.manifest import Manifest
from ..measuring import Figure

__all__ = ["counterpart", "parity"]


def parity(reference: Path | None, others: Sequence[Path], threads: int, long_s: float) -> list[Figure]:
    """Differences of each other form from the reference: a checkpoint, an ONNX file or a plan, by their paths.

    Limits are those of its precision in the export's table. Raises UsageError for models of different weights,
    InputError for a checkpoint of a model that hears the whole file.
    """
    first = _opened(reference, threads)
    figures = []
    for path in others:
        other = _opened(path, threads)
        _check_same_model(first.manifest, other.manifest, path)
        limits = TOLERANCES[other.manifest.precision]
        report = check_parity(first, other, _tried((first, other), long_s), limits)
        label = f"{path.name} ({other.describe()})"
        differ = f"{label}: hits that differ, 1 - F at {1000 * limits.within_s:g} ms"
        logits = next(row for row in report.outputs if row.name == "onset_logits")
        figures += [
            Figure(f"{label}: logits, largest difference", logits.max_abs, "", logits.tolerance),
            Figure(f"{label}: logits, mean difference", logits.mean_abs, ""),
            Figure(differ, 1 - report.hits.f, "", 1 - limits.hits_f),
            Figure(f"{label}: velocity, mean difference", report.hits.mean_velocity_difference, "", limits.velocity),
        ]
    return figures


def counterpart(other: Path) -> Path | None:
    """The bundled model that a file is a form of, by its name; None: the default one."""
    name = (load(other).config if other.suffix == ".pt" else open_engine(other).manifest).name
    return Path(name) if name in bundled_models() else None


def _opened(path: Path | None, threads: int) -> Engine:
    """The engine of a form; a checkpoint's computes in double precision, as where an export is held against one."""
    if path is not None and path.suffix == ".pt":
        return TorchEngine.of(load(path), exact=True)
    return open_engine(path, threads=threads)


def _tried(engines: Sequence[Engine], long_s: float) -> list[Trial]:
    """What to stream, as far as all of them take it: a plan has a largest number of streams, and a shortest call."""
    profiles = [engine.profile for engine in engines if isinstance(engine, PlanEngine)]
    shortest_s = max((profile.tokens[0] for profile in profiles), default=1) * engines[0].manifest.token_s
    tried = trials(engines[0].manifest, long_s=max(long_s, shortest_s))
    for profile in profiles:
        tried = [fitted(trial, profile) for trial in tried]
    return [trial for trial in tried if trial.plan]


def _check_same_model(one: Manifest, other: Manifest, path: Path) -> None:
    if one.weights_sha256 != other.weights_sha256:
        raise UsageError(
            f"{path}: other weights ({other.weights_sha256[:12]}) than the reference ({one.weights_sha256[:12]}); "
            "parity is between forms of one model"
        )
