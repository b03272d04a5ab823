"""`ghostnote calibrate`: choose a checkpoint's thresholds and default delay on validation renders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["calibrate"]

CALIBRATION_SEED = 2


def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of `ghostnote train`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the calibrated checkpoint goes.")],
    kits: Annotated[Path | None, typer.Option(help="Kits folder; its validation rows are used.")] = None,
    grooves: Annotated[Path | None, typer.Option(help="Grooves folder; its validation rows are used.")] = None,
    clips: Annotated[int, typer.Option(min=8, help="Clips to render.")] = 192,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded sounds and MIDI.")] = None,
) -> None:
    """Set every parent's threshold for every delay where F is best on held-out kits and grooves."""
    from . import checkpoint as checkpoints
    from .data.dataset import RenderedBatches, Sources
    from .thresholds import calibrated
    from .training import Recipe

    loaded = checkpoints.load(checkpoint)
    sources = Sources(kits, grooves, cache)
    # A seed of its own: these clips chose neither the weights nor the step that was kept.
    renders = RenderedBatches(
        loaded.config, sources, clips=8, tokens=Recipe().tokens, split="validation", seed=CALIBRATION_SEED
    )
    result = calibrated(loaded, [renders[i] for i in range(clips // 8)])
    checkpoints.save(out, result)
    for latency, f in result.scores["validation_renders"]["pooled_f"].items():
        typer.echo(f"total latency {latency}: pooled F over the parents at +-25 ms {f:.3f}")
