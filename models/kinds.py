"""The kinds of model that training, checkpoints and scoring know: configuration, model, training step, presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from .baselines import onsets_and_frames as oaf
from .config import PRESETS, FrameGrid, ModelConfig
from .training.steps import Step, TrainingStep
from .transformer import DrumTransformer

__all__ = ["KINDS", "STREAMING", "Kind"]

STREAMING = ModelConfig.kind  # the one kind that can be exported


@dataclass(frozen=True)
class Kind:
    """One kind of model. `model(config).whole(audio, delay)` gives the outputs of a whole clip."""

    config: type[FrameGrid]
    model: Callable[[Any], nn.Module]
    step: Callable[..., Step]  # (config, recipe, teacher=None)
    presets: Mapping[str, FrameGrid]


KINDS: dict[str, Kind] = {
    STREAMING: Kind(ModelConfig, DrumTransformer, TrainingStep, PRESETS),
    oaf.OnsetsAndFramesConfig.kind: Kind(
        oaf.OnsetsAndFramesConfig, oaf.OnsetsAndFrames, oaf.OnsetsAndFramesStep, oaf.PRESETS
    ),
}
