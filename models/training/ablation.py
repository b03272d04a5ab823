"""Ablations: variants of the model, its loss and its data, each trained with the same budget and seed, then scored.

On validation renders one threshold for everything is chosen on the first half of the clips, and F is that of the second
half; on recordings every track is scored at the threshold that the others choose. The clips, made by the whole recipe,
are the same for all variants. F is pooled over five classes at +-50 ms, at the total latency nearest to 100 ms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ...runtime.decoder import decode
from ...runtime.errors import InputError, UsageError
from ...runtime.files import text_file
from .. import checkpoint as checkpoints
from ..checkpoint import Checkpoint
from ..config import FrameGrid
from ..data.dataset import Sources, main_delay
from ..data.recipe import RenderRecipe
from ..evaluation.analysis import forgiven
from ..evaluation.hearing import at_threshold
from ..evaluation.notes import labels_of, note_of
from ..evaluation.renders import RenderedTrack
from ..evaluation.scores import score
from ..kinds import KINDS, STREAMING
from ..thresholds import GRID, Recordings, calibrated_on_recordings
from ..whole_file import whole_outputs
from .steps import Recipe
from .trainer import Trainer

__all__ = ["VARIANTS", "Ablations", "Variant", "applicable"]

WINDOW_S = 0.05
LIVE_DELAY_MS = 70  # total latency 100 ms


@dataclass(frozen=True)
class Variant:
    """What differs from the full model."""

    what: str
    shape: Mapping[str, Any] = field(default_factory=dict)  # of `ModelConfig`
    course: Mapping[str, Any] = field(default_factory=dict)  # of `Recipe`
    without: tuple[str, ...] = ()  # stages of the render recipe
    kind: str = STREAMING


VARIANTS: dict[str, Variant] = {
    "full": Variant("everything"),
    "tone-only": Variant("the tone view alone", {"views": ("tone",)}),
    "attack-only": Variant("the attack view alone", {"views": ("attack",)}),
    "wave-only": Variant("the wave view alone", {"views": ("wave",)}),
    "concatenation": Variant("views concatenated instead of cross-view attention", {"fusion": "concatenation"}),
    "no-softening": Variant("no softening of what sustains in the attack view", {"softening": 1.0}),
    "no-alignment": Variant("no alignment of the views", course={"alignment_weight": 0.0}),
    "no-view-dropout": Variant("no view dropout", course={"view_dropout": False}),
    "no-subframe": Variant("no sub-frame head: hits at the centre of their frame", {"subframe": False}),
    "plain-bce": Variant(
        "plain BCE: no class or neighbour weights, no parent loss",
        course={"plain_onset_loss": True, "parent_weight": 0.0},
    ),
    "fixed-delay": Variant("one delay (70 ms) instead of a random one", {"delays_ms": (LIVE_DELAY_MS,)}),
    "no-delay": Variant("no delay: total latency 30 ms", {"delays_ms": (0,)}),
    "no-synthesiser": Variant("no synthesised drums", without=("synthesiser",)),
    "no-room": Variant("no bleed, no room", without=("bleed", "room")),
    "no-demixing": Variant("no demixing artefacts", without=("demixing",)),
    "onsets-and-frames": Variant("Onsets and Frames, whole file", kind="onsets-and-frames"),
}


def applicable(recipe: RenderRecipe) -> list[str]:
    """The variants that this render recipe allows: those that switch off nothing it does not have."""
    return [name for name, variant in VARIANTS.items() if all(stage in recipe for stage in variant.without)]


class Ablations:
    """Variants in a folder, a run's folder each; finished ones are not trained again."""

    def __init__(self, folder: Path, preset: str, course: Recipe, sources: Sources, settings: Mapping[str, Any]):
        """`settings` is plain data that says what the variants have in common.

        Raises UsageError for a folder of ablations with other settings.
        """
        self.folder, self.preset, self.course, self.sources = folder, preset, course, sources
        self.settings = {"preset": preset, "recipe": asdict(course), "rendering": sources.recipe.to_dict(), **settings}
        self.rows: dict[str, dict[str, Any]] = {}
        path = folder / "ablations.json"
        if path.exists():
            try:
                document = json.loads(path.read_text())
                settings, self.rows = document["settings"], document["variants"]
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise InputError(f"{path}: no document of ablations ({error}); give another folder") from None
            if settings != json.loads(json.dumps(self.settings)):
                raise UsageError(f"{path} was made with other settings; give the same ones, or another folder")

    def run(
        self,
        names: Sequence[str],
        provenance: Mapping[str, Any],
        tracks: Sequence[RenderedTrack],
        recordings: Recordings,
        after: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        """Train and score what is not done yet; `after` gets every new row. All processes train, the first scores."""
        for name in names:
            if name in self.rows:
                continue
            trainer = self._trainer(name, dict(provenance))
            best = trainer.run()
            if trainer.accelerator.is_main_process:
                loaded = checkpoints.load(best, kind=None)
                self.rows[name] = {
                    "what": VARIANTS[name].what,
                    "parameters": trainer.parameters,
                    "weights_sha256": loaded.weights_sha256(),
                    **scores(loaded, tracks, recordings),
                }
                self._write()
                after(name, self.rows[name])
            trainer.accelerator.wait_for_everyone()

    def _trainer(self, name: str, provenance: dict[str, Any]) -> Trainer:
        variant = VARIANTS[name]
        sources = replace(self.sources, recipe=self.sources.recipe.without(*variant.without))
        return Trainer(
            config_of(variant, self.preset),
            replace(self.course, **variant.course),
            sources,
            self.folder / name,
            {**provenance, "rendering": sources.recipe.to_dict(), "ablation": name},
        )

    def _write(self) -> None:
        document = {"settings": self.settings, "variants": self.rows}
        texts = {"ablations.json": json.dumps(document, indent=1) + "\n", "ablations.md": table(self.rows)}
        for name, text in texts.items():
            with text_file(self.folder / name) as write:
                write(text)


def config_of(variant: Variant, preset: str) -> FrameGrid:
    """The variant's shape. Raises UsageError for a preset that its kind does not have."""
    presets = KINDS[variant.kind].presets
    if preset in presets:
        return replace(presets[preset], **variant.shape)
    if variant.kind != STREAMING and preset in KINDS[STREAMING].presets:
        return presets["base"]  # a baseline has its published size, whatever size it is compared with
    raise UsageError(f"unknown preset {preset!r}; expected one of {', '.join(KINDS[STREAMING].presets)}")


def scores(checkpoint: Checkpoint, tracks: Sequence[RenderedTrack], recordings: Recordings) -> dict[str, Any]:
    """F on renders and, where there are any, recordings, with the threshold and the delay it was measured at."""
    delay = main_delay(checkpoint.config)
    f, threshold = rendered_f(checkpoint, tracks, delay)
    row: dict[str, Any] = {"delay_ms": checkpoint.config.delays_ms[delay], "renders_f": f, "threshold": threshold}
    if recordings:
        measured = calibrated_on_recordings(checkpoint, recordings).scores["threshold_recordings"]
        row["recordings_f"] = list(measured["pooled_f_leave_one_track_out"].values())[delay]
    return row


def rendered_f(checkpoint: Checkpoint, tracks: Sequence[RenderedTrack], delay: int) -> tuple[float, float]:
    """Pooled F of the second half of the tracks, and the threshold: the first half's best."""
    model, manifest = checkpoint.model(), checkpoint.manifest()
    outputs = {t.name: whole_outputs(model, torch.from_numpy(t.source)[None], delay)[0] for t in tracks}

    def f(some: Sequence[RenderedTrack], threshold: float) -> float:
        at = at_threshold(manifest, threshold)
        found = {}
        for track in some:
            hits = decode(*outputs[track.name], at, delay, len(track.source) / manifest.sample_rate)
            found[track.name] = labels_of(forgiven([note_of(hit) for hit in hits], track))
        wanted = {track.name: labels_of(track.references) for track in some}
        return float(score(found, wanted, window_s=WINDOW_S)["micro"]["F"])

    half = len(tracks) // 2
    best = max(GRID, key=lambda threshold: f(tracks[:half], threshold))
    return f(tracks[half:], best), best


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The rows as a Markdown table, with differences from `full` in points where it is there."""
    columns = [name for name in ("renders_f", "recordings_f") if any(name in row for row in rows.values())]
    titles = [name.removesuffix("_f") for name in columns]
    lines = [f"| variant | {' | '.join(titles)} |", "|---|" + "---|" * len(columns)]
    lines += [
        f"| {row['what']} | " + " | ".join(_cell(row.get(key), rows.get("full", {}).get(key)) for key in columns) + " |"
        for row in rows.values()
    ]
    return "\n".join(lines) + "\n"


def _cell(f: float | None, full: float | None) -> str:
    if f is None:
        return "-"
    return f"{f:.3f}" if full in (None, f) else f"{f:.3f} ({100 * (f - full):+.1f})"
