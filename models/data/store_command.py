"""`ghostnote render-data`: fill a store with renders ahead of training, in as many processes as there are cores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ...runtime.option_groups import flattened
from ..source_options import StagedSourceOptions

__all__ = ["render_data"]


@flattened
def render_data(
    store: Annotated[Path, typer.Argument(help="Folder that keeps the renders, as for `ghostnote train --store`.")],
    *,
    distinct: Annotated[int, typer.Option(min=1, help="Batches to keep.")] = 2000,
    clips: Annotated[int, typer.Option(min=1, help="Clips per batch, as in `ghostnote train`.")] = 8,
    processes: Annotated[int | None, typer.Option(min=1, help="Default: one per core.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the data, as in `ghostnote train`.")] = 0,
    origin: StagedSourceOptions,
) -> None:
    """Render the batches that `ghostnote train` with the same options would; what is there already stays."""
    from tqdm import tqdm

    from ..config import PRESETS
    from ..training.steps import Recipe
    from .dataset import RenderedBatches, loaded
    from .store import Filling, StoredBatches

    sources = origin.sources(store / "cache")
    rendered = RenderedBatches(PRESETS["base"], sources, clips=clips, tokens=Recipe().tokens, seed=seed)
    batches = StoredBatches(rendered, sources, store, distinct)
    for _ in tqdm(loaded(Filling(batches), range(distinct), processes or os.cpu_count() or 1), total=distinct):
        pass
    typer.echo(f"{distinct} batches of {clips} clips in {batches.folder}")
