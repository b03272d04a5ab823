"""The Groove MIDI Dataset v1.0.0 with audio, and its expansion E-GMD v1.0.0 (Callender et al. 2020), as published:

    info.csv (GMD) or e-gmd-v1.0.0.csv: columns midi_filename, audio_filename, split (train, validation, test), ...
    drummer1/session1/1_funk_80_beat_4-4.mid (or .midi)   drummer1/session1/1_funk_80_beat_4-4.wav

YourMT3's copy of E-GMD (16 kHz) has the same files. Notes are those of Roland's TD-11 and TD-17, hi-hat edges (22, 26)
included: models/data/performances/grooves.py. Notes softer than 8 and double triggers within 25 ms are crosstalk and
left out. The audio is recorded from the drum module: the labels are exact to about 10 ms.

Whatever sounds in GMD is labelled. E-GMD plays the same notes on 43 kits of the module, electronic ones among them,
whose pads may sound as claps, cowbells and the like: there, only the classes that pads are named after count as
labelled (and a cymbal pad as crash or ride, whatever the kit puts there).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ...runtime.vocabulary import CODES
from ..data.packed import read_table
from ..data.performances.grooves import TD11_CODES
from .folders import midi_labels, of_split, wrong_folder
from .recording import MEMBERS, Recording, Source, covering

__all__ = ["read_egmd", "read_gmd"]

LICENCE = "CC BY 4.0 (Groove MIDI Dataset v1.0.0, J. Gillick et al. 2019)"
EGMD_LICENCE = "CC BY 4.0 (Expanded Groove MIDI Dataset v1.0.0, L. Callender, C. Hawthorne, J. Engel 2020)"
TOLERANCE_S = 0.01


def read_gmd(folder: Path, split: str | None = None) -> list[Recording]:
    """Performances of the Groove MIDI Dataset that have audio. Raises InputError for another folder."""
    return _read(folder, split, "info.csv", covering(*CODES), LICENCE)


def read_egmd(folder: Path, split: str | None = None) -> list[Recording]:
    """Performances of E-GMD that have audio. Raises InputError for another folder."""
    pads = covering(*TD11_CODES.values(), *MEMBERS["CY"])
    return _read(folder, split, "e-gmd-v1.0.0.csv", pads, EGMD_LICENCE)


def _read(folder: Path, split: str | None, table: str, labelled: frozenset[str], licence: str) -> list[Recording]:
    expected = f"{table} and the MIDI and audio files that it names"
    rows = _rows(folder, table, expected)
    present = [row for row in rows if of_split(row["split"], split) and _audio_of(folder, row) is not None]
    if not present and split is None:
        raise wrong_folder(folder, "a Groove MIDI Dataset with audio", expected)
    return [
        Recording(
            Path(row["audio_filename"]).with_suffix("").as_posix().replace("/", "_"),
            {"drums": (Source(folder / row["audio_filename"]),)},
            partial(midi_labels, folder / row["midi_filename"], TD11_CODES),
            labelled,
            TOLERANCE_S,
            licence,
            row["split"],
        )
        for row in present
    ]


def _rows(folder: Path, table: str, expected: str) -> list[dict[str, str]]:
    path = folder / table
    if not path.is_file():
        raise wrong_folder(folder, "a Groove MIDI Dataset with audio", expected)
    return read_table(path, "grooves", {"midi_filename": str, "audio_filename": str, "split": str})


def _audio_of(folder: Path, row: dict[str, str]) -> Path | None:
    """The row's recording; some performances have none, and the MIDI-only download has none at all."""
    path = folder / row["audio_filename"]
    return path if row["audio_filename"] and path.is_file() else None
