"""Drum sounds: a folder of one-shots with `kits.csv`, kits from our synthesiser, and the choice of a kit for a clip."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ....runtime.errors import InputError
from ....runtime.vocabulary import CODES
from ..packed import Columns, packed, read_table, to_int16, zero_to_one
from ..recipe import Draws, RenderRecipe
from .synthesiser import synthesise_kit

__all__ = ["OTHER", "Kit", "KitShelf", "Sound", "kit_rows"]

OTHER = "OTHER"  # percussion that is no target: rendered, never labelled


@dataclass(frozen=True, slots=True)
class Sound:
    """One one-shot: loudness rank 0..1 inside its class, playing technique, and samples [n] int16 at 44.1 kHz."""

    rank: float
    articulation: str
    samples: np.ndarray


@dataclass
class Kit:
    """Sounds by class code."""

    name: str
    sounds: dict[str, list[Sound]] = field(default_factory=lambda: defaultdict(list))


class KitShelf:
    """Every kit to draw from: those of a folder (rows of one split of its `kits.csv`) and synthesised ones.

    Raises InputError where the folder has no `kits.csv`, or it no rows of the split, or what cannot be read.
    """

    def __init__(self, folder: Path | None, split: str = "train", cache: Path | None = None):
        self.kits = _load_folder(folder, split, cache) if folder else []
        if folder and not self.kits:
            raise InputError(
                f"{folder}/kits.csv has no rows with split={split!r}; training needs some of train and of validation: "
                "say in its column split which kits are held out"
            )
        self._by_class: dict[str, list[Kit]] = {c: [k for k in self.kits if k.sounds.get(c)] for c in (*CODES, OTHER)}
        # Of small kits, which percussion mostly is, others only borrow; where there are no others, they are played.
        self._full = [kit for kit in self.kits if sum(bool(kit.sounds.get(c)) for c in CODES) >= 5] or self.kits
        self._pool = SYNTHESISED_POOL[split]

    def draw(self, draws: Draws, recipe: RenderRecipe) -> Kit:
        """A kit with every class: one base kit, missing and some other pieces borrowed, or a synthesised one."""
        synthesiser, rng = draws["synthesiser"], draws["kit"]
        # Drawn whether it is played or not, since a stage that is switched off must not move the others' draws.
        synthetic = self._draw_synthesised(synthesiser)
        if not self._full or synthesiser.random() < recipe.setting("synthesiser", "share", 0.0):
            return synthetic
        base = self._full[rng.integers(len(self._full))]
        drawn, share = Kit(base.name), recipe.setting("borrowing", "share", 0.0)
        for code in (*CODES, OTHER):
            owners = self._by_class[code]
            borrowed = rng.random() < share or not base.sounds.get(code)
            source = owners[rng.integers(len(owners))] if borrowed and owners else base
            drawn.sounds[code] = source.sounds.get(code) or synthetic.sounds.get(code, [])
        return drawn

    def others(self, code: str, rng: np.random.Generator) -> list[Sound]:
        """Sounds of a class from a random kit of the folder; none without a folder."""
        owners = self._by_class[code]
        return owners[rng.integers(len(owners))].sounds[code] if owners else []

    def _draw_synthesised(self, rng: np.random.Generator) -> Kit:
        """A kit of the synthesised pool, made when first drawn.

        Its sounds take longer to make than a clip to render.
        """
        # The pool depends on the seed alone, never on what was drawn before: clip i is the same on every machine and
        # worker.
        return _synthesised_kit(int(rng.integers(self._pool.start, self._pool.stop)))


SYNTHESISED_POOL = {"train": range(120), "validation": range(120, 150)}  # seeds
_synthesised_cache: dict[int, Kit] = {}


def _synthesised_kit(seed: int) -> Kit:
    if seed not in _synthesised_cache:
        kit = Kit(f"synthesised-{seed}")
        for code, layers in synthesise_kit(np.random.default_rng([seed, 77])).items():
            kit.sounds[code] = [Sound(rank, "synthesised", to_int16(samples)) for rank, samples in layers]
        _synthesised_cache[seed] = kit
    return _synthesised_cache[seed]


def kit_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's `kits.csv`, of all splits. Raises InputError for what docs/training.md does not allow."""
    columns: Columns = {
        "path": str,
        "kit": str,
        "class": _class,
        "articulation": str,
        "velocity_rank": zero_to_one,
        "split": str,
    }
    return read_table(folder / "kits.csv", "kits", columns)


def _class(code: str) -> str:
    if code not in CODES and code != OTHER:
        raise ValueError(f"expected one of {', '.join(CODES)}, {OTHER}")
    return code


def _load_folder(folder: Path, split: str, cache: Path | None) -> list[Kit]:
    rows = [row for row in kit_rows(folder) if row["split"] == split]
    kits: dict[str, Kit] = {}
    for row, samples in zip(rows, packed(folder, rows, f"kits-{split}", cache), strict=True):
        kit = kits.setdefault(row["kit"], Kit(row["kit"]))
        kit.sounds[row["class"]].append(Sound(zero_to_one(row["velocity_rank"]), row["articulation"], samples))
    return list(kits.values())
