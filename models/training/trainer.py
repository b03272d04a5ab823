"""The training loop: one process or many (Hugging Face Accelerate), exact resume, averaged weights (EMA) as the result.

Files in the run's folder: `last.pt` (to resume from), `best.pt` (EMA weights with the lowest validation loss),
`metrics.jsonl`.
"""

from __future__ import annotations

import functools
import math
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ...runtime.errors import GhostnoteError, UsageError
from ...runtime.files import make_folder
from .. import checkpoint as checkpoints
from ..checkpoint import Checkpoint
from ..config import FrameGrid, ModelConfig
from ..data.dataset import Batch, RenderedBatches, Sources, loaded
from ..data.recorded import MixedBatches, RecordedClips
from ..data.store import StoredBatches
from ..growth import can_widen, widened
from ..kinds import KINDS
from ..lineage import descended
from ..transformer import Transcriber
from .optimizers import optimizers
from .steps import Recipe, Step
from .tracking import JsonLines, check_trackers

__all__ = ["PRECISIONS", "Recipe", "Trainer", "TrainingError"]

PRECISIONS = ("no", "bf16", "fp16")
PROJECT = "ghostnote"  # under which trackers file the runs

CPU_WORKERS = 2  # processes that render, where the network trains on the CPU
# What may be another when a run goes on: how long it is, its pace, and how it is watched. All else decides what is
# learnt from which batch, and half a run of each would be neither.
FREE = {"steps", "warmup_steps", "learning_rate", "validation_every", "validation_batches"}
SHAPELESS = {"name", "softening"}  # of a configuration: weights fit whatever these are

OnValidation = Callable[[int, dict[str, float]], None]


class TrainingError(GhostnoteError):
    """A run that made no weights."""


