"""Training steps: a model and its loss as one module, so that a data-parallel wrapper sees a single forward.

Letters: B clips, N samples, F frames, T tokens, V views, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import VIEWS, FrameGrid, ModelConfig
from ..transformer import DrumTransformer, Outputs, Transcriber
from .loss import PLAIN, WEIGHTED, alignment_loss, make_targets, transcription_losses

__all__ = ["Recipe", "Step", "TrainingStep", "shifted"]

ALIGNED_TOKENS = 48  # tokens per clip in the alignment loss


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides the model's shape and the data."""

    steps: int = 8000
    clips: int = 8  # per batch, all processes together
    one_delay_steps: int = 0  # first steps, in which every clip is to be reported at the main delay (100 ms in total)
    margin_ms: float = 0.0  # by which the boundaries of frames lie late in the targets (loss.py)
    tokens: int = 384  # per clip: longer than layers x window_tokens, so that full caches are trained too
    learning_rate: float = 2e-3
    warmup_steps: int = 300
    weight_decay: float = 0.02
    clip_norm: float = 30.0  # the loss is a sum over hits: its gradient is this large early on
    ema_decay: float = 0.998
    precision: str = "no"  # or "bf16", "fp16": what the model computes in; front-end and loss stay in float32
    parent_weight: float = 0.5
    velocity_weight: float = 40.0
    offset_weight: float = 3.0
    alignment_weight: float = 0.05
    distillation_weight: float = 1.0  # counts only with a teacher
    view_dropout: bool = True
    plain_onset_loss: bool = False  # ablation: every frame weighs the same
    validation_every: int = 500
    validation_batches: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that make no run."""
        for name in ("steps", "clips", "tokens", "warmup_steps", "validation_every", "validation_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected 1 or more")


class Step(nn.Module):
    """A model and its loss. A subclass says how the model hears a batch (`outputs`)."""

    model: Transcriber

    def __init__(self, model: Transcriber, recipe: Recipe, teacher: Transcriber | None = None):
        super().__init__()
        self.model = model
        self.recipe = recipe
        # In a tuple, so that it is no part of this module: not trained, averaged, saved or kept in step by processes.
        self._teacher = (teacher.eval().requires_grad_(False),) if teacher else ()

    def outputs(self, batch: Mapping[str, Tensor]) -> tuple[Outputs, dict[str, Tensor]]:
        """What the model says about a batch of `RenderedBatches`, and further parts of the loss by name."""
        raise NotImplementedError

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch of `RenderedBatches` -> the loss and its parts (scalars)."""
        heard, parts = self.outputs(batch)
        with in_float32(batch["audio"]):
            heard = Outputs(*(value.float() for value in heard[:3]))
            parts = {**self._supervised(heard, batch), **parts}
            for teacher in self._teacher:
                parts["distillation"] = distillation_loss(heard, batch, self.model.config, teacher)
            weighted = [getattr(self.recipe, f"{name}_weight") * parts[name] for name in parts if name != "onset"]
            return {"loss": parts["onset"] + sum(weighted), **parts}

    def _supervised(self, heard: Outputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        config = self.model.config
        weights = PLAIN if self.recipe.plain_onset_loss else WEIGHTED
        targets = make_targets(batch, config, heard.onset_logits.shape[1], weights, self.recipe.margin_ms)
        parts = transcription_losses(heard, targets, config)._asdict()
        if not config.subframe:
            del parts["offset"]
        return parts


class TrainingStep(Step):
    """`DrumTransformer` read in chunks, as it streams; view dropout and alignment between views."""

    model: DrumTransformer

    def __init__(self, config: ModelConfig, recipe: Recipe, teacher: Transcriber | None = None):
        super().__init__(DrumTransformer(config), recipe, teacher)
        # Used by the loss only; not part of the exported model.
        aligned = config.views if config.views == VIEWS else ()
        self.align = nn.ModuleList([nn.Linear(config.view_width, 32, bias=False) for _ in aligned])

    def outputs(self, batch: Mapping[str, Tensor]) -> tuple[Outputs, dict[str, Tensor]]:
        model = self.model
        with in_float32(batch["audio"]):  # log power of near silence is lost in half precision
            latents, *_ = model.encode(batch["audio"], *model.zero_state(len(batch["audio"]))[:2])
            parts = {"alignment": self._alignment(latents)} if self.align else {}
        views = model.config.views
        if self.recipe.view_dropout and len(views) > 1:
            numbers = torch.tensor([VIEWS.index(view) for view in views], device=latents.device)
            kept = numbers != batch["dropped_view"][:, None]
            latents = latents * kept[:, None, :, None]
        return self._read(latents, batch["delay"]), parts

    def _read(self, latents: Tensor, delay: Tensor) -> Outputs:
        """The whole clip from zero state: the same numbers as a stream (tested)."""
        in_windows = latents.shape[1] % self.model.config.window_tokens == 0
        return Outputs(
            *self.model.read(latents, delay, *self.model.zero_state(len(latents))[2:], in_windows=in_windows)[:3]
        )

    def _alignment(self, latents: Tensor) -> Tensor:
        tokens = latents[:, :: max(1, latents.shape[1] // ALIGNED_TOKENS)]
        projected = [layer(tokens[:, :, i]) for i, layer in enumerate(self.align)]
        return alignment_loss(torch.stack(projected, dim=2))


def in_float32(like: Tensor) -> Any:
    """A context without automatic mixed precision, on the tensor's kind of device."""
    return torch.autocast(like.device.type, enabled=False)


def distillation_loss(heard: Outputs, batch: Mapping[str, Tensor], config: FrameGrid, teacher: Transcriber) -> Tensor:
    """Cross-entropy with the teacher's onset probabilities, summed over frames and classes, per second of audio.

    The teacher listens at its largest delay: the same network, given a future that the student does not have.
    """
    audio = batch["audio"]
    latest = len(teacher.config.delays_ms) - 1
    with torch.no_grad():
        logits = teacher.to(audio.device).whole(audio, latest).onset_logits.float()
    delays = torch.tensor([config.delay_frames(i) for i in range(len(config.delays_ms))], device=audio.device)
    wanted, known = shifted(logits, teacher.config.delay_frames(latest), delays[batch["delay"][:, 0]])
    loss = functional.binary_cross_entropy_with_logits(heard.onset_logits, wanted.sigmoid(), reduction="none")
    seconds = logits.shape[0] * logits.shape[1] * config.frame_ms / 1000
    return (loss * known[:, :, None]).sum() / seconds


def shifted(logits: Tensor, teacher_frames: int, student_frames: Tensor) -> tuple[Tensor, Tensor]:
    """Teacher's logits [B, F, C] moved from its delay to the students' [B] -> [B, F, C], and where they are known.

    An attack in frame a of the music is reported in frame a + delay. Unknown [B, F]: what the teacher would have said
    after the clip, and what speaks of the time before it.
    """
    frames = torch.arange(logits.shape[1], device=logits.device)
    source = frames + teacher_frames - student_frames[:, None]
    known = (source < logits.shape[1]) & (frames >= student_frames[:, None])
    index = source.clamp(0, logits.shape[1] - 1)[:, :, None].expand(-1, -1, logits.shape[2])
    return logits.gather(1, index), known
