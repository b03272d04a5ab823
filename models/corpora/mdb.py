"""MDB Drums (Southall et al. 2017), as in the repository CarlSouthall/MDBDrums, folder `MDB Drums`:

    audio/drum_only/MusicDelta_Rock_Drum.wav       audio/full_mix/MusicDelta_Rock_MIX.wav
    annotations/subclass/MusicDelta_Rock_subclass.txt   annotations/class/MusicDelta_Rock_class.txt

The subclass files (21 labels) are read where they are; the class files (KD SD HH TT CY OT) otherwise. Clap, cowbell and
claves are not in the vocabulary, so they are not labelled. Splits: `train` and `test` of MIREX 2017 (names only:
nothing of this corpus may be trained on).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from .folders import audio_by_stem, of_split, require, text_labels, wrong_folder
from .recording import HAND_TOLERANCE_S, MEMBERS, Recording, Source, covering

__all__ = ["read"]

LICENCE = "CC BY-NC-SA 4.0 (MDB Drums; C. Southall, C. Wu, A. Lerch, J. Hockman, ISMIR 2017); evaluation only"
_EXPECTED = "audio/drum_only or audio/full_mix, and annotations/subclass or annotations/class"
_SUBCLASSES = covering("BD", "SD", "SS", "TB", *MEMBERS["HH"], *MEMBERS["TT"], *MEMBERS["CY"])
_CLASSES = covering("BD", "SD", "HH", "TT", "CY")
_MIREX_TRAIN = frozenset({
    "80sRock", "BebopJazz", "Britpop", "CoolJazz", "Disco", "FunkJazz", "FusionJazz", "Reggae", "Rock", "Rockabilly",
    "Shadows", "Zeppelin",
})  # fmt: skip


def read(folder: Path, split: str | None = None) -> list[Recording]:
    """All tracks of the repository or of its folder `MDB Drums`. Raises InputError for another folder."""
    root = folder / "MDB Drums" if (folder / "MDB Drums").is_dir() else folder
    require(root, "MDB Drums", _EXPECTED, "audio", "annotations")
    kinds = {
        "drums": {stem.removesuffix("_Drum"): path for stem, path in audio_by_stem(root / "audio/drum_only").items()},
        "mix": {stem.removesuffix("_MIX"): path for stem, path in audio_by_stem(root / "audio/full_mix").items()},
    }
    recordings = []
    for name in sorted(kinds["drums"] | kinds["mix"]):
        part = "train" if name.removeprefix("MusicDelta_") in _MIREX_TRAIN else "test"
        fine = root / "annotations" / "subclass" / f"{name}_subclass.txt"
        coarse = root / "annotations" / "class" / f"{name}_class.txt"
        annotation = fine if fine.exists() else coarse
        if of_split(part, split) and annotation.exists():
            recordings.append(
                Recording(
                    name,
                    {kind: (Source(paths[name]),) for kind, paths in kinds.items() if name in paths},
                    partial(text_labels, annotation),
                    _SUBCLASSES if annotation == fine else _CLASSES,
                    HAND_TOLERANCE_S,
                    LICENCE,
                    part,
                    evaluation_only=True,
                )
            )
    if not recordings and split is None:
        raise wrong_folder(root, "MDB Drums", _EXPECTED)
    return recordings
