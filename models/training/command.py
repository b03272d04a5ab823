"""`ghostnote train`: train a preset on rendered audio, resume, stop after some minutes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...runtime.errors import UsageError

if TYPE_CHECKING:
    from ..config import FrameGrid
    from ..corpora import Recording
    from ..data.dataset import Sources
    from .trainer import Trainer

__all__ = ["provenance", "train"]

LICENCES = {
    "kits": "drum one-shots: CC0, public domain, CC BY 3.0/4.0 and CC BY-SA 3.0 sources, listed in docs/model_card.md",
    "grooves": "Groove MIDI Dataset v1.0.0, CC BY 4.0 (rows split=train)",
    "backing": "notes of other instruments: CC0, public domain and CC BY 3.0 sources, listed in docs/model_card.md",
    "own": "ghostnote's own stress patterns, drum synthesiser and accompaniment",
}


def train(
    folder: Annotated[Path, typer.Argument(help="Folder of the run; an interrupted run in it is resumed.")],
    kits: Annotated[Path | None, typer.Option(help="Kits folder with kits.csv; none: synthesised drums only.")] = None,
    grooves: Annotated[Path | None, typer.Option(help="Folder of MIDI grooves; none: stress patterns only.")] = None,
    backing: Annotated[Path | None, typer.Option(help="Notes of other instruments with backing.csv.")] = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="KIND=FOLDER: recordings to learn from, too; may be repeated.")
    ] = None,
    corpus_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the batches that are recordings, with --corpus.")
    ] = 0.5,
    recipe: Annotated[str, typer.Option(help="Render recipe: plain, solo, production, or a TOML file.")] = "production",
    without: Annotated[
        list[str] | None, typer.Option(help="Stage of the recipe to leave out; may be repeated.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Folder that keeps renders, to hear them again.")] = None,
    distinct: Annotated[
        int, typer.Option(min=1, help="Different batches of renders, with --store; then they come again, changed.")
    ] = 2000,
    model: Annotated[
        str, typer.Option(help="drum-transformer, or the baseline onsets-and-frames.")
    ] = "drum-transformer",
    preset: Annotated[str, typer.Option(help="Model shape: small, base or large.")] = "base",
    steps: Annotated[int, typer.Option(help="Steps of the whole run (the schedule's length).")] = 8000,
    one_delay_steps: Annotated[
        int, typer.Option(min=0, help="First steps that train total latency 100 ms only; later ones all latencies.")
    ] = 0,
    margin_ms: Annotated[
        float, typer.Option(min=0, max=4, help="Attacks this little after a frame's start count as the one before.")
    ] = 0.0,
    clips: Annotated[int, typer.Option(help="Clips per step, all processes together.")] = 8,
    init: Annotated[Path | None, typer.Option(help="Checkpoint whose weights a new run starts from.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="Checkpoint whose onset probabilities are learnt, too.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Peak of the schedule.")] = None,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16 (mixed precision).")] = "no",
    track: Annotated[list[str] | None, typer.Option(help="wandb; always: FOLDER/metrics.jsonl.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop after these minutes, ready to resume.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and data.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded sounds and MIDI.")] = None,
) -> None:
    """Train a model and keep its best weights in FOLDER/best.pt."""
    from .. import checkpoint as checkpoints
    from ..data.dataset import Sources
    from ..data.recipe import RenderRecipe
    from .trainer import Recipe, Trainer

    config = _config(model, preset)
    rendering = RenderRecipe.load(recipe).without(*without or ())
    sources = Sources(
        kits,
        grooves,
        backing,
        cache or folder / "cache",
        rendering,
        corpora=_corpora(corpus or ()),
        corpus_share=corpus_share,
        store=store,
        distinct=distinct,
    )
    course = replace(
        Recipe(),
        steps=steps,
        one_delay_steps=one_delay_steps,
        margin_ms=margin_ms,
        clips=clips,
        seed=seed,
        precision=precision,
    )
    if learning_rate is not None:
        course = replace(course, learning_rate=learning_rate)
    trainer = Trainer(
        config,
        course,
        sources,
        folder,
        provenance(sources),
        checkpoints.load(init, kind=None) if init else None,
        teacher=checkpoints.load(teacher, kind=None) if teacher else None,
        trackers=tuple(track or ()),
    )
    typer.echo(_size(trainer))
    best = trainer.run(max_minutes)
    typer.echo(f"step {trainer.step} of {steps}; best weights: {best}")


def _config(model: str, preset: str) -> FrameGrid:
    from ..kinds import KINDS

    if model not in KINDS:
        raise UsageError(f"unknown model {model!r}; expected one of {', '.join(KINDS)}")
    presets = KINDS[model].presets
    if preset not in presets:
        raise UsageError(f"unknown preset {preset!r}; expected one of {', '.join(presets)}")
    return presets[preset]


def _corpora(specs: Sequence[str]) -> dict[str, list[Recording]]:
    """Recordings by kind of corpus: those of the split `train` where there is one, else all."""
    from ..corpora import corpus_folder, open_corpus

    corpora: dict[str, list[Recording]] = {}
    for spec in specs:
        kind, folder = corpus_folder(spec)
        found = open_corpus(kind, folder)
        corpora.setdefault(kind, []).extend([r for r in found if r.split == "train"] or found)
    return corpora


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
    given = [name for name in ("kits", "grooves", "backing") if getattr(sources, name)]
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "data": {name: LICENCES[name] for name in [*given, "own"]},
        "rendering": sources.recipe.to_dict(),
        "distinct_batches": sources.distinct if sources.store else None,  # None: no batch comes twice
        "commit": commit or "unknown",
        "date": datetime.now(UTC).date().isoformat(),
    }
