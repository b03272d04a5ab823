"""`ghostnote render-data`: fill a store with renders ahead of training, in as many processes as there are cores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["render_data"]


def render_data(
    store: Annotated[Path, typer.Argument(help="Folder that keeps the renders, as for `ghostnote train --store`.")],
    distinct: Annotated[int, typer.Option(min=1, help="Batches to keep.")] = 2000,
    kits: Annotated[Path | None, typer.Option(help="Kits folder with kits.csv; none: synthesised drums only.")] = None,
    grooves: Annotated[Path | None, typer.Option(help="Folder of MIDI grooves; none: stress patterns only.")] = None,
    backing: Annotated[Path | None, typer.Option(help="Notes of other instruments with backing.csv.")] = None,
    recipe: Annotated[str, typer.Option(help="Render recipe: plain, solo, production, or a TOML file.")] = "production",
    without: Annotated[
        list[str] | None, typer.Option(help="Stage of the recipe to leave out; may be repeated.")
    ] = None,
    clips: Annotated[int, typer.Option(help="Clips per batch, as in `ghostnote train`.")] = 8,
    processes: Annotated[int | None, typer.Option(min=1, help="Default: one per core.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the data, as in `ghostnote train`.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded sounds and MIDI.")] = None,
) -> None:
    """Render the batches that `ghostnote train` with the same options would; what is there already stays."""
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    from ..config import PRESETS
    from ..training.steps import Recipe
    from .dataset import RenderedBatches, Sources
    from .recipe import RenderRecipe
    from .store import Filling, StoredBatches

    rendering = RenderRecipe.load(recipe).without(*without or ())
    sources = Sources(kits, grooves, backing, cache or store / "cache", rendering)
    rendered = RenderedBatches(PRESETS["base"], sources, clips=clips, tokens=Recipe().tokens, seed=seed)
    batches = StoredBatches(rendered, sources, store, distinct)
    filling = DataLoader(Filling(batches), batch_size=None, num_workers=processes or os.cpu_count() or 1)
    for _ in tqdm(filling):
        pass
    typer.echo(f"{distinct} batches of {clips} clips in {batches.folder}")
