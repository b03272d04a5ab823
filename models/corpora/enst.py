"""ENST-Drums, public part (Gillet, Richard 2006), as published (YourMT3's copy has the same folders):

    drummer_1/audio/wet_mix/036_phrase_disco_simple_slow_sticks.wav
    drummer_1/audio/accompaniment/107_minus-one_salsa_sticks.wav     (minus-one tracks only)
    drummer_1/annotation/036_phrase_disco_simple_slow_sticks.txt     (lines of seconds and label)

"drums" is the produced stereo drum mix (`wet_mix`); "mix", of the minus-one tracks, adds the accompaniment at 0.4 to
the drums at 0.6 (2:3, as in Wu et al. 2018, but without normalising peaks). Labels as in Vogl et al. 2018 and ADTOF,
numbers and signs behind them dropped: rim shots are snares, cross-sticks side-sticks, stick clicks claves, other
cymbals crashes; clicks on tom rims and brush sweeps are left out. There is no label for the pedal hi-hat: it is part
of `chh`. Clap and tambourine are not in the vocabulary. Splits: `drummer_1` to `drummer_3`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ...runtime.errors import InputError
from .folders import audio_by_stem, of_split, text_rows, wrong_folder
from .recording import HAND_TOLERANCE_S, MEMBERS, Label, Recording, Source, covering

__all__ = ["read"]

LICENCE = "research use only, by agreement with Télécom Paris (ENST-Drums; O. Gillet, G. Richard, ISMIR 2006)"
_EXPECTED = "drummer_1/audio/wet_mix/NAME.wav and drummer_1/annotation/NAME.txt"
_NAMES: dict[str, str | None] = {
    "bd": "BD", "sd": "SD", "rs": "SD", "cs": "SS", "chh": "CHH", "ohh": "OHH", "lft": "LT", "lt": "MT", "lmt": "MT",
    "mt": "HT", "cr": "CRC", "c": "CRC", "spl": "SPC", "ch": "CHC", "rc": "RD", "cb": "CB", "sticks": "CL",
    "mtr": None, "ltr": None, "sweep": None,
}  # fmt: skip
# Bells are among the rides, pedal strokes among the closed hi-hats.
_LABELLED = covering("BD", "SD", "SS", "CHH", "OHH", "HH", "RD", "CRC", "SPC", "CHC", "CY", "CB", "CL", *MEMBERS["TT"])
_DRUMS_GAIN, _ACCOMPANIMENT_GAIN = 0.6, 0.4


def read(folder: Path, split: str | None = None) -> list[Recording]:
    """All tracks of all drummers, single hits included. Raises InputError for another folder."""
    recordings = []
    for drummer in sorted(path for path in folder.glob("drummer_*") if of_split(path.name, split)):
        others = audio_by_stem(drummer / "audio" / "accompaniment")
        for stem, path in audio_by_stem(drummer / "audio" / "wet_mix").items():
            annotation = drummer / "annotation" / f"{stem}.txt"
            if not annotation.exists():
                continue
            audio: dict[str, tuple[Source, ...]] = {"drums": (Source(path),)}
            if stem in others:
                audio["mix"] = (Source(path, _DRUMS_GAIN), Source(others[stem], _ACCOMPANIMENT_GAIN))
            name = f"{drummer.name}_{stem}"
            recordings.append(
                Recording(name, audio, partial(_labels, annotation), _LABELLED, HAND_TOLERANCE_S, LICENCE, drummer.name)
            )
    if not recordings and split is None:
        raise wrong_folder(folder, "ENST-Drums", _EXPECTED)
    return recordings


def _labels(path: Path) -> Iterable[Label]:
    for time_s, text in text_rows(path):
        label = re.sub(r"[^a-z]", "", text.lower())  # `rc2`, `c4`, `sd-`: which of several, snares off
        if label not in _NAMES:
            raise InputError(f"{path}: unknown label {text!r}; expected one of {', '.join(sorted(_NAMES))}")
        if (name := _NAMES[label]) is not None:
            yield Label(time_s, name)
