"""`ghostnote train`: train a preset on rendered audio, resume, stop after some minutes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...runtime.errors import UsageError
from ...runtime.option_groups import flattened
from ..revision import commit
from ..source_options import StagedSourceOptions, StoreOptions
from .options import CourseOptions, RecordingOptions

if TYPE_CHECKING:
    from ..config import FrameGrid
    from ..data.dataset import Sources
    from .trainer import Trainer

__all__ = ["provenance", "train"]

OWN = "ghostnote's own stress patterns, drum synthesiser and accompaniment"


@flattened
def train(
    folder: Annotated[Path, typer.Argument(help="Folder of the run; an interrupted run in it is resumed.")],
    *,
    model: Annotated[
        str, typer.Option(help="drum-transformer, or the baseline onsets-and-frames.")
    ] = "drum-transformer",
    preset: Annotated[str, typer.Option(help="Model shape: small, base or large.")] = "base",
    init: Annotated[Path | None, typer.Option(help="Checkpoint whose weights a new run starts from.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="Checkpoint whose onset probabilities are learnt, too.")] = None,
    course: CourseOptions,
    origin: StagedSourceOptions,
    kept: StoreOptions,
    recorded: RecordingOptions,
    track: Annotated[list[str] | None, typer.Option(help="wandb; always: FOLDER/metrics.jsonl.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop after these minutes, ready to resume.")] = None,
) -> None:
    """Train a model and keep its best weights in FOLDER/best.pt."""
    from .. import checkpoint as checkpoints
    from .trainer import Trainer

    config = _config(model, preset)
    sources = origin.sources(folder / "cache", store=kept.store, distinct=kept.distinct, **recorded.settings())
    trainer = Trainer(
        config,
        course.recipe(),
        sources,
        folder,
        provenance(sources),
        checkpoints.load(init, kind=None) if init else None,
        teacher=checkpoints.load(teacher, kind=None) if teacher else None,
        trackers=tuple(track or ()),
    )
    typer.echo(_size(trainer))
    best = trainer.run(max_minutes)
    typer.echo(f"step {trainer.step} of {course.steps}; best weights: {best}")


def _config(model: str, preset: str) -> FrameGrid:
    from ..kinds import KINDS

    if model not in KINDS:
        raise UsageError(f"unknown model {model!r}; expected one of {', '.join(KINDS)}")
    presets = KINDS[model].presets
    if preset not in presets:
        raise UsageError(f"unknown preset {preset!r}; expected one of {', '.join(presets)}")
    return presets[preset]


def _size(trainer: Trainer) -> str:
    from ..arithmetic import gflop_per_second
    from ..config import ModelConfig

    size = f"{trainer.parameters / 1e6:.2f} million parameters"
    if not isinstance(trainer.config, ModelConfig):
        return size
    parts = gflop_per_second(trainer.config).items()
    return f"{size}; GFLOP per second of audio: " + ", ".join(f"{part} {value:.3f}" for part, value in parts)


def provenance(sources: Sources) -> dict[str, Any]:
    """What the weights are made from, as the manifest and the model card will say."""
    return {
        "data": _data(sources),
        "rendering": sources.recipe.to_dict(),
        "distinct_batches": sources.distinct if sources.store else None,  # None: no batch comes twice
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _data(sources: Sources) -> dict[str, str]:
    """What was given, with the licences that its tables tell. Raises InputError where they cannot be read."""
    from ..data.drums.kits import kit_rows
    from ..data.music.instruments import backing_rows
    from ..data.music.passages import passage_rows
    from ..data.packed import licences

    told = {}
    if sources.kits:
        told["kits"] = f"drum sounds: {', '.join(licences(kit_rows(sources.kits)))}"
    if sources.grooves:
        published = (sources.grooves / "info.csv").exists()
        whose = "the Groove MIDI Dataset, CC BY 4.0 (rows split=train)" if published else "a folder of MIDI files"
        told["grooves"] = f"performances: {whose}"
    if sources.backing:
        rows = [*backing_rows(sources.backing), *passage_rows(sources.backing)]
        told["backing"] = f"other music: {', '.join(licences(rows))}"
    return told | {"own": OWN}