class Trainer:
    """Runs a recipe in a folder; a second run in the same folder goes on where the first stopped."""

    def __init__(
        self,
        config: FrameGrid,
        recipe: Recipe,
        sources: Sources,
        folder: Path,
        provenance: dict[str, Any],
        parent: Checkpoint | None = None,
        *,
        teacher: Checkpoint | None = None,
        build: Callable[..., Step] | None = None,
        trackers: tuple[str, ...] = (),
    ):
        """A new run starts from `parent`'s averaged weights where one is given, with a fresh optimiser and schedule.

        A `teacher`, of any kind, adds its onset probabilities to what is learnt. `build` makes the module to train from
        config, recipe and the teacher's model (or None): `forward(batch)` gives `loss`, `onset` (its lowest validation
        value marks the best checkpoint) and whatever else shall be logged; `.model` is what checkpoints hold. Default:
        that of the config's kind. Raises UsageError for what does not go together or cannot be had here.
        """
        check_trackers(trackers)
        make_folder(folder)
        self.metrics = JsonLines(folder / "metrics.jsonl")
        self.accelerator = _accelerator(recipe.precision, [self.metrics, *trackers])
        self.recipe, self.folder, self.sources, self.provenance = recipe, folder, sources, provenance
        self.config = config
        self.recordings = self._recordings()
        if sources.corpora:
            self.provenance = {**self.provenance, "corpora": _corpora(sources)}
        self.build = functools.partial(build or KINDS[config.kind].step, teacher=_taught(teacher, config))
        torch.manual_seed(recipe.seed)
        module = self.build(config, recipe)
        if parent:
            _start_from(module, parent, config)
            self.provenance = descended(self.provenance, "parent", parent)
        if teacher:
            self.provenance = descended(self.provenance, "teacher", teacher)
        self.module, *self.optimizers = self.accelerator.prepare(module, *optimizers(module, recipe))
        self.average = {name: value.detach().clone() for name, value in self._model().state_dict().items()}
        self.step, self.best, self.run_id = 0, math.inf, uuid.uuid4().hex
        self._resume()

    def run(self, max_minutes: float | None = None, on_validation: OnValidation | None = None) -> Path:
        """Train until the recipe's steps or the minutes are over; returns the path of the best checkpoint.

        Stopped by the minutes, a run is saved but not validated: whether it is stopped must not change which weights
        are the best. `on_validation` gets step and losses after each validation is saved; what it raises ends the run.
        Raises TrainingError where a loss is no number; `on_validation` is told before, and nothing is saved.
        """
        deadline = time.monotonic() + 60 * (math.inf if max_minutes is None else max_minutes)
        held_out = self._dataset("validation", 1)  # now, so that what it lacks is told before anything was trained
        self._start_tracking()
        bar = tqdm(total=self.recipe.steps, initial=self.step, disable=not self.accelerator.is_local_main_process)
        try:
            for batch in self._batches():
                parts = self._train_on(batch)
                bar.update()
                if self.step % 20 == 0:
                    bar.set_postfix({name: f"{value:.3f}" for name, value in parts.items()})
                    self._log("train", parts)
                stopped = self._agreed(time.monotonic() > deadline)
                if self.step >= self.recipe.steps or self.step % self.recipe.validation_every == 0:
                    losses = self._validate(held_out)
                    if sound := all(map(math.isfinite, losses.values())):
                        self._save_last()
                    if on_validation:
                        on_validation(self.step, losses)
                    if not sound:
                        raise self._no_number()
                elif stopped:
                    self._save_last()
                    self._save_first_best()
                if stopped:
                    break
        finally:
            bar.close()
            for tracker in self.accelerator.trackers:
                tracker.finish()
        return self.folder / "best.pt"

    def _agreed(self, over: bool) -> bool:
        """The same answer in every process: one that stopped alone would leave the others waiting for it."""
        flag = torch.tensor([float(over)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def _batches(self) -> Iterator[Batch]:
        dataset = self._dataset("train", self.recipe.seed)
        on_cpu = self.accelerator.device.type == "cpu"
        numbers = range(self.step, self.recipe.steps)
        # On a GPU the renderer shares it with the model; on a CPU workers render ahead, each slower than the network.
        workers, ahead = (CPU_WORKERS, 4) if on_cpu else (0, None)
        yield from loaded(dataset, numbers, workers, ahead)

    def _dataset(self, split: str, seed: int) -> Dataset[Batch]:
        """Renders; in training mixed with recordings, where there are any."""
        training = split == "train"
        one_delay = self.recipe.one_delay_steps if training else 0
        renders = RenderedBatches(
            self.config, self.sources, split=split, seed=seed, one_delay=one_delay, **self._shares()
        )
        batches: Dataset[Batch] = renders
        if self.sources.store:
            distinct = self.sources.distinct if training else self.recipe.validation_batches
            batches = StoredBatches(renders, self.sources, self.sources.store, distinct)
        if training and self.recordings:
            batches = MixedBatches(batches, self.recordings, self.sources.corpus_share)
        return batches

    def _recordings(self) -> RecordedClips | None:
        recordings = [recording for found in self.sources.corpora.values() for recording in found]
        if not recordings:
            return None
        one_delay = self.recipe.one_delay_steps
        return RecordedClips(
            self.config,
            recordings,
            seed=self.recipe.seed,
            one_delay=one_delay,
            recipe=self.sources.recipe,
            **self._shares(),
        )

    def _shares(self) -> dict[str, Any]:
        """This process's share of every batch."""
        return {
            "clips": self.recipe.clips,
            "tokens": self.recipe.tokens,
            "rank": self.accelerator.process_index,
            "world": self.accelerator.num_processes,
            "device": str(self.accelerator.device),
        }

    def _train_on(self, batch: Batch) -> dict[str, float]:
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = self.recipe.learning_rate * self._schedule()
        self.module.train()
        # Whatever a module draws (dropout) depends on the step, not on what was drawn before: runs resume exactly.
        number = self.step * self.accelerator.num_processes + self.accelerator.process_index
        torch.manual_seed(self.recipe.seed * 1_000_003 + number)
        parts = self.module(self._on_device(batch))
        self.accelerator.backward(parts["loss"])
        self._move(self.accelerator.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm))
        self.step += 1
        self._update_average()
        return {name: float(value.detach()) for name, value in parts.items()} if self.step % 20 == 0 else {}

    def _move(self, norm: Tensor) -> None:
        """One step of every optimiser along its gradients, whose norm together is given.

        None along gradients that are no numbers: clipping spreads one to all weights, and none would come back.
        """
        scaler = self.accelerator.scaler
        if norm.isfinite():
            for optimizer in self.optimizers:
                if scaler is None:
                    optimizer.step()
                else:  # fp16. Accelerate would update the scaler after each, and unscale the next one's gradients again
                    scaler.step(optimizer.optimizer)
        if scaler is not None:
            scaler.update()
        for optimizer in self.optimizers:
            optimizer.zero_grad()

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
            if value.is_floating_point():
                self.average[name].lerp_(value.detach(), 1 - decay)
            else:  # counters of batch normalisation
                self.average[name].copy_(value)

    @torch.no_grad()
    def _validate(self, held_out: Dataset[Batch]) -> dict[str, float]:
        """Loss of the averaged weights on fixed renders of held-out kits and grooves; the best so far is kept."""
        module = self.build(self.config, self.recipe).to(self.accelerator.device).eval()
        module.load_state_dict(self.accelerator.unwrap_model(self.module).state_dict())
        module.model.load_state_dict(self.average)
        results = [module(self._on_device(held_out[i])) for i in range(self.recipe.validation_batches)]
        ours = {name: torch.stack([r[name] for r in results]).mean() for name in results[0]}
        means = {name: float(self.accelerator.reduce(value, "mean")) for name, value in ours.items()}
        self._log("validation", means)
        if means["onset"] < self.best and self.accelerator.is_main_process:
            self.best = means["onset"]
            checkpoints.save(self.folder / "best.pt", self._checkpoint(training={}))
        return means

    def _no_number(self) -> TrainingError:
        """What ends a run whose loss on validation is no number: its weights have not replaced those of last.pt."""
        last = self.folder / "last.pt"
        kept = f"{last} is as it was; go on from it" if last.exists() else "nothing was saved; begin"
        return TrainingError(
            f"{self.folder}: a loss on validation is no number after step {self.step}, and neither are some weights; "
            f"{kept} with another --learning-rate"
        )

    def _save_first_best(self) -> None:
        """Where nothing was validated yet: weights to look at, which the first that are validated replace."""
        path = self.folder / "best.pt"
        early = self.step < self.recipe.validation_every
        if early and self.accelerator.is_main_process and not path.exists():
            checkpoints.save(path, self._checkpoint(training={}))

    def _checkpoint(self, training: dict[str, Any]) -> Checkpoint:
        provenance = {**self.provenance, "recipe": asdict(self.recipe), "step": self.step}
        return Checkpoint(self.config, dict(self.average), provenance, training=training)

    def _save_last(self) -> None:
        if not self.accelerator.is_main_process:
            return
        module = self.accelerator.unwrap_model(self.module)
        training = {
            "module": module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "best": self.best,
            "run_id": self.run_id,
        }
        if self.accelerator.scaler is not None:  # fp16
            training["scaler"] = self.accelerator.scaler.state_dict()
        checkpoints.save(self.folder / "last.pt", self._checkpoint(training))

    def _resume(self) -> None:
        path = self.folder / "last.pt"
        if not path.exists():
            return
        last = checkpoints.load(path, kind=None)
        if last.config != self.config:
            raise UsageError(f"{path} holds another model shape; choose another folder or the same preset")
        if "optimizers" not in last.training:
            raise UsageError(f"{path} is of an earlier version; start from its weights (--init) in another folder")
        origin, given = last.provenance.get("parent"), self.provenance.get("parent")
        if given and given != origin:
            raise UsageError(f"{path} goes on from other weights than those given; choose another folder")
        if last.provenance.get("teacher") != self.provenance.get("teacher"):
            raise UsageError(f"{path} had another teacher, or none; go on with the same, or choose another folder")
        if last.provenance.get("corpora") != self.provenance.get("corpora"):
            raise UsageError(f"{path} learnt from other recordings, or another share; give the same, or another folder")
        if different := _different(last.provenance, {**self.provenance, "recipe": asdict(self.recipe)}):
            raise UsageError(f"{path} was trained with {different}; go on with the same, or choose another folder")
        if origin:  # a resumed run still says where it came from
            known = last.provenance.get("ancestors", {}) | self.provenance.get("ancestors", {})
            self.provenance = {**self.provenance, "parent": origin, "ancestors": known}
        self.accelerator.unwrap_model(self.module).load_state_dict(last.training["module"])
        for optimizer, state in zip(self.optimizers, last.training["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        if self.accelerator.scaler is not None and "scaler" in last.training:
            self.accelerator.scaler.load_state_dict(last.training["scaler"])
        self.run_id = last.training.get("run_id", self.run_id)
        self.step, self.best = last.training["step"], last.training["best"]
        self.average = {name: value.to(self.accelerator.device) for name, value in last.weights.items()}

    @property
    def parameters(self) -> int:
        """How many numbers the model learns, without what belongs to the loss."""
        return sum(parameter.numel() for parameter in self._model().parameters())

    def _model(self) -> Transcriber:
        return self.accelerator.unwrap_model(self.module).model

    def _start_tracking(self) -> None:
        """Once per run: a resumed run goes on under its old id, and its file where its weights do."""
        if self.accelerator.is_main_process:
            self.metrics.forget_after(self.step)
        shape = {f"model.{name}": value for name, value in self.config.to_dict().items()}
        wandb = {"dir": str(self.folder), "name": self.folder.name, "id": self.run_id, "resume": "allow"}
        self.accelerator.init_trackers(PROJECT, {**asdict(self.recipe), **shape}, {"wandb": wandb})

    def _log(self, kind: str, values: dict[str, float]) -> None:
        self.accelerator.log({f"{kind}/{name}": value for name, value in values.items()}, step=self.step)


def _different(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What two provenances decide otherwise, by name; the earlier one may be of a version that told less."""
    theirs, ours = _decisions(before), _decisions(now)
    names = [name for name in ours if name in theirs and theirs[name] != ours[name]]
    return ", ".join(
        f"another {name}" if isinstance(ours[name], Mapping) else f"{name} {theirs[name]} instead of {ours[name]}"
        for name in names
    )


def _decisions(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """All of a provenance that decides what is learnt from which batch, by name."""
    told = {name: value for name, value in provenance.get("recipe", {}).items() if name not in FREE}
    if "rendering" in provenance:
        told["render recipe"] = provenance["rendering"]
    if "data" in provenance:
        told["data"] = " and ".join(sorted(provenance["data"]))
    return told


def _accelerator(precision: str, trackers: list[Any]) -> Accelerator:
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
    accelerator = Accelerator(mixed_precision=precision, log_with=trackers)
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise UsageError("fp16 needs a GPU, and there is none to use; use bf16 or no")
    if precision == "bf16" and accelerator.device.type == "cpu" and not _computes_bfloat16():
        warnings.warn(
            "no instructions for bfloat16 on this processor, where a step takes many times as long; use --precision no",
            stacklevel=2,
        )
    return accelerator


def _computes_bfloat16() -> bool:
    """Whether oneDNN has kernels in bfloat16 for this processor (AVX-512, AMX, ARM with BF16)."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _start_from(module: Step, parent: Checkpoint, config: FrameGrid) -> None:
    """The parent's averaged weights, widened where it has fewer heads.

    What belongs to the loss comes along only where the parent is a checkpoint to resume from.
    """
    if parent.config.kind != config.kind:
        raise UsageError(f"the checkpoint to start from holds a model of kind {parent.config.kind}, not {config.kind}")
    beside = {name: value for name, value in parent.training.get("module", {}).items() if not name.startswith("model.")}
    fitting = _fitting(parent, config)  # first: what belongs to the loss depends on the shape, too
    module.load_state_dict({**module.state_dict(), **beside})
    module.model.load_state_dict(fitting)


def _fitting(parent: Checkpoint, config: FrameGrid) -> dict[str, Tensor]:
    """The parent's weights in the shape of `config`. Raises UsageError where they cannot have it."""
    ours, theirs = config.to_dict(), parent.config.to_dict()
    different = [key for key in ours if key not in SHAPELESS and ours[key] != theirs[key]]
    if not different:
        return parent.weights
    if isinstance(config, ModelConfig) and isinstance(parent.config, ModelConfig) and can_widen(parent.config, config):
        return widened(parent.weights, parent.config, config)
    pairs = ", ".join(f"{key} {theirs[key]} instead of {ours[key]}" for key in different)
    raise UsageError(
        f"the checkpoint to start from has another shape: {pairs}; choose the preset it was made with, "
        "or one that has more heads of the same size and is the same otherwise"
    )


def _taught(teacher: Checkpoint | None, config: FrameGrid) -> Transcriber | None:
    """The teacher's model, if its frames and classes are the student's."""
    if teacher is None:
        return None
    theirs = teacher.config
    if (theirs.classes, theirs.sample_rate, theirs.samples_per_frame) != (
        config.classes,
        config.sample_rate,
        config.samples_per_frame,
    ):
        raise UsageError("the teacher has other classes or frames than the student; choose another checkpoint")
    return teacher.model()


def _corpora(sources: Sources) -> dict[str, Any]:
    """What the provenance keeps of recordings: which corpora, what their licences say, their share of the batches."""
    kinds = {
        kind: {"recordings": len(found), "licences": sorted({recording.licence for recording in found})}
        for kind, found in sources.corpora.items()
    }
    return {"share": sources.corpus_share, **kinds}
