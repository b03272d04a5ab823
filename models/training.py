"""The training loop: one process or many (Hugging Face Accelerate), exact resume, averaged weights (EMA) as the result.

Files in the run's folder: `last.pt` (to resume from), `best.pt` (EMA weights with the lowest validation loss),
`metrics.jsonl`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..runtime.errors import UsageError
from . import checkpoint as checkpoints
from .checkpoint import Checkpoint
from .config import ModelConfig
from .data.dataset import Batch, RenderedBatches, Sources
from .loss import alignment_loss, make_targets, transcription_losses
from .transformer import VIEWS, DrumTransformer

__all__ = ["Recipe", "Trainer", "TrainingStep"]

ALIGNED_TOKENS = 48  # tokens per clip in the alignment loss


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides the model's shape and the data folders."""

    steps: int = 8000
    clips: int = 8  # per batch, all processes together
    tokens: int = 384  # per clip: longer than layers x window_tokens, so that full caches are trained too
    chunk_tokens: int = 96  # per model call inside a clip; state carries over, gradients too
    learning_rate: float = 1.5e-3
    warmup_steps: int = 300
    weight_decay: float = 0.02
    clip_norm: float = 30.0  # the loss is a sum over hits: its gradient is this large early on
    ema_decay: float = 0.998
    parent_weight: float = 0.5
    velocity_weight: float = 3.0
    offset_weight: float = 3.0
    alignment_weight: float = 0.05
    validation_every: int = 500
    validation_batches: int = 6
    seed: int = 0


