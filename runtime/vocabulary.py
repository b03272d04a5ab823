"""The 18 drum classes, their General MIDI notes, and the reductions used for scoring.

Conventions: a class is written by its code (`BD`), in a MIDI file by its note (36). Channel order of every
`[..., C]` tensor is the order of `CLASSES`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CLASSES",
    "CODES",
    "FIVE_CLASSES",
    "NAME_OF",
    "NOTE_OF",
    "PARENTS",
    "DrumClass",
    "code_of_note",
    "five_class",
    "index_of",
]


@dataclass(frozen=True, slots=True)
class DrumClass:
    """One drum class: its code, the General MIDI note written for it, and an English name."""

    code: str
    note: int
    name: str


CLASSES: tuple[DrumClass, ...] = (
    DrumClass("BD", 36, "bass drum"),
    DrumClass("SD", 38, "snare drum"),
    DrumClass("SS", 37, "side-stick"),
    DrumClass("CLP", 39, "hand clap"),
    DrumClass("CHH", 42, "closed hi-hat"),
    DrumClass("PHH", 44, "pedal hi-hat"),
    DrumClass("OHH", 46, "open hi-hat"),
    DrumClass("TB", 54, "tambourine"),
    DrumClass("LT", 43, "low tom"),
    DrumClass("MT", 47, "mid tom"),
    DrumClass("HT", 50, "high tom"),
    DrumClass("CRC", 49, "crash cymbal"),
    DrumClass("SPC", 55, "splash cymbal"),
    DrumClass("CHC", 52, "china cymbal"),
    DrumClass("RD", 51, "ride cymbal"),
    DrumClass("RB", 53, "ride bell"),
    DrumClass("CB", 56, "cowbell"),
    DrumClass("CL", 75, "claves"),
)
CODES: tuple[str, ...] = tuple(c.code for c in CLASSES)
NOTE_OF: dict[str, int] = {c.code: c.note for c in CLASSES}
NAME_OF: dict[str, str] = {c.code: c.name for c in CLASSES}

# Classes that are told apart less surely than they are heard: which tom, how open a hi-hat, which cymbal. A hit is
# decided for the parent, then given to its likeliest class, so that doubt between two classes never costs the hit.
PARENTS: tuple[tuple[str, ...], ...] = (
    ("BD",),
    ("SD",),
    ("SS",),
    ("CLP",),
    ("CHH", "PHH", "OHH"),
    ("TB",),
    ("LT", "MT", "HT"),
    ("CRC", "SPC", "CHC", "RD", "RB"),
    ("CB",),
    ("CL",),
)

# Notes accepted on input besides the ones we write: second GM notes, and Roland's rims and edges (22, 26, 58).
_EXTRA_NOTES = {35: "BD", 40: "SD", 22: "CHH", 26: "OHH", 41: "LT", 58: "LT", 45: "MT", 48: "HT", 57: "CRC", 59: "RD"}
_CODE_OF_NOTE: dict[int, str] = {c.note: c.code for c in CLASSES} | _EXTRA_NOTES

FIVE_CLASSES: tuple[str, ...] = ("BD", "SD", "TT", "HH", "CY")
# SS, CLP, TB, CB and CL belong to none of the five and are dropped, as in MDB Drums' class files.
_FIVE_OF: dict[str, str] = (
    {"BD": "BD", "SD": "SD"}
    | dict.fromkeys(("LT", "MT", "HT"), "TT")
    | dict.fromkeys(("CHH", "PHH", "OHH"), "HH")
    | dict.fromkeys(("CRC", "SPC", "CHC", "RD", "RB"), "CY")
)
# ADTOF's convention counts side-stick and clap as snare.
_FIVE_OF_ADTOF: dict[str, str] = _FIVE_OF | {"SS": "SD", "CLP": "SD"}


def index_of(code: str) -> int:
    """Channel index of a class code. Raises ValueError for an unknown code."""
    try:
        return CODES.index(code)
    except ValueError:
        raise ValueError(f"unknown drum class {code!r}; expected one of {', '.join(CODES)}") from None


def code_of_note(note: int) -> str | None:
    """Class code of a MIDI note (General MIDI and Roland's extra notes); None for a note that is no drum of ours."""
    return _CODE_OF_NOTE.get(note)


def five_class(code: str, *, adtof: bool = False) -> str | None:
    """Reduce a class code to one of BD SD TT HH CY; None where it belongs to none (`adtof`: SS and CLP count as SD)."""
    return (_FIVE_OF_ADTOF if adtof else _FIVE_OF).get(code)
