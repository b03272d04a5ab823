"""A checkpoint: one `.pt` file of tensors and plain data, loaded only with `weights_only=True`.

Nothing is ever unpickled, so a checkpoint from a stranger cannot run code.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..runtime.errors import InputError, OutputError, UsageError
from ..runtime.files import put_in_place, writing, written_aside
from ..runtime.manifest import Manifest
from ..runtime.vocabulary import NOTE_OF, PARENTS
from .config import FrameGrid, ModelConfig
from .kinds import KINDS, STREAMING
from .lineage import flat
from .transformer import DrumTransformer, Transcriber, state_shapes

__all__ = ["FORMAT", "Checkpoint", "check_place", "load", "save"]

FORMAT = 2  # 2: says which kind of model it holds
LOOKAHEAD_FRAMES = 1  # the decoder's rule for a local maximum
REFRACTORY_FRAMES = 3
DEFAULT_THRESHOLD = 0.5
ALSO_THRESHOLD = 0.8  # two toms or cymbals at once are rarer than doubt between them
# What torch.load raises for bytes that are no checkpoint, or one that would run code.
UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    pickle.UnpicklingError,
)
# What its contents raise where they are not what training wrote: wrong types, sizes of 0, weights that do not fit.
UNFIT = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
# What a file holds besides its format and kind. What has a default may be absent.
FIELDS = {"config": dict, "weights": dict, "provenance": dict, "scores": dict, "thresholds": list, "training": dict}


@dataclass
class Checkpoint:
    """Weights with all that is needed to use, export or go on training them."""

    config: FrameGrid
    weights: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)  # data, licences, recipe, commit; lineage.py
    scores: dict[str, Any] = field(default_factory=dict)
    thresholds: list[list[float]] = field(default_factory=list)  # [delays][parents], probabilities
    training: dict[str, Any] = field(default_factory=dict)  # optimiser, step: only in checkpoints to resume from

    def __post_init__(self) -> None:
        if not self.thresholds:
            self.thresholds = [[DEFAULT_THRESHOLD] * len(PARENTS) for _ in self.config.delays_ms]

    def halved(self) -> Checkpoint:
        """The same with weights in float16, to be stored in half the size; a model computes with what they round to."""
        return replace(self, weights=_cast(self.weights, torch.float16))

    def model(self) -> Transcriber:
        """The model with these weights, in evaluation mode."""
        model = KINDS[self.config.kind].model(self.config)
        model.load_state_dict(self.weights)
        return model.eval()

    def streaming_model(self) -> DrumTransformer:
        """The same, of the kind that streams. Raises UsageError for another kind."""
        model = self.model()
        if not isinstance(model, DrumTransformer):
            raise UsageError(f"a model of kind {self.config.kind} does not stream; give one of kind {STREAMING}")
        return model

    def manifest(self) -> Manifest:
        """What a runtime needs to know, for the exported artifact. Of a whole-file model: what its decoder needs."""
        c = self.config
        states = state_shapes(c) if isinstance(c, ModelConfig) else {}
        return Manifest.from_dict(
            {
                "schema_version": 1,
                "name": c.name,
                "sample_rate": c.sample_rate,
                "samples_per_token": c.samples_per_token,
                "frames_per_token": c.frames_per_token,
                "classes": [{"code": code, "note": NOTE_OF[code]} for code in c.classes],
                "delays_ms": list(c.delays_ms),
                "default_delay": self.scores.get("default_delay", len(c.delays_ms) - 1),
                "decoder": {
                    "lookahead_frames": LOOKAHEAD_FRAMES,
                    "refractory_frames": REFRACTORY_FRAMES,
                    "parents": [list(parent) for parent in PARENTS],
                    "thresholds": self.thresholds,
                    "also_threshold": ALSO_THRESHOLD,
                },
                "states": {name: list(shape) for name, shape in states.items()},
                "precision": "float32",
                "weights_sha256": self.weights_sha256(),
                "licence": self.provenance.get("licence", ""),
                "training": self.provenance,
                "scores": self.scores,
                "verified": False,
                "notes": [] if states else ["whole file: this kind of model hears the end before it answers"],
            }
        )

    def weights_sha256(self) -> str:
        """Hash of names and values, independent of the file's layout."""
        digest = hashlib.sha256()
        for name, value in sorted(self.weights.items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()


def check_place(path: Path) -> None:
    """Before work whose result goes to `path`: raise OutputError where it cannot be written."""
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: is no folder; make it first")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file in it")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path.parent}: cannot be written to; name a file elsewhere")


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Whole or not at all, so that an interrupted save never costs the last good one. Raises OutputError."""
    check_place(path)
    document = {
        "format": FORMAT,
        "kind": checkpoint.config.kind,
        "config": checkpoint.config.to_dict(),
        "weights": {name: value.detach().cpu() for name, value in checkpoint.weights.items()},
        "provenance": checkpoint.provenance,
        "scores": checkpoint.scores,
        "thresholds": checkpoint.thresholds,
        "training": checkpoint.training,
    }
    with written_aside(path) as aside, writing(path):
        try:
            torch.save(document, aside)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(str(error).splitlines()[0]) from error
        put_in_place(aside, path)


def load(path: Path, kind: str | None = STREAMING) -> Checkpoint:
    """Read a checkpoint; its weights come in float32, however they are stored.

    Raises InputError for a missing file, one that is damaged or not ours, or of a newer format, and for one of another
    kind of model than asked for; `kind=None` takes any.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give a .pt file written by `ghostnote train`")
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise InputError(
            f"{path}: not a ghostnote checkpoint ({type(error).__name__}); expected a .pt of `ghostnote train`"
        ) from error
    if not isinstance(document, dict) or "format" not in document or "config" not in document:
        raise InputError(f"{path}: a torch file, but not a ghostnote checkpoint; expected a .pt of `ghostnote train`")
    form, found = document.pop("format"), document.pop("kind", STREAMING)
    if form not in range(FORMAT + 1) or not isinstance(found, str) or found not in KINDS:
        raise InputError(f"{path}: a checkpoint of a newer version than this one; upgrade ghostnote")
    if kind not in (None, found):
        raise InputError(f"{path}: holds a model of kind {found}, expected {kind}; give a checkpoint of that kind")
    try:
        return _checked(found, document)
    except UNFIT as error:
        raise InputError(f"{path}: a damaged checkpoint ({' '.join(str(error).split())}); take another copy") from error


def _cast(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}


def _checked(kind: str, document: dict[str, Any]) -> Checkpoint:
    """The checkpoint of a document. Raises one of `UNFIT` where it could not be used."""
    for name, value in document.items():
        if not isinstance(value, FIELDS.get(name, ())):
            raise TypeError(f"{name} is a {type(value).__name__}")
    config = KINDS[kind].config.from_dict(document["config"])
    if unknown := [code for code in config.classes if code not in NOTE_OF]:
        raise ValueError(f"unknown classes {', '.join(map(str, unknown))}")
    checkpoint = Checkpoint(**document | {"config": config, "provenance": flat(document.get("provenance", {}))})
    strangers = [k for k, v in checkpoint.weights.items() if not isinstance(k, str) or not isinstance(v, Tensor)]
    if strangers:
        raise TypeError(f"weights {', '.join(map(str, strangers))} are no named tensors")
    checkpoint.weights = _cast(checkpoint.weights, torch.float32)
    with torch.random.fork_rng(devices=[]):  # or reading a file would change what is drawn after it
        checkpoint.model()
    return checkpoint
