"""The options of every command that renders: where sounds and performances come from, and what is done to them.

Imports nothing heavy: `--help` shows these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .data.dataset import Sources

__all__ = ["SourceOptions", "StagedSourceOptions", "StoreOptions"]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What was asked for, as given; see the options' help texts."""

    kits: Annotated[Path | None, typer.Option(help="Kits folder with kits.csv; none: synthesised drums only.")] = None
    grooves: Annotated[Path | None, typer.Option(help="Folder of MIDI grooves; none: stress patterns only.")] = None
    backing: Annotated[Path | None, typer.Option(help="Folder of other music; none: a synthesised band.")] = None
    recipe: Annotated[str, typer.Option(help="Render recipe: plain, solo, production, or a TOML file.")] = "production"
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded sounds and MIDI.")] = None

    def sources(self, cache: Path | None = None, without: Sequence[str] = (), **settings: Any) -> Sources:
        """What they name; `cache` where the options name none, `settings` as in `Sources`. Raises UsageError."""
        from .data.dataset import Sources
        from .data.recipe import RenderRecipe

        rendering = RenderRecipe.load(self.recipe).without(*without)
        return Sources(self.kits, self.grooves, self.backing, self.cache or cache, rendering, **settings)


@dataclass(frozen=True, slots=True)
class StagedSourceOptions(SourceOptions):
    """The same, less some stages of the recipe."""

    without: Annotated[list[str] | None, typer.Option(help="Stage of the recipe to leave out; may be repeated.")] = None

    def sources(self, cache: Path | None = None, without: Sequence[str] = (), **settings: Any) -> Sources:
        """As `SourceOptions.sources`."""
        return SourceOptions.sources(self, cache, (*without, *(self.without or ())), **settings)


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Whether renders are kept, and how many; see `Sources`."""

    store: Annotated[Path | None, typer.Option(help="Folder that keeps renders, to hear them again.")] = None
    distinct: Annotated[
        int, typer.Option(min=1, help="Different batches of renders, with --store; then they come again, changed.")
    ] = 2000