class TrainingStep(nn.Module):
    """Model and loss as one module, so that a data-parallel wrapper sees a single forward."""

    def __init__(self, config: ModelConfig, recipe: Recipe):
        super().__init__()
        self.model = DrumTransformer(config)
        self.recipe = recipe
        # Used by the loss only; not part of the exported model.
        self.align = nn.ModuleList([nn.Linear(config.view_width, 32, bias=False) for _ in VIEWS])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """A batch of `RenderedBatches` -> the loss and its parts (scalars)."""
        model, recipe = self.model, self.recipe
        latents, _ = model.encode(batch["audio"], model.zero_state(len(batch["audio"]))[0])
        alignment = self._alignment(latents)
        kept = torch.arange(len(VIEWS), device=latents.device) != batch["dropped_view"][:, None]
        outputs = self._read(latents * kept[:, None, :, None], batch["delay"])
        frames = outputs.onset_logits.shape[1]
        targets = make_targets(batch, model.config, frames)
        parts = transcription_losses(outputs, targets, model.config)
        loss = (
            parts.onset
            + recipe.parent_weight * parts.parent
            + recipe.velocity_weight * parts.velocity
            + recipe.offset_weight * parts.offset
            + recipe.alignment_weight * alignment
        )
        return {"loss": loss, **parts._asdict(), "alignment": alignment}

    def _read(self, latents: Tensor, delay: Tensor) -> Any:
        """The clip in chunks with the state carried over: the streaming path is what is trained."""
        state = self.model.zero_state(len(latents))
        outputs = []
        for chunk in latents.split(self.recipe.chunk_tokens, dim=1):
            output = self.model.read(chunk, delay, *state)
            state = output[3:]
            outputs.append(output[:3])
        return type(output)(*(torch.cat(part, dim=1) for part in zip(*outputs, strict=True)), *state)

    def _alignment(self, latents: Tensor) -> Tensor:
        tokens = latents[:, :: max(1, latents.shape[1] // ALIGNED_TOKENS)]
        projected = [layer(tokens[:, :, i]) for i, layer in enumerate(self.align)]
        return alignment_loss(torch.stack(projected, dim=2))


class Trainer:
    """Runs a recipe in a folder; a second run in the same folder goes on where the first stopped."""

    def __init__(
        self,
        config: ModelConfig,
        recipe: Recipe,
        sources: Sources,
        folder: Path,
        provenance: dict[str, Any],
        parent: Checkpoint | None = None,
    ):
        """A new run starts from `parent`'s averaged weights where one is given, with a fresh optimiser and schedule."""
        self.accelerator = Accelerator()
        self.recipe, self.folder, self.sources, self.provenance = recipe, folder, sources, provenance
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        module = TrainingStep(config, recipe)
        if parent:
            _start_from(module, parent, config)
            self.provenance = {**provenance, "parent": _ancestry(parent)}
        decayed = [p for p in module.parameters() if p.ndim >= 2]
        plain = [p for p in module.parameters() if p.ndim < 2]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
        )
        self.module, self.optimizer = self.accelerator.prepare(module, optimizer)
        self.config = config
        self.average = {name: value.detach().clone() for name, value in self._model().state_dict().items()}
        self.step, self.best = 0, math.inf
        self._resume()

    def run(self, max_minutes: float | None = None) -> Path:
        """Train until the recipe's steps or the minutes are over; returns the path of the best checkpoint."""
        deadline = time.monotonic() + 60 * (max_minutes or math.inf)
        bar = tqdm(total=self.recipe.steps, initial=self.step, disable=not self.accelerator.is_local_main_process)
        for batch in self._batches():
            parts = self._train_on(batch)
            bar.update()
            if self.step % 20 == 0:
                bar.set_postfix({name: f"{value:.3f}" for name, value in parts.items()})
                self._log({"kind": "train", **parts})
            over = self.step >= self.recipe.steps or self._agreed(time.monotonic() > deadline)
            if over or self.step % self.recipe.validation_every == 0:
                self._validate()
                self._save_last()
            if over:
                break
        bar.close()
        return self.folder / "best.pt"

    def _agreed(self, over: bool) -> bool:
        """The same answer in every process: one that stopped alone would leave the others waiting for it."""
        flag = torch.tensor([float(over)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def _batches(self) -> Iterator[Batch]:
        dataset = self._dataset("train", self.recipe.seed)
        on_cpu = self.accelerator.device.type == "cpu"
        numbers = range(self.step, self.recipe.steps)
        # On a GPU the renderer shares it with the model; on a CPU one worker renders ahead.
        loader = DataLoader(
            dataset, batch_size=None, sampler=numbers, num_workers=int(on_cpu), prefetch_factor=4 if on_cpu else None
        )
        yield from loader

    def _dataset(self, split: str, seed: int) -> RenderedBatches:
        return RenderedBatches(
            self.config,
            self.sources,
            clips=self.recipe.clips,
            tokens=self.recipe.tokens,
            split=split,
            seed=seed,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            device=str(self.accelerator.device),
        )

    def _train_on(self, batch: Batch) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * self._schedule()
        self.module.train()
        parts = self.module(self._on_device(batch))
        self.accelerator.backward(parts["loss"])
        self.accelerator.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self._update_average()
        return {name: float(value.detach()) for name, value in parts.items()} if self.step % 20 == 0 else {}

    def _on_device(self, batch: Batch) -> Batch:
        return {name: value.to(self.accelerator.device) for name, value in batch.items()}

    def _schedule(self) -> float:
        """Linear warm-up, then a cosine to 2 % of the rate."""
        warm = min(1.0, (self.step + 1) / self.recipe.warmup_steps)
        progress = min(1.0, self.step / self.recipe.steps)
        return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))

    @torch.no_grad()
    def _update_average(self) -> None:
        # Short memory at first: the average of the first steps is worth nothing later.
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        for name, value in self._model().state_dict().items():
            self.average[name].lerp_(value.detach(), 1 - decay)

    @torch.no_grad()
    def _validate(self) -> None:
        """Loss of the averaged weights on fixed renders of held-out kits and grooves; the best so far is kept."""
        module = TrainingStep(self.config, self.recipe).to(self.accelerator.device).eval()
        module.align.load_state_dict(self.accelerator.unwrap_model(self.module).align.state_dict())
        module.model.load_state_dict(self.average)
        dataset = self._dataset("validation", 1)
        results = [module(self._on_device(dataset[i])) for i in range(self.recipe.validation_batches)]
        means = {name: torch.stack([r[name] for r in results]).mean() for name in results[0]}
        means = {name: float(self.accelerator.reduce(value, "mean")) for name, value in means.items()}
        self._log({"kind": "validation", **means})
        if means["onset"] < self.best and self.accelerator.is_main_process:
            self.best = means["onset"]
            checkpoints.save(self.folder / "best.pt", self._checkpoint(training={}))

    def _checkpoint(self, training: dict[str, Any]) -> Checkpoint:
        provenance = {**self.provenance, "recipe": asdict(self.recipe), "step": self.step}
        return Checkpoint(self.config, dict(self.average), provenance, training=training)

    def _save_last(self) -> None:
        if not self.accelerator.is_main_process:
            return
        module = self.accelerator.unwrap_model(self.module)
        training = {
            "module": module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
        }
        checkpoints.save(self.folder / "last.pt", self._checkpoint(training))

    def _resume(self) -> None:
        path = self.folder / "last.pt"
        if not path.exists():
            return
        last = checkpoints.load(path)
        if last.config != self.config:
            raise UsageError(f"{path} holds another model shape; choose another folder or the same preset")
        origin, given = last.provenance.get("parent"), self.provenance.get("parent")
        if given and given != origin:
            raise UsageError(f"{path} goes on from other weights than those given; choose another folder")
        if origin:  # a resumed run still says where it came from
            self.provenance = {**self.provenance, "parent": origin}
        self.accelerator.unwrap_model(self.module).load_state_dict(last.training["module"])
        self.optimizer.load_state_dict(last.training["optimizer"])
        self.step, self.best = last.training["step"], last.training["best"]
        self.average = {name: value.to(self.accelerator.device) for name, value in last.weights.items()}

    def _model(self) -> DrumTransformer:
        return self.accelerator.unwrap_model(self.module).model

    def _log(self, values: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with (self.folder / "metrics.jsonl").open("a") as handle:
                handle.write(json.dumps({"step": self.step, "time": round(time.time()), **values}) + "\n")


def _start_from(module: TrainingStep, parent: Checkpoint, config: ModelConfig) -> None:
    """The parent's averaged weights; its alignment layers only where the parent is a checkpoint to resume from."""
    ours, theirs = config.to_dict(), parent.config.to_dict()
    if different := [key for key in ours if key != "name" and ours[key] != theirs[key]]:
        pairs = ", ".join(f"{key} {theirs[key]} instead of {ours[key]}" for key in different)
        raise UsageError(f"the checkpoint to start from has another shape: {pairs}; choose the preset it was made with")
    module.model.load_state_dict(parent.weights)
    states = parent.training.get("module", {})
    align = {name.removeprefix("align."): value for name, value in states.items() if name.startswith("align.")}
    if align:
        module.align.load_state_dict(align)


def _ancestry(parent: Checkpoint) -> dict[str, Any]:
    """What the provenance keeps of the weights that a run started from: their hash, and how they were made."""
    return {"weights_sha256": parent.weights_sha256(), **parent.provenance}
