"""`ghostnote ablate`: the same training without one idea at a time, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ...runtime.errors import UsageError
from ...runtime.files import make_folder

__all__ = ["ablate"]


def ablate(
    folder: Annotated[Path, typer.Argument(help="Folder of the runs; interrupted ablations in it go on.")],
    steps: Annotated[int, typer.Option(min=1, help="Training steps of every variant.")] = 1000,
    preset: Annotated[str, typer.Option(help="Model shape: tiny, small, base or large.")] = "small",
    variants: Annotated[str, typer.Option(help="Variants A,B. Default: all that the recipe allows.")] = "",
    kits: Annotated[Path | None, typer.Option(help="Kits folder with kits.csv; none: synthesised drums only.")] = None,
    grooves: Annotated[Path | None, typer.Option(help="Folder of MIDI grooves; none: stress patterns only.")] = None,
    backing: Annotated[Path | None, typer.Option(help="Notes of other instruments with backing.csv.")] = None,
    recipe: Annotated[str, typer.Option(help="Render recipe: plain, solo, production, or a TOML file.")] = "production",
    audio: Annotated[Path | None, typer.Option(help="Recordings NAME.*, with --labels, to score on, too.")] = None,
    labels: Annotated[Path | None, typer.Option(help="References NAME.txt: lines of seconds and label.")] = None,
    renders: Annotated[int, typer.Option(min=2, help="Validation renders to score on.")] = 96,
    clips: Annotated[int, typer.Option(help="Clips per step, all processes together.")] = 8,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16 (mixed precision).")] = "no",
    seed: Annotated[int, typer.Option(help="Seed of weights and data, the same for all.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded sounds and MIDI.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder that keeps renders, so that each is made once.")] = None,
    distinct: Annotated[int, typer.Option(min=1, help="Different batches of renders, with --store.")] = 2000,
) -> None:
    """Train the model without one idea at a time, same budget and seed; FOLDER/ablations.md is the table."""
    from ..calibration_command import recordings_of
    from ..config import PRESETS
    from ..data.dataset import Sources
    from ..data.recipe import RenderRecipe
    from ..evaluation.renders import rendered_tracks
    from .ablation import VARIANTS, Ablations, applicable, config_of
    from .command import provenance
    from .steps import Recipe

    if (audio is None) != (labels is None):
        raise UsageError("recordings need both --audio and --labels; give both, or neither")
    rendering = RenderRecipe.load(recipe)
    names = [name for name in variants.split(",") if name] or applicable(rendering)
    if unknown := [name for name in names if name not in VARIANTS]:
        raise UsageError(f"unknown variant {', '.join(unknown)}; expected some of {', '.join(VARIANTS)}")
    for name in names:
        config_of(VARIANTS[name], preset)
    sources = Sources(kits, grooves, backing, cache or folder / "cache", rendering, store=store, distinct=distinct)
    course = replace(Recipe(), steps=steps, clips=clips, seed=seed, precision=precision)
    course = replace(course, warmup_steps=max(1, min(course.warmup_steps, steps // 4)))
    make_folder(folder)
    found = recordings_of(audio, labels, PRESETS["base"].sample_rate) if audio and labels else {}
    settings = {"renders": renders, "recordings": sorted(found), "distinct": distinct if store else None}
    ablations = Ablations(folder, preset, course, sources, settings)
    folders = {"kits": kits, "grooves": grooves, "backing": backing, "cache": sources.cache}
    tracks = list(rendered_tracks(PRESETS["base"], folders, recipe, renders))
    ablations.run(names, provenance(sources), tracks, found, _show)
    typer.echo(f"{folder / 'ablations.md'}, ablations.json")


def _show(name: str, row: Mapping[str, Any]) -> None:
    measured = ", ".join(
        f"{key.removesuffix('_f')} {row[key]:.3f}" for key in ("renders_f", "recordings_f") if key in row
    )
    typer.echo(f"{name}: F {measured}")
