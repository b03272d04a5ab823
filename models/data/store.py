"""Renders kept on disk and heard again: rendering costs more than a training step, and a second hearing costs little.

The first `distinct` batches are rendered once, by whoever needs one first (the workers of a training run,
`ghostnote render-data` beside it, an earlier run with the same settings), and written whole or not at all. Batch i is
kept batch i mod `distinct`. From the second pass on it sounds different: slower and lower, cut elsewhere, through
another equaliser, at another level, with another delay to report at (stage `reuse` of the render recipe).

A store has a folder for every set of renders (`<recipe>-<digest>`, described by its `renders.json`), in it a file for
every batch and process, `<seed>-<split>-<rank>of<world>-<number>.npz`: audio as int16 beside its peak, and the labels.
The digest covers the recipe, the renderer's code, and what is in the folders of sounds and grooves, wherever they lie.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ...runtime.errors import UsageError
from ...runtime.files import make_folder, put_in_place, writing, written_aside
from . import effects
from .dataset import Batch, RenderedBatches, Sources
from .drums.kits import kit_rows
from .music.instruments import backing_rows
from .music.passages import passage_rows
from .packed import SAMPLE_RATE, fingerprint
from .performances.grooves import groove_files
from .recipe import Draws
from .renderer import Clips
from .reuse import heard_again

__all__ = ["Filling", "StoredBatches"]

AFTERWARDS = ("reuse", "beginning")  # stages of what is taken from the store, not of what is kept


class StoredBatches(Dataset[Batch]):
    """`self[i]` in the form of `RenderedBatches`."""

    def __init__(self, rendered: RenderedBatches, sources: Sources, store: Path, distinct: int):
        """Raises UsageError where no batch shall be kept."""
        if distinct < 1:
            raise UsageError(f"a store of {distinct} batches holds nothing to train on; keep at least one")
        self.rendered, self.distinct, self.recipe = rendered, distinct, rendered.recipe
        self.folder = _folder(store, rendered, sources)

    def __getitem__(self, index: int) -> Batch:
        passes, number = divmod(index, self.distinct)
        clips = self._clips(number)
        if passes == 0:
            return self.rendered.batch(index, clips, self.rendered.draws(number))
        draws = self.rendered.draws(number, passes)
        if "reuse" in self.recipe:
            clips = self._changed(clips, draws)
        return self.rendered.batch(index, clips, draws)

    def keep(self, number: int) -> None:
        """Render batch `number` unless the store has it. Raises OutputError."""
        if not self._path(number).exists():
            self._render(number)

    def _clips(self, number: int) -> Clips:
        """Batch `number` as it is kept; one that cannot be read (a disk that was full or failed) is rendered anew."""
        self.keep(number)
        try:
            return _load(self._path(number), self.rendered.device)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            self._render(number)
        return _load(self._path(number), self.rendered.device)

    def _render(self, number: int) -> None:
        _save(self._path(number), self.rendered.render(number))

    def _path(self, number: int) -> Path:
        r = self.rendered
        return self.folder / f"{r.seed[0]}-{r.seed[1]}-{r.rank}of{r.world}-{number:06d}.npz"

    def _changed(self, clips: Clips, draws: list[Draws]) -> Clips:
        """The same clips on a later pass."""
        settings = self.recipe["reuse"]
        audio, times, classes = clips.audio.clone(), clips.times.clone(), clips.classes.clone()
        seconds = audio.shape[1] / SAMPLE_RATE
        for row, d in enumerate(draws):
            audio[row], stretch, start_s = heard_again(audio[row], d["reuse"], settings)
            times[row] = times[row] * stretch - start_s
            classes[row][(times[row] < 0) | (times[row] >= seconds)] = -1
        audio = effects.through(effects.LEVEL, audio, draws, self.recipe)
        return clips._replace(audio=audio, times=times, classes=classes)


class Filling(Dataset[int]):
    """`self[i]` sees to it that batch i is in the store, and is i: reading it back would be for nothing."""

    def __init__(self, batches: StoredBatches):
        self.batches = batches

    def __len__(self) -> int:
        return self.batches.distinct

    def __getitem__(self, index: int) -> int:
        self.batches.keep(index)
        return index


def _save(path: Path, clips: Clips) -> None:
    peak = clips.audio.abs().amax(dim=1).clamp(min=1e-6)
    audio = (clips.audio / peak[:, None] * 32767).round().to(torch.int16)
    arrays = {**clips._asdict(), "audio": audio, "peak": peak}
    with written_aside(path) as aside:
        with writing(path), aside.open("wb") as file:
            np.savez(file, **{name: value.cpu().numpy() for name, value in arrays.items()})
        put_in_place(aside, path)


def _load(path: Path, device: str) -> Clips:
    with np.load(path) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]).to(device) for name in arrays.files}
    peak = tensors.pop("peak")
    tensors["audio"] = tensors["audio"].float() * (peak[:, None] / 32767)
    return Clips(**tensors)


def _folder(store: Path, rendered: RenderedBatches, sources: Sources) -> Path:
    """The folder of these renders, with a description beside them. Another state of the renderer's code has another."""
    stages = {name: dict(stage) for name, stage in rendered.recipe.stages.items() if name not in AFTERWARDS}
    about = {
        "stages": stages,
        "clips": rendered.clips,
        "tokens": rendered.tokens,
        "sources": _contents(sources),
        "code": code_digest(Path(__file__).parent),
    }
    text = json.dumps(about, indent=1) + "\n"
    folder = store / f"{rendered.recipe.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    make_folder(folder)
    (folder / "renders.json").write_text(text, encoding="utf-8")
    return folder


def code_digest(folder: Path) -> str:
    """SHA-256 of all modules that render: those under a folder, without commands and what imports others' sounds."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        if not path.stem.endswith("command") and path.parent.name != "packs":
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _contents(sources: Sources) -> dict[str, str | None]:
    """A digest of what is in every folder; None where there is none."""
    kits, grooves, backing = sources.kits, sources.grooves, sources.backing
    return {
        "kits": fingerprint(kits, kit_rows(kits)) if kits else None,
        "grooves": _played(grooves) if grooves else None,
        "backing": fingerprint(backing, [*backing_rows(backing), *passage_rows(backing)]) if backing else None,
    }


def _played(folder: Path) -> str:
    """A digest of a folder's MIDI files and of the table that gives them their splits, if it has one."""
    digest = hashlib.sha256()
    for path in [*folder.glob("info.csv"), *groove_files(folder)]:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
