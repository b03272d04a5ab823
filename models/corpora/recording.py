"""A recording with its labels, as every reader of a corpus gives it.

A label names a class as finely as the corpus does: one of our 18 codes, or one of the five-class names TT, HH, CY where
the corpus does not say which tom, hi-hat or cymbal. What a corpus labels at all is its `labelled` set, of the same
names: silence means "not struck" for a class that is in it, and nothing for a class that is not.
Times are in seconds from the first sample, velocities 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ...runtime.vocabulary import CODES, FIVE_CLASSES, five_class

__all__ = ["CROWD_TOLERANCE_S", "HAND_TOLERANCE_S", "MEMBERS", "Label", "Recording", "Source", "covering"]

# How far a label may lie from the physical attack: annotated by ear and eye, and by a crowd or by alignment (the loss
# and its tolerances: docs/architecture.md).
HAND_TOLERANCE_S = 0.02
CROWD_TOLERANCE_S = 0.04

# The codes that a coarse name stands for.
MEMBERS: dict[str, frozenset[str]] = {
    name: frozenset(code for code in CODES if five_class(code) == name) for name in FIVE_CLASSES if name not in CODES
}


class Label(NamedTuple):
    """One hit; `velocity` is None where the corpus has none. One that is not `certain` may have been struck or not, or
    another of its kind was.
    """

    time_s: float
    name: str
    velocity: float | None = None
    certain: bool = True


class Source(NamedTuple):
    """A file and the factor it is multiplied by; the sources of a recording are added up."""

    path: Path
    gain: float = 1.0


@dataclass(frozen=True, eq=False)
class Recording:
    """One track of a corpus. Its labels are read when first asked for: some corpora hold tens of thousands of files."""

    name: str  # unique inside the corpus, fit for a file name
    audio: Mapping[str, tuple[Source, ...]]  # by kind: "drums" (no other instruments) and "mix"
    annotation: Callable[[], Iterable[Label]]  # picklable: recordings go to worker processes
    labelled: frozenset[str]  # see `covering`
    tolerance_s: float
    licence: str
    split: str | None = None  # the corpus's own name of a part
    adtof: bool = False  # side-stick and clap are labelled as snare
    evaluation_only: bool = False  # never train on it

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """All hits in order of time. Raises InputError where the annotation cannot be read."""
        return tuple(sorted(self.annotation(), key=lambda label: (label.time_s, label.name)))


def covering(*names: str) -> frozenset[str]:
    """What labels of `names` cover: with all toms, for example, also TT. A coarse name alone adds no codes."""
    given = frozenset(names)
    return given | {coarse for coarse, members in MEMBERS.items() if members <= given}
