"""Drum notation as MusicXML 4.0: percussion clef, hands with stems up, feet with stems down.

Written with the standard library: a drum part needs few of MusicXML's elements, and every one of them said exactly
(docs/log.md). Positions and noteheads are the usual ones where there are any (N. Weinberg, Guide to Standardized
Drumset Notation, 1998), and tell all classes apart.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from ..errors import UsageError
from ..events import Hit
from ..vocabulary import NAME_OF
from .quantise import Grid, Placement
from .rhythm import Event, beats_of, write_rhythm
from .tempo import TICKS_PER_QUARTER, Bar, TempoChange, TempoMap

__all__ = ["Look", "MusicXmlFormat", "look_of"]

_HANDS, _FEET = 1, 2  # voices


@dataclass(frozen=True, slots=True)
class Look:
    """Where a drum stands on the staff (as if in treble clef), its notehead, its voice."""

    step: str
    octave: int
    notehead: str = "normal"
    voice: int = _HANDS


_LOOKS = {
    "BD": Look("F", 4, voice=_FEET),
    "SD": Look("C", 5),
    "SS": Look("C", 5, "x"),
    "CLP": Look("C", 5, "slash"),
    "CHH": Look("G", 5, "x"),
    "PHH": Look("D", 4, "x", _FEET),
    "OHH": Look("G", 5, "x"),  # and a circle above
    "TB": Look("B", 4, "triangle"),
    "LT": Look("A", 4),
    "MT": Look("D", 5),
    "HT": Look("E", 5),
    "CRC": Look("A", 5, "x"),
    "SPC": Look("B", 5, "x"),
    "CHC": Look("C", 6, "x"),
    "RD": Look("F", 5, "x"),
    "RB": Look("F", 5, "diamond"),
    "CB": Look("E", 5, "triangle"),
    "CL": Look("G", 4, "triangle"),
}
_UNKNOWN = Look("B", 4, "cross")
_STAFF = "CDEFGAB"

_FORTE = 90  # the MIDI velocity that MusicXML calls 100 % loud
_FEWEST_TO_COMPARE = 4  # strokes of a drum, below which none of them is accented or a ghost note
_ACCENT_TIMES, _ACCENT_LEAST = 1.25, 0.7  # times the drum's median; and loud by itself
_GHOST_TIMES = 0.5  # times the snare's upper quartile, which are its backbeats
_SHOWN_CHANGE = 0.05  # smaller changes of tempo are played but not printed

_HEADER = b"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">
<score-partwise version="4.0">
"""


def look_of(code: str) -> Look:
    """How a class is written; a model's own classes are crosses on the middle line."""
    return _LOOKS.get(code, _UNKNOWN)


class MusicXmlFormat:
    """Keeps the hits, pushed in order of time, until `end`. Raises UsageError where the grid cannot be written."""

    def __init__(self, note_of: Mapping[str, int], tempo: TempoMap, grid: Grid) -> None:
        _check_grid(tempo, grid)
        self._note_of = note_of
        self._tempo = tempo
        self._placement = Placement(tempo, grid)
        self._placed: list[tuple[int, Hit]] = []

    def begin(self) -> bytes:
        """Nothing yet: the instruments used stand at the top."""
        return b""

    def add(self, hit: Hit) -> bytes:
        """Keep the hit."""
        self._placed += self._placement.push(hit)
        return b""

    def end(self) -> bytes:
        """The whole score."""
        self._placed += self._placement.rest()
        used = {hit.code for _, hit in self._placed}
        codes = [code for code in self._note_of if code in used]
        pieces = [_HEADER, _xml(_identification()), _xml(_part_list({code: self._note_of[code] for code in codes}))]
        pieces.append(b'<part id="P1">\n')
        pieces += map(_xml, self._measures())
        pieces.append(b"</part>\n</score-partwise>\n")
        return b"".join(pieces)

    def _measures(self) -> Iterable[Element]:
        chords: dict[int, dict[int, list[Hit]]] = {_HANDS: defaultdict(list), _FEET: defaultdict(list)}
        for tick, hit in self._placed:
            chords[look_of(hit.code).voice][tick].append(hit)
        writer = _MeasureWriter(self._tempo, _Loudness.of(hit for _, hit in self._placed))
        first, last = (self._placed[0][0], self._placed[-1][0]) if self._placed else (0, 0)
        for bar in self._tempo.bars(last):
            if bar.tick < self._tempo.lead_in_ticks <= first:
                continue  # seconds before the music, which are bars in a MIDI file only
            yield writer.measure(bar, {voice: _within(bar, of) for voice, of in chords.items()})


