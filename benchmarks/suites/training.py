"""Training: hours of audio rendered per minute, and steps per second, on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.errors import UsageError
from ..measuring import Figure

if TYPE_CHECKING:
    import torch

    from ...models.training.steps import TrainingStep

__all__ = ["training"]

STEPS = 6


def training(preset: str, sources: dict[str, Path | None], threads: int, seconds: float) -> list[Figure]:
    """Rendering and training with the shipped recipe; without kits and grooves, our synthesiser plays.

    PyTorch keeps to `threads`, whatever the environment says. Raises UsageError for an unknown preset.
    """
    import torch

    from ...models.config import PRESETS
    from ...models.data.dataset import RenderedBatches, Sources
    from ...models.data.preview import rendering_speed
    from ...models.data.recipe import RenderRecipe
    from ...models.training.steps import Recipe, TrainingStep

    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}; expected one of {', '.join(PRESETS)}")
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    recipe = Recipe()
    config = PRESETS[preset]
    played = Sources(
        sources.get("kits"), sources.get("grooves"), sources.get("backing"), None, RenderRecipe.load("production")
    )
    data = RenderedBatches(
        config, played, clips=recipe.clips, tokens=recipe.tokens, split="train", seed=0, device=device
    )
    speed = rendering_speed(data, first=0, seconds=seconds)
    step = TrainingStep(config, recipe).to(device)
    batch = {name: value.to(device) for name, value in data[0].items()}
    return [
        Figure(f"rendered on {device}, hours of audio per minute", speed.per_minute, "", better="more"),
        Figure(f"loss and gradients on {device}, steps per s", 1 / _step_s(step, batch), "", better="more"),
    ]


def _step_s(step: TrainingStep, batch: dict[str, torch.Tensor]) -> float:
    """Seconds of one loss with its gradients: the median."""
    import torch

    times_s = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step(batch)["loss"].backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times_s.append(time.perf_counter() - start)
    return sorted(times_s)[len(times_s) // 2]
