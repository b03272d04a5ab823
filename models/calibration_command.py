"""`ghostnote calibrate`: choose a checkpoint's thresholds and default delay on validation renders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..runtime.errors import InputError, UsageError
from ..runtime.option_groups import flattened
from .source_options import SourceOptions

if TYPE_CHECKING:
    from .config import FrameGrid
    from .data.dataset import Batch, Sources
    from .thresholds import Recordings

__all__ = ["calibrate", "recordings_of"]

CALIBRATION_SEED = 2
CLIPS_PER_BATCH = 8


@dataclass(frozen=True, slots=True)
class SoloOptions(SourceOptions):
    """Renders of solo drums, unless another recipe is named."""

    recipe: Annotated[str, typer.Option(help="Render recipe: plain, solo, production, or a TOML file.")] = "solo"


@flattened
def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of `ghostnote train`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the calibrated checkpoint goes.")],
    *,
    audio: Annotated[
        list[Path] | None, typer.Option(help="Recordings NAME.*, with --labels; else renders. May be repeated.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="References NAME.txt: lines of seconds and label.")] = None,
    clips: Annotated[int, typer.Option(min=8, help="Clips to render, in whole batches of 8.")] = 192,
    half: Annotated[
        bool, typer.Option(help="Round the weights to float16 first and store them so: half the size, to ship.")
    ] = False,
    licence: Annotated[str | None, typer.Option(help="Of the weights, for their manifest; none: as before.")] = None,
    origin: SoloOptions,
) -> None:
    """Choose the thresholds and the default delay where F is best: on held-out renders, or on labelled recordings."""
    from . import checkpoint as checkpoints
    from .thresholds import calibrated, calibrated_on_recordings

    if bool(audio) != bool(labels):
        raise UsageError("recordings need both --audio and --labels; give both, or neither for renders")
    names = [folder.name for folder in audio or ()]  # what the figures are told by
    if len(set(names)) < len(names):
        raise UsageError(f"two folders are called {max(names, key=names.count)}; give each --audio a name of its own")
    checkpoints.check_place(out)
    loaded = checkpoints.load(checkpoint, kind=None)
    if half:
        loaded = loaded.halved()
    if licence is not None:
        loaded = replace(loaded, provenance={**loaded.provenance, "licence": licence})
    if audio and labels:
        found = [(folder.name, recordings_of(folder, labels, loaded.config.sample_rate)) for folder in audio]
        named = {f"{kind}/{name}": recording for kind, some in found for name, recording in some.items()}
        result = calibrated_on_recordings(loaded, named)
        measured = result.scores["threshold_recordings"]
        tables = measured["by_folder"]
        alone = "at the threshold that this one track chose (two tracks or more are needed to leave one out)"
        what = "pooled F of five classes, " + ("leave one track out" if len(measured["tracks"]) > 1 else alone)
    else:
        result = calibrated(loaded, _renders(loaded.config, origin.sources(), clips))
        tables = {"renders, +-25 ms": result.scores["validation_renders"]["pooled_f"]}
        what = "pooled F of the parents"
    checkpoints.save(out, result)
    for kind, by_latency in tables.items():
        typer.echo(f"{kind}: {what} by total latency: " + ", ".join(f"{t} {f:.3f}" for t, f in by_latency.items()))


def _renders(config: FrameGrid, sources: Sources, clips: int) -> list[Batch]:
    from .data.dataset import RenderedBatches
    from .training.trainer import Recipe

    # A seed of its own: these clips chose neither the weights nor the step that was kept.
    renders = RenderedBatches(
        config, sources, clips=CLIPS_PER_BATCH, tokens=Recipe().tokens, split="validation", seed=CALIBRATION_SEED
    )
    return [renders[i] for i in range(-(-clips // CLIPS_PER_BATCH))]


def recordings_of(audio: Path, labels: Path, sample_rate: int) -> Recordings:
    """Every recording with its labels. Raises InputError where one of them is missing or cannot be read."""
    import torch

    from ..runtime.input.audio import read_audio
    from .evaluation.inputs import audio_files, references

    wanted = references(labels)
    found = audio_files(audio, wanted)
    if not found:
        raise InputError(f"{audio}: holds no recordings of {', '.join(wanted)}")
    return {name: (torch.from_numpy(read_audio(path, sample_rate)), wanted[name]) for name, path in found.items()}
