"""IDMT-SMT-Drums V2 (Dittmar, Gärtner 2014), as published:

    audio/RealDrum01_00#MIX.wav    annotation_xml/RealDrum01_00#MIX.xml

Loops of bass drum, snare and hi-hat. Only the `#MIX` files are read; the `#KD`, `#SD` and `#HH` ones are their stems
and sounds to train decompositions with. `HH` does not say how open the hi-hat is. Splits: the corpus's three parts,
`RealDrum`, `WaveDrum` (samples) and `TechnoDrum` (synthesised).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from ...runtime.errors import InputError
from .folders import audio_by_stem, of_split, require, seconds, wrong_folder
from .recording import HAND_TOLERANCE_S, Label, Recording, Source, covering

__all__ = ["read"]

LICENCE = "CC BY-NC-ND 4.0 (IDMT-SMT-Drums V2, Fraunhofer IDMT)"
_EXPECTED = "audio/NAME#MIX.wav and annotation_xml/NAME#MIX.xml"
_NAMES = {"KD": "BD", "SD": "SD", "HH": "HH"}


def read(folder: Path, split: str | None = None) -> list[Recording]:
    """All loops. Raises InputError for another folder."""
    require(folder, "IDMT-SMT-Drums", _EXPECTED, "audio", "annotation_xml")
    recordings = []
    for stem, path in audio_by_stem(folder / "audio").items():
        annotation = folder / "annotation_xml" / f"{stem}.xml"
        part = re.sub(r"\d.*", "", stem)
        if stem.endswith("#MIX") and annotation.exists() and of_split(part, split):
            audio = {"drums": (Source(path),)}
            labelled = covering(*_NAMES.values())
            name = stem.removesuffix("#MIX")
            recordings.append(
                Recording(name, audio, partial(_labels, annotation), labelled, HAND_TOLERANCE_S, LICENCE, part)
            )
    if not recordings and split is None:
        raise wrong_folder(folder, "IDMT-SMT-Drums", _EXPECTED)
    return recordings


def _labels(path: Path) -> Iterable[Label]:
    try:
        for event in ElementTree.parse(path).iter("event"):
            name, onset = event.findtext("instrument", "").strip(), event.findtext("onsetSec", "")
            yield Label(seconds(onset), _NAMES[name])  # a few at the very start are tiny negative numbers
    except (OSError, ElementTree.ParseError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: not an annotation of IDMT-SMT-Drums ({error}); expected <event> with <onsetSec> and <instrument>"
        ) from None