def _within(bar: Bar, chords: Mapping[int, list[Hit]]) -> dict[int, list[Hit]]:
    """The chords of a bar, of all by tick in order."""
    ticks = list(chords)
    first, end = bisect_left(ticks, bar.tick), bisect_left(ticks, bar.tick + bar.ticks)
    return {tick: chords[tick] for tick in ticks[first:end]}


def _check_grid(tempo: TempoMap, grid: Grid) -> None:
    """Every bar has to be made of beats, and every beat of cells of the grid."""
    for bar in tempo.bars(tempo.meter_starts[-1][0]):
        if tempo.begins_within_a_beat and bar.tick < tempo.lead_in_ticks:
            continue  # it has one line of the grid only
        # A beat of a third of another, after a change of meter on a triplet, could not be written either.
        if any((end - start) % grid.ticks or (end - start) % 3 for start, end in beats_of(bar)):
            raise UsageError(
                f"a grid of {grid.name} does not fill the beats of {bar.meter.numerator}/{bar.meter.denominator} "
                f"at {tempo.seconds(bar.tick):.2f} s; choose another --quantize, or change the meter on a beat"
            )


@dataclass
class _Loudness:
    """What a stroke has to reach to be accented, by class; and what a snare has to stay under to be a ghost note."""

    accent: dict[str, float] = field(default_factory=dict)
    ghost: float = 0.0

    @classmethod
    def of(cls, hits: Iterable[Hit]) -> _Loudness:
        velocities = defaultdict(list)
        for hit in hits:
            velocities[hit.code].append(hit.velocity)
        found = cls()
        for code, values in velocities.items():
            if len(values) >= _FEWEST_TO_COMPARE:
                found.accent[code] = max(_ACCENT_TIMES * statistics.median(values), _ACCENT_LEAST)
                if code == "SD":
                    found.ghost = _GHOST_TIMES * statistics.quantiles(values, n=4)[2]
        return found

    def is_accent(self, hit: Hit) -> bool:
        return hit.velocity >= self.accent.get(hit.code, float("inf"))

    def is_ghost(self, hit: Hit) -> bool:
        return hit.code == "SD" and hit.velocity <= self.ghost


class _MeasureWriter:
    """Writes one measure after another, remembering what need not be said again."""

    def __init__(self, tempo: TempoMap, loudness: _Loudness) -> None:
        self._tempo = tempo
        self._loudness = loudness
        self._number = 0
        self._meter: object = None
        self._shown_bpm = 0.0

    def measure(self, bar: Bar, voices: Mapping[int, Mapping[int, list[Hit]]]) -> Element:
        """A measure with the hits of each voice by tick; a voice without any is left out, both are a rest."""
        self._number += 1
        measure = Element("measure", number=str(self._number))
        if bar.ticks < bar.meter.bar_ticks:
            measure.set("implicit", "yes")
        self._attributes(measure, bar)
        for change in self._tempo.changes:
            if bar.tick <= change.tick < bar.tick + bar.ticks:
                self._tempo_mark(measure, change, change.tick - bar.tick)
        written = False
        for voice, chords in voices.items():
            if chords:
                if written:
                    SubElement(SubElement(measure, "backup"), "duration").text = str(bar.ticks)
                for event in write_rhythm(bar, list(chords)):
                    self._event(measure, event, voice, chords.get(event.tick, []))
                written = True
        if not written:
            _whole_rest(measure, bar.ticks)
        return measure

    def _attributes(self, measure: Element, bar: Bar) -> None:
        if bar.meter == self._meter:
            return
        attributes = SubElement(measure, "attributes")
        if self._meter is None:
            SubElement(attributes, "divisions").text = str(TICKS_PER_QUARTER)
        time = SubElement(attributes, "time")
        SubElement(time, "beats").text = str(bar.meter.numerator)
        SubElement(time, "beat-type").text = str(bar.meter.denominator)
        if self._meter is None:
            SubElement(SubElement(attributes, "clef"), "sign").text = "percussion"
        self._meter = bar.meter

    def _tempo_mark(self, measure: Element, change: TempoChange, offset: int) -> None:
        """Printed at the beginning and where the tempo changes enough to be read; played everywhere."""
        parent = measure
        if abs(change.bpm - self._shown_bpm) > _SHOWN_CHANGE * change.bpm:
            self._shown_bpm = change.bpm
            parent = SubElement(measure, "direction", placement="above")
            metronome = SubElement(SubElement(parent, "direction-type"), "metronome")
            SubElement(metronome, "beat-unit").text = "quarter"
            SubElement(metronome, "per-minute").text = f"{change.bpm:.0f}"
            if offset:
                SubElement(parent, "offset").text = str(offset)
        sound = SubElement(parent, "sound", tempo=f"{change.bpm:.3f}")
        if offset and parent is measure:
            SubElement(sound, "offset").text = str(offset)

    def _event(self, measure: Element, event: Event, voice: int, hits: list[Hit]) -> None:
        if event.is_rest:
            note = SubElement(measure, "note")
            SubElement(note, "rest")
            _rhythm(note, event, voice)
            _notations(note, event, None, is_accent=False)
            return
        for i, hit in enumerate(sorted(hits, key=_height)):
            self._note(measure, event, voice, hit, in_chord=i > 0)

    def _note(self, measure: Element, event: Event, voice: int, hit: Hit, *, in_chord: bool) -> None:
        look = look_of(hit.code)
        note = SubElement(measure, "note", dynamics=f"{127 * hit.velocity / _FORTE * 100:.2f}")
        if in_chord:
            SubElement(note, "chord")
        place = SubElement(note, "unpitched")
        SubElement(place, "display-step").text = look.step
        SubElement(place, "display-octave").text = str(look.octave)
        head = Element("notehead")
        head.text = look.notehead
        if self._loudness.is_ghost(hit):
            head.set("parentheses", "yes")
        _rhythm(note, event, voice, instrument=hit.code, head=head, in_chord=in_chord)
        _notations(note, event, hit.code, is_accent=self._loudness.is_accent(hit), in_chord=in_chord)


