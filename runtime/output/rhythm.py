"""Rhythms as they are written: what a voice does in a bar as notes and rests, with tuplets and beams.

Times are ticks (960 per quarter note). A note lasts until the next one of its voice or the end of its beat, because a
drum's length means nothing and this needs the fewest rests. Nothing is tied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from .tempo import TICKS_PER_QUARTER, TICKS_PER_WHOLE, Bar, Meter

__all__ = ["Event", "beats_of", "write_rhythm"]

_TYPES = ("whole", "half", "quarter", "eighth", "16th", "32nd", "64th", "128th")
# Written length in ticks -> (type, dots). Below a 128th the grid has no lines.
_WRITTEN = {TICKS_PER_WHOLE >> i: (name, 0) for i, name in enumerate(_TYPES)} | {
    (TICKS_PER_WHOLE >> i) * 3 // 2: (name, 1) for i, name in enumerate(_TYPES[:-1])
}


@dataclass(frozen=True, slots=True)
class Event:
    """A note (or chord) or a rest: first tick, length, how it is written.

    `tuplet` is (actual, normal) notes inside one, (1, 1) elsewhere; `bracket` is "start" or "stop" at its ends; `beams`
    are the states of its beams, eighths first: begin, continue, end, forward hook, backward hook.
    """

    tick: int
    ticks: int
    is_rest: bool
    type: str
    dots: int = 0
    tuplet: tuple[int, int] = (1, 1)
    bracket: str = ""
    beams: tuple[str, ...] = ()


def beats_of(bar: Bar) -> list[tuple[int, int]]:
    """The beats of a bar, (first tick, end): quarters; dotted ones in 6/8, 9/8, 12/8; the last may be short."""
    beat = _beat_ticks(bar.meter)
    starts = range(bar.tick, bar.tick + bar.ticks, beat)
    return [(start, min(start + beat, bar.tick + bar.ticks)) for start in starts]


def write_rhythm(bar: Bar, onsets: Sequence[int]) -> list[Event]:
    """The events of one voice that fill a bar, for its onsets (ticks, increasing, on a grid that divides the beats)."""
    events: list[Event] = []
    for start, end in beats_of(bar):
        events += _write_beat(start, end, [tick for tick in onsets if start <= tick < end])
    return events


def _beat_ticks(meter: Meter) -> int:
    compound = meter.denominator >= 8 and meter.numerator % 3 == 0 and meter.numerator > 3
    return 3 * meter.unit_ticks if compound else TICKS_PER_QUARTER


def _write_beat(start: int, end: int, onsets: list[int]) -> list[Event]:
    tuplet = _tuplet(end - start, [tick - start for tick in onsets])
    edges = [*onsets, end] if onsets and onsets[0] == start else [start, *onsets, end]
    events: list[Event] = []
    for tick, following in pairwise(edges):
        events += _spell(tick, following - tick, tuplet, is_rest=tick not in onsets)
    if tuplet != (1, 1):
        events[0] = replace(events[0], bracket="start")
        events[-1] = replace(events[-1], bracket="stop")
    return _beamed(events)


def _tuplet(beat: int, places: list[int]) -> tuple[int, int]:
    """(actual, normal) of a beat with onsets at these ticks: (1, 1) where halving it leads to all of them."""
    cell = math.gcd(beat, *places)
    if cell % 3 == 0:  # 960 holds one factor 3, which binary values, dotted or not, keep and triplets have lost
        return (1, 1)
    cells = beat // cell
    return cells, cells * 2 // 3


def _spell(tick: int, ticks: int, tuplet: tuple[int, int], *, is_rest: bool) -> Iterator[Event]:
    """The longest note or rest that can be written, then rests for what is left."""
    actual, normal = tuplet
    while ticks:
        written, (name, dots) = max(
            (length, value) for length, value in _WRITTEN.items() if length * normal <= ticks * actual
        )
        sounding = written * normal // actual
        yield Event(tick, sounding, is_rest, name, dots, tuplet)
        tick, ticks, is_rest = tick + sounding, ticks - sounding, True


def _beamed(events: list[Event]) -> list[Event]:
    """The events of a beat with beams over each run of notes that have flags."""
    flags = [0 if event.is_rest else max(0, _TYPES.index(event.type) - _TYPES.index("quarter")) for event in events]
    padded = [0, *flags, 0]
    beamed = []
    for i, event in enumerate(events, 1):
        before, own, after = padded[i - 1 : i + 2]
        alone = not before and not after
        levels = () if alone else tuple(_beam(level, before, after) for level in range(1, own + 1))
        beamed.append(replace(event, beams=levels))
    return beamed


def _beam(level: int, before: int, after: int) -> str:
    """The state of one beam of a note whose neighbours have so many."""
    if before >= level:
        return "continue" if after >= level else "end"
    if after >= level:
        return "begin"
    return "backward hook" if before else "forward hook"
