"""The strokes of a MIDI file, and one error for all the ways in which such a file can be broken."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import mido

from ....runtime.errors import InputError

__all__ = ["MIDI_SUFFIXES", "Stroke", "read_strokes"]

DRUM_CHANNEL = 9  # counted from 0
MIDI_SUFFIXES = frozenset({".mid", ".midi"})
# What mido raises for bytes that are no MIDI file, or one of a kind that has no common time (type 2).
BROKEN = (EOFError, LookupError, TypeError, ValueError, ArithmeticError, mido.KeySignatureError)


class Stroke(NamedTuple):
    """The beginning of a note: seconds from the start of the file, note number, velocity 1..127."""

    time_s: float
    note: int
    velocity: int


def read_strokes(path: Path, *, drum_channel: bool = False) -> list[Stroke]:
    """The strokes in order of time: those on the drum channel where there are any, or with `drum_channel`, else all.

    Raises InputError for a missing file and for what is no MIDI.
    """
    time_s = 0.0
    drums: list[Stroke] = []
    others: list[Stroke] = []
    try:
        file = mido.MidiFile(path)
        if file.ticks_per_beat <= 0:  # mido takes a division in SMPTE frames for a negative number of ticks
            raise ValueError("no ticks per beat")
        for message in file:  # iterating gives delta times in seconds, tempo changes applied
            time_s += message.time
            if message.type == "note_on" and message.velocity > 0:
                strokes = drums if message.channel == DRUM_CHANNEL else others
                strokes.append(Stroke(time_s, message.note, message.velocity))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a MIDI file") from None
    except BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a MIDI file that can be read ({reason}); take another copy") from None
    return drums if drums or drum_channel else others
