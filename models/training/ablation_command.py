"""`ghostnote ablate`: the same training without one idea at a time, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ...runtime.errors import UsageError
from ...runtime.files import make_folder
from ...runtime.option_groups import flattened
from ..source_options import SourceOptions, StoreOptions

__all__ = ["ablate"]


@flattened
def ablate(
    folder: Annotated[Path, typer.Argument(help="Folder of the runs; interrupted ablations in it go on.")],
    *,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of every variant.")] = 1000,
    preset: Annotated[str, typer.Option(help="Model shape: tiny, small, base or large.")] = "small",
    variants: Annotated[str, typer.Option(help="Variants A,B. Default: all that the recipe allows.")] = "",
    audio: Annotated[Path | None, typer.Option(help="Recordings NAME.*, with --labels, to score on, too.")] = None,
    labels: Annotated[Path | None, typer.Option(help="References NAME.txt: lines of seconds and label.")] = None,
    renders: Annotated[int, typer.Option(min=2, help="Validation renders to score on.")] = 96,
    clips: Annotated[int, typer.Option(min=1, help="Clips per step, all processes together.")] = 8,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16 (mixed precision).")] = "no",
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and data, the same for all.")] = 0,
    kept: StoreOptions,
    origin: SourceOptions,
) -> None:
    """Train the model without one idea at a time, same budget and seed; FOLDER/ablations.md is the table."""
    from ..calibration_command import recordings_of
    from ..config import PRESETS
    from ..evaluation.renders import rendered_tracks
    from .ablation import VARIANTS, Ablations, applicable, config_of
    from .command import provenance
    from .steps import Recipe

    if (audio is None) != (labels is None):
        raise UsageError("recordings need both --audio and --labels; give both, or neither")
    sources = origin.sources(folder / "cache", store=kept.store, distinct=kept.distinct)
    names = [name for name in variants.split(",") if name] or applicable(sources.recipe)
    if unknown := [name for name in names if name not in VARIANTS]:
        raise UsageError(f"unknown variant {', '.join(unknown)}; expected some of {', '.join(VARIANTS)}")
    for name in names:
        config_of(VARIANTS[name], preset)
    course = replace(Recipe(), steps=steps, clips=clips, seed=seed, precision=precision)
    course = replace(course, warmup_steps=max(1, min(course.warmup_steps, steps // 4)))
    make_folder(folder)
    found = recordings_of(audio, labels, PRESETS["base"].sample_rate) if audio and labels else {}
    if len(found) == 1:
        raise UsageError(f"{labels}: one track has no others to choose its threshold; give two recordings or more")
    settings = {
        "renders": renders,
        "recordings": sorted(found),
        "distinct": kept.distinct if kept.store else None,
        "data": sources.given,
    }
    ablations = Ablations(folder, preset, course, sources, settings)
    tracks = list(rendered_tracks(PRESETS["base"].sample_rate, sources, renders))
    ablations.run(names, provenance(sources), tracks, found, _show)
    typer.echo(f"{folder / 'ablations.md'}, ablations.json")


def _show(name: str, row: Mapping[str, Any]) -> None:
    measured = ", ".join(
        f"{key.removesuffix('_f')} {row[key]:.3f}" for key in ("renders_f", "recordings_f") if key in row
    )
    typer.echo(f"{name}: F {measured}")
