"""Standard MIDI files of drum hits: channel 10, 960 ticks per quarter note, 120 of those per minute or a tempo map.

One track (type 0), or one per drum (type 1: the tempo map first). A track grows hit by hit (about nine bytes each), so
that a day of audio needs no list of messages in memory.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator, Mapping

from mido import MetaMessage
from mido.midifiles.meta import encode_variable_int

from ..events import Hit
from ..vocabulary import NAME_OF
from .quantise import Grid, Placement
from .tempo import TICKS_PER_QUARTER, TempoMap

__all__ = ["MidiFormat"]

_DRUM_CHANNEL = 9  # channel 10, counted from 0
_NOTE_US = 50_000  # drums sound on by themselves; 50 ms are easily seen and grabbed in an editor


class MidiFormat:
    """Builds the file from hits in order of time; all of it comes out of `end`, which knows the tracks' lengths.

    Notes lie within half a tick of the hits' times whatever the tempo map; with a grid, on the grid.
    """

    def __init__(
        self,
        note_of: Mapping[str, int],
        tempo: TempoMap | None = None,
        grid: Grid | None = None,
        *,
        track_per_drum: bool = False,
    ) -> None:
        self._note_of = note_of
        self._tempo = tempo or TempoMap.constant(120)
        self._placement = Placement(self._tempo, grid)
        self._main = _Track("ghostnote", _tempo_events(self._tempo))
        self._drums: dict[str, _Track] | None = {} if track_per_drum else None

    def begin(self) -> bytes:
        """Nothing yet: the header contains the length."""
        return b""

    def add(self, hit: Hit) -> bytes:
        """Note on now, note off later. A note still sounding is ended first, so that no editor sees overlaps."""
        self._write(self._placement.push(hit))
        return b""

    def end(self) -> bytes:
        """The whole file. Changes of tempo after the last note are left out."""
        self._write(self._placement.rest())
        drums = [self._drums[code] for code in self._note_of if code in self._drums] if self._drums else []
        ends = [track.end_notes() for track in (*drums, self._main)]
        self._main.advance(max(ends))
        tracks = [track.chunk() for track in (self._main, *drums)]
        header = struct.pack(">4sIHHH", b"MThd", 6, int(self._drums is not None), len(tracks), TICKS_PER_QUARTER)
        return b"".join((header, *tracks))

    def _write(self, placed: list[tuple[int, Hit]]) -> None:
        for tick, hit in placed:
            length = max(1, round(_NOTE_US * TICKS_PER_QUARTER / self._tempo.change_at(tick).quarter_us))
            velocity = min(127, max(1, round(127 * hit.velocity)))
            self._track_of(hit.code).note(tick, length, self._note_of[hit.code], velocity)

    def _track_of(self, code: str) -> _Track:
        if self._drums is None:
            return self._main
        if code not in self._drums:
            self._drums[code] = _Track(NAME_OF.get(code, code), iter(()))
        return self._drums[code]


class _Track:
    """A growing track: notes in order of ticks, and between them `events` (tick, message) that come by themselves."""

    def __init__(self, name: str, events: Iterator[tuple[int, bytes]]) -> None:
        self._data = bytearray()
        self._now = 0  # tick of the last message
        self._events = events
        self._next_event = next(events, None)
        self._sounding: dict[int, int] = {}  # note -> tick at which it ends
        self._struck: dict[int, tuple[int, int]] = {}  # note -> tick of its last stroke, place of that one's velocity
        self._ends: list[tuple[int, int]] = []  # heap of (tick, note); out of date where `_sounding` says otherwise
        self._append(0, bytes(MetaMessage("track_name", name=name).bytes()))
        self.advance(0)

    def note(self, tick: int, length: int, note: int, velocity: int) -> None:
        """Note on at `tick`; its end is written when its time comes. Of two strokes at one tick the louder counts."""
        struck, place = self._struck.get(note, (-1, 0))
        if struck == tick:  # classes may share a note
            self._data[place] = max(self._data[place], velocity)
            return
        self._end_notes(tick)
        if note in self._sounding:
            self._note_off(tick, note)
        self._put(tick, bytes((0x90 | _DRUM_CHANNEL, note, velocity)))
        self._struck[note] = tick, len(self._data) - 1
        self._sounding[note] = tick + length
        heapq.heappush(self._ends, (tick + length, note))

    def end_notes(self) -> int:
        """End all that sounds; the tick of the last message."""
        if self._sounding:
            self._end_notes(max(self._sounding.values()))
        return self._now

    def advance(self, tick: int) -> None:
        """Write the events up to and with a tick."""
        while self._next_event is not None and self._next_event[0] <= tick:
            self._append(*self._next_event)
            self._next_event = next(self._events, None)

    def chunk(self) -> bytes:
        """The finished track."""
        self._append(self._now, bytes(MetaMessage("end_of_track").bytes()))
        return struct.pack(">4sI", b"MTrk", len(self._data)) + bytes(self._data)

    def _end_notes(self, until: int) -> None:
        """Note offs that are due at or before a tick."""
        while self._ends and self._ends[0][0] <= until:
            tick, note = heapq.heappop(self._ends)
            if self._sounding.get(note) == tick:
                self._note_off(tick, note)

    def _note_off(self, tick: int, note: int) -> None:
        del self._sounding[note]
        self._put(tick, bytes((0x80 | _DRUM_CHANNEL, note, 0)))

    def _put(self, tick: int, message: bytes) -> None:
        self.advance(tick)
        self._append(tick, message)

    def _append(self, tick: int, message: bytes) -> None:
        self._data += bytes(encode_variable_int(tick - self._now)) + message
        self._now = tick


def _tempo_events(tempo: TempoMap) -> Iterator[tuple[int, bytes]]:
    meter = None
    for change in tempo.changes:
        if change.meter != meter:
            meter = change.meter
            yield (
                change.tick,
                bytes(MetaMessage("time_signature", numerator=meter.numerator, denominator=meter.denominator).bytes()),
            )
        yield change.tick, bytes(MetaMessage("set_tempo", tempo=change.quarter_us).bytes())
