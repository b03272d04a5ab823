"""The kinds of model that training, checkpoints and scoring know: configuration, model, training step, presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .baselines import onsets_and_frames as oaf
from .config import PRESETS, FrameGrid, ModelConfig
from .training.steps import Step, TrainingStep
from .transformer import DrumTransformer, Transcriber

__all__ = ["KINDS", "STREAMING", "Kind"]

STREAMING = ModelConfig.kind  # the one kind that can be exported


@dataclass(frozen=True)
class Kind:
    """One kind of model."""

    config: type[FrameGrid]
    model: Callable[[Any], Transcriber]
    step: Callable[..., Step]  # (config, recipe, teacher=None)
    presets: Mapping[str, FrameGrid]


KINDS: dict[str, Kind] = {
    STREAMING: Kind(ModelConfig, DrumTransformer, TrainingStep, PRESETS),
    oaf.OnsetsAndFramesConfig.kind: Kind(
        oaf.OnsetsAndFramesConfig, oaf.OnsetsAndFrames, oaf.OnsetsAndFramesStep, oaf.PRESETS
    ),
}
