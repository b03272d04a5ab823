"""Musical time: where the beats and bars lie in seconds.

A tick is 1/960 of a quarter note, tick 0 is time 0. Tempi are quarter notes per minute whatever the meter, as in MIDI.
A map is stored as a MIDI file says it (whole ticks, whole microseconds per quarter), so that what it says about a time
is exactly what a reader of the file will find.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

__all__ = [
    "FASTEST_BPM",
    "ON_THE_BEAT",
    "SLOWEST_BPM",
    "TICKS_PER_QUARTER",
    "TICKS_PER_WHOLE",
    "Anchor",
    "Bar",
    "Meter",
    "TempoChange",
    "TempoMap",
]

TICKS_PER_QUARTER = 960
TICKS_PER_WHOLE = 4 * TICKS_PER_QUARTER
_UNITS_PER_SECOND = TICKS_PER_QUARTER * 1_000_000  # a unit is a tick at a tempo of one microsecond per quarter
SLOWEST_BPM, FASTEST_BPM = 10.0, 1000.0  # of tempi that are asked for; lead-ins may be faster or slower
_SHORTEST_NOTE = 64  # of a lead-in: notation has no shorter ones
_LONGEST_QUARTER_US = (1 << 24) - 1  # MIDI has three bytes for it
# Of a beat, and of the time since the last change: nearer than this, a change of tempo is meant to lie on the beat.
ON_THE_BEAT = 1 / 8


@dataclass(frozen=True, slots=True)
class Meter:
    """A time signature, e.g. 6/8."""

    numerator: int = 4
    denominator: int = 4

    @property
    def unit_ticks(self) -> int:
        """Ticks of the note that the denominator names."""
        return TICKS_PER_WHOLE // self.denominator

    @property
    def bar_ticks(self) -> int:
        """Ticks of a whole bar."""
        return self.numerator * self.unit_ticks


@dataclass(frozen=True, slots=True)
class TempoChange:
    """From `tick` on: microseconds per quarter note, and meter. Another meter than before begins a bar."""

    tick: int
    quarter_us: int
    meter: Meter = Meter()

    @property
    def bpm(self) -> float:
        """Quarter notes per minute."""
        return 60e6 / self.quarter_us


@dataclass(frozen=True, slots=True)
class Anchor:
    """From `time_s` on: quarter notes per minute; and a meter, None where it stays."""

    time_s: float
    bpm: float
    meter: Meter | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its first tick, its length (short where the meter changes before its end), its meter."""

    tick: int
    ticks: int
    meter: Meter


class TempoMap:
    """Changes of tempo and meter in order of ticks, the first at tick 0. The music begins after `lead_in_ticks`."""

    def __init__(self, changes: Sequence[TempoChange], lead_in_ticks: int = 0) -> None:
        if not changes or changes[0].tick != 0 or any(b.tick <= a.tick for a, b in pairwise(changes)):
            raise ValueError(f"expected changes at increasing ticks from 0, found {[c.tick for c in changes]}")
        self.changes = tuple(changes)
        self.lead_in_ticks = lead_in_ticks
        self._ticks = [change.tick for change in changes]
        units = [0]
        for change, following in pairwise(changes):
            units.append(units[-1] + (following.tick - change.tick) * change.quarter_us)
        self._starts_s = [total / _UNITS_PER_SECOND for total in units]

    @classmethod
    def constant(cls, bpm: float, meter: Meter | None = None) -> TempoMap:
        """One tempo for ever, the first bar at time 0."""
        return cls((TempoChange(0, round(60e6 / bpm), meter or Meter()),))

    @classmethod
    def through(cls, anchors: Sequence[Anchor], meter: Meter | None = None) -> TempoMap:
        """The map that changes at the anchors' times (increasing), `meter` being that of anchors which name none.

        The first anchor begins a bar; what lies before it is filled with whole beats at about its tempo. A later one
        that is nearly on a beat is on it, and the tempo before it is stretched to lead there: tempi in text files are
        rounded, and the error of a hundred bars would otherwise add up.
        """
        builder = _Builder(anchors[0], meter or Meter())
        for anchor, following in pairwise(anchors):
            builder.stretch(anchor, following.time_s)
        builder.last(anchors[-1])
        return cls(builder.changes, builder.lead_in_ticks)

    def change_at(self, tick: int) -> TempoChange:
        """The change in force at a tick."""
        return self.changes[bisect_right(self._ticks, tick) - 1]

    def tick(self, time_s: float) -> int:
        """The tick nearest to a time in seconds (times before 0 count as 0)."""
        time_s = max(time_s, 0.0)
        i = bisect_right(self._starts_s, time_s) - 1
        units = (time_s - self._starts_s[i]) * _UNITS_PER_SECOND
        return self._ticks[i] + round(units / self.changes[i].quarter_us)

    def seconds(self, tick: int) -> float:
        """The time of a tick in seconds."""
        i = bisect_right(self._ticks, tick) - 1
        return self._starts_s[i] + (tick - self._ticks[i]) * self.changes[i].quarter_us / _UNITS_PER_SECOND

    @property
    def begins_within_a_beat(self) -> bool:
        """Whether the music begins after less than a beat, but not at 0."""
        return 0 < self.lead_in_ticks < self.change_at(self.lead_in_ticks).meter.unit_ticks

    @property
    def meter_starts(self) -> list[tuple[int, Meter]]:
        """Where the meter changes: (tick of the bar that begins there, meter)."""
        starts = [(0, self.changes[0].meter)]
        for change in self.changes:
            if change.meter != starts[-1][1]:
                starts.append((change.tick, change.meter))
        return starts

    def bars(self, until_tick: int) -> Iterator[Bar]:
        """All bars that begin at or before a tick."""
        starts = self.meter_starts
        ends = [tick for tick, _ in starts[1:]]
        for (tick, meter), end in zip_longest(starts, ends):
            while tick <= until_tick and (end is None or tick < end):
                ticks = meter.bar_ticks if end is None else min(meter.bar_ticks, end - tick)
                yield Bar(tick, ticks, meter)
                tick += ticks