def _rhythm(
    note: Element,
    event: Event,
    voice: int,
    *,
    instrument: str | None = None,
    head: Element | None = None,
    in_chord: bool = False,
) -> None:
    """Length, voice, stem and beams, in the order that the schema asks for."""
    SubElement(note, "duration").text = str(event.ticks)
    if instrument is not None:
        SubElement(note, "instrument", id=f"P1-{instrument}")
    SubElement(note, "voice").text = str(voice)
    SubElement(note, "type").text = event.type
    for _ in range(event.dots):
        SubElement(note, "dot")
    if event.tuplet != (1, 1):
        modification = SubElement(note, "time-modification")
        SubElement(modification, "actual-notes").text = str(event.tuplet[0])
        SubElement(modification, "normal-notes").text = str(event.tuplet[1])
    if head is not None:
        SubElement(note, "stem").text = "up" if voice == _HANDS else "down"
        note.append(head)
    if not in_chord:
        for number, state in enumerate(event.beams, 1):
            SubElement(note, "beam", number=str(number)).text = state


def _notations(note: Element, event: Event, code: str | None, *, is_accent: bool, in_chord: bool = False) -> None:
    notations = Element("notations")
    if event.bracket and not in_chord:
        SubElement(notations, "tuplet", type=event.bracket, bracket="yes")
    if code == "OHH":
        SubElement(SubElement(notations, "technical"), "open")
    if is_accent:
        SubElement(SubElement(notations, "articulations"), "accent")
    if len(notations):
        note.append(notations)


def _height(hit: Hit) -> tuple[int, int]:
    look = look_of(hit.code)
    return look.octave, _STAFF.index(look.step)


def _whole_rest(measure: Element, ticks: int) -> None:
    note = SubElement(measure, "note")
    SubElement(note, "rest", measure="yes")
    SubElement(note, "duration").text = str(ticks)
    SubElement(note, "voice").text = str(_HANDS)


def _identification() -> Element:
    identification = Element("identification")
    SubElement(SubElement(identification, "encoding"), "software").text = "ghostnote"
    return identification


def _part_list(notes: Mapping[str, int]) -> Element:
    """One part; an instrument per drum, which says how it is played back."""
    parts = Element("part-list")
    part = SubElement(parts, "score-part", id="P1")
    SubElement(part, "part-name").text = "Drum Set"
    for code in notes:
        instrument = SubElement(part, "score-instrument", id=f"P1-{code}")
        SubElement(instrument, "instrument-name").text = NAME_OF.get(code, code)
    for code, note in notes.items():
        midi = SubElement(part, "midi-instrument", id=f"P1-{code}")
        SubElement(midi, "midi-channel").text = "10"
        SubElement(midi, "midi-program").text = "1"
        SubElement(midi, "midi-unpitched").text = str(note + 1)  # counted from 1 here
    return parts


def _xml(element: Element) -> bytes:
    ElementTree.indent(element)
    return ElementTree.tostring(element) + b"\n"
