"""Standard MIDI files of drum hits: type 0, channel 10, 120 beats per minute, a tick of 0.52 ms.

The track grows hit by hit (about nine bytes each), so that a day of audio needs no list of messages in memory.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Mapping

from mido import MetaMessage
from mido.midifiles.meta import encode_variable_int

from .events import Hit

__all__ = ["TICKS_PER_SECOND", "MidiFormat"]

_TICKS_PER_BEAT = 960
_BEAT_US = 500_000  # 120 beats per minute
TICKS_PER_SECOND = _TICKS_PER_BEAT * 1_000_000 // _BEAT_US
_DRUM_CHANNEL = 9  # channel 10, counted from 0
_NOTE_TICKS = TICKS_PER_SECOND // 20  # drums sound on by themselves; 50 ms are easily seen and grabbed in an editor


class MidiFormat:
    """Builds the file from hits in order of time; all of it comes out of `end`, which knows the track's length."""

    def __init__(self, note_of: Mapping[str, int]) -> None:
        self._note_of = note_of
        self._track = bytearray()
        self._now = 0  # tick of the last message
        self._sounding: dict[int, int] = {}  # note -> tick at which it ends
        self._ends: list[tuple[int, int]] = []  # heap of (tick, note); out of date where `_sounding` says otherwise
        self._put(0, bytes(MetaMessage("track_name", name="ghostnote").bytes()))
        self._put(0, bytes(MetaMessage("set_tempo", tempo=_BEAT_US).bytes()))

    def begin(self) -> bytes:
        """Nothing yet: the header contains the length."""
        return b""

    def add(self, hit: Hit) -> bytes:
        """Note on now, note off later. A note still sounding is ended first, so that no editor sees overlaps."""
        note, tick = self._note_of[hit.code], round(hit.time_s * TICKS_PER_SECOND)
        self._end_notes(tick)
        if note in self._sounding:
            self._note_off(tick, note)
        self._put(tick, bytes((0x90 | _DRUM_CHANNEL, note, min(127, max(1, round(127 * hit.velocity))))))
        self._sounding[note] = tick + _NOTE_TICKS
        heapq.heappush(self._ends, (tick + _NOTE_TICKS, note))
        return b""

    def end(self) -> bytes:
        """The whole file."""
        if self._sounding:
            self._end_notes(max(self._sounding.values()))
        self._put(self._now, bytes(MetaMessage("end_of_track").bytes()))
        header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, _TICKS_PER_BEAT)
        return header + struct.pack(">4sI", b"MTrk", len(self._track)) + bytes(self._track)

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
        self._track += bytes(encode_variable_int(tick - self._now)) + message
        self._now = tick
