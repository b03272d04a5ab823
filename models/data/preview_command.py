"""`ghostnote preview-data`: example clips of what training renders, with their labels and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...runtime.errors import OutputError, UsageError
from ...runtime.files import text_file
from ...runtime.option_groups import flattened
from ..source_options import StagedSourceOptions

if TYPE_CHECKING:
    from .dataset import RenderedBatches, Sources

__all__ = ["preview_data"]

SPLITS = ("train", "validation")
TIMED_SECONDS = 10.0


@flattened
def preview_data(
    out_dir: Annotated[Path, typer.Argument(help="Folder for NAME.flac, NAME.txt and NAME.png.")],
    *,
    clips: Annotated[int, typer.Option(min=1, help="Clips to write.")] = 8,
    split: Annotated[str, typer.Option(help="train or validation.")] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the data, as in `ghostnote train`.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. Default: the GPU if there is one.")] = None,
    origin: StagedSourceOptions,
) -> None:
    """Write clips as training hears them: audio, labels, and a spectrogram with every hit drawn in."""
    import soundfile

    from .preview import examples, rendering_speed, write

    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}; expected {' or '.join(SPLITS)}")
    batches = _batches(origin.sources(), split, seed, _device(device))
    with text_file(out_dir / "clip-000.txt"):
        pass  # a place that cannot be written is known before anything is rendered
    try:
        for number, example in enumerate(examples(batches, clips)):
            write(example, out_dir, f"clip-{number:03d}")
    except (OSError, soundfile.LibsndfileError) as error:
        raise OutputError(f"{out_dir}: cannot be written ({error})") from None
    speed = rendering_speed(batches, first=clips // batches.clips + 1, seconds=TIMED_SECONDS)
    typer.echo(f"{clips} clips in {out_dir}")
    cpu = f", {speed.per_cpu_minute:.2f} per minute of CPU time" if batches.device == "cpu" else ""
    typer.echo(f"rendering on {batches.device}: {speed.per_minute:.2f} hours of audio per minute{cpu}")


def _device(name: str | None) -> str:
    """A device that there is. Raises UsageError for any other."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        known = torch.empty(0, device=name).device.type in ("cpu", "cuda")
    except (RuntimeError, AssertionError):  # a name that is none; torch without CUDA, or no GPU
        known = False
    if not known:
        raise UsageError(f"--device {name}: no such device here; expected cpu, or cuda where there is an NVIDIA GPU")
    return name


def _batches(sources: Sources, split: str, seed: int, device: str) -> RenderedBatches:
    """The very batches that a training run with these sources and this seed would see."""
    from ..config import PRESETS
    from ..training.trainer import Recipe
    from .dataset import RenderedBatches

    recipe = Recipe()
    return RenderedBatches(
        PRESETS["base"],
        sources,
        clips=recipe.clips,
        tokens=recipe.tokens,
        split=split,
        seed=seed,
        device=device,
    )