class _Builder:
    """Puts the changes of a map one after another, each beginning where those before it really lead."""

    def __init__(self, first: Anchor, meter: Meter) -> None:
        self.changes: list[TempoChange] = []
        self._meter = first.meter or meter
        self._tick = 0
        self._units = 0
        self._bar_tick = 0
        self._lead_in(first)
        self.lead_in_ticks = self._tick

    def stretch(self, anchor: Anchor, until_s: float) -> None:
        """The anchor's tempo, changed a little so that the next anchor's time lies on a tick, and on a beat if near."""
        self._take_meter(anchor)
        exact = (until_s * _UNITS_PER_SECOND - self._units) * anchor.bpm / 60e6
        self._put(self._on_beat(exact), until_s)

    def last(self, anchor: Anchor) -> None:
        """The last anchor's tempo, for ever."""
        self._take_meter(anchor)
        self.changes.append(TempoChange(self._tick, round(60e6 / anchor.bpm), self._meter))

    def _lead_in(self, first: Anchor) -> None:
        """Whole beats up to the first anchor: an upbeat where they are no whole bars.

        Where one beat would be too fast it is a half, a quarter, ... of one, down to the shortest note.
        """
        exact, most = (first.time_s * bpm / 60 * TICKS_PER_QUARTER for bpm in (first.bpm, FASTEST_BPM))
        if exact < 0.5:
            return
        denominator = self._meter.denominator
        while TICKS_PER_WHOLE // denominator > most and denominator < _SHORTEST_NOTE:
            denominator *= 2
        unit = TICKS_PER_WHOLE // denominator
        beats = max(1, min(round(exact / unit), int(most / unit)))
        upbeat = beats % self._meter.numerator if denominator == self._meter.denominator else beats
        self._put(beats * unit, first.time_s)
        if upbeat:
            (only,) = self.changes
            self.changes = [TempoChange(0, only.quarter_us, Meter(upbeat, denominator))]
            if beats > upbeat:
                self.changes.append(TempoChange(upbeat * unit, only.quarter_us, self._meter))
        self._bar_tick = self._tick

    def _take_meter(self, anchor: Anchor) -> None:
        if anchor.meter is not None and anchor.meter != self._meter:
            self._meter, self._bar_tick = anchor.meter, self._tick

    def _on_beat(self, ticks: float) -> int:
        unit = self._meter.unit_ticks
        since_bar = self._tick - self._bar_tick
        beat = round((since_bar + ticks) / unit) * unit - since_bar
        near = abs(beat - ticks) <= ON_THE_BEAT * min(unit, ticks)
        return max(1, beat if near else round(ticks))

    def _put(self, ticks: int, until_s: float) -> None:
        wanted = until_s * _UNITS_PER_SECOND - self._units
        quarter_us = min(max(round(wanted / ticks), 1), _LONGEST_QUARTER_US)
        self.changes.append(TempoChange(self._tick, quarter_us, self._meter))
        self._tick += ticks
        self._units += ticks * quarter_us
