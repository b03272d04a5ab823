"""What `--tempo` and `--meter` take: a number, a text file of seconds and tempi, or the tempo map of a MIDI file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import InputError, UsageError
from .tempo import (
    FASTEST_BPM,
    ON_THE_BEAT,
    SLOWEST_BPM,
    TICKS_PER_QUARTER,
    TICKS_PER_WHOLE,
    Anchor,
    Meter,
    TempoChange,
    TempoMap,
)

__all__ = ["parse_meter", "read_tempo", "tempo_file"]

_DENOMINATORS = (1, 2, 4, 8, 16, 32)
_MOST_BEATS = 64
_LATEST_S = 1e6  # 11 days
_SHORTEST_UPBEAT = TICKS_PER_WHOLE // 16
_TEMPI = f"expected {SLOWEST_BPM:g} to {FASTEST_BPM:g} quarter notes per minute"
_EXPECTED = "expected seconds,bpm or seconds,bpm,meter, e.g. 12.5,120,4/4"


def parse_meter(text: str) -> Meter:
    """A meter like 4/4. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,3})/(\d{1,3})", text.strip())
    if match:
        meter = Meter(int(match[1]), int(match[2]))
        if 1 <= meter.numerator <= _MOST_BEATS and meter.denominator in _DENOMINATORS:
            return meter
    raise UsageError(f"meter '{text}': expected beats/note value, e.g. 4/4 or 6/8")


def read_tempo(text: str, meter: Meter | None = None) -> TempoMap:
    """The map that a word asks for: beats per minute, or the name of a file. `meter` holds where none is said.

    Raises UsageError for an impossible tempo, InputError for a file that cannot be read or is no tempo map.
    """
    path = tempo_file(text)
    if path is not None:
        read = _from_midi if path.suffix.lower() in (".mid", ".midi") else _from_text
        return read(path, meter or Meter())
    bpm = float(text)
    if not SLOWEST_BPM <= bpm <= FASTEST_BPM:
        raise UsageError(f"tempo {text}: {_TEMPI}")
    return TempoMap.constant(bpm, meter)


def tempo_file(text: str) -> Path | None:
    """The file that a word names; None where it is a number of beats per minute."""
    try:
        float(text)
    except ValueError:
        return Path(text)
    return None


def _from_text(path: Path, meter: Meter) -> TempoMap:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; --tempo takes beats per minute, or a file: lines of seconds,bpm, or .mid"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a tempo map ({error})") from None
    anchors: list[Anchor] = []
    for number, line in enumerate(lines, 1):
        words = [word for word in re.split(r"[,;\s]+", line.partition("#")[0].strip()) if word]
        header = not anchors and words and words[0].lower() in ("seconds", "time", "time_s")
        if words and not header:
            anchors.append(_anchor(words, anchors, f"{path} line {number}: found '{line.strip()}'"))
    if not anchors:
        raise InputError(f"{path}: holds no tempo; {_EXPECTED}")
    return TempoMap.through(anchors, meter)


def _anchor(words: list[str], before: list[Anchor], found: str) -> Anchor:
    """One line of a text file. Raises InputError that begins with `found`."""
    try:
        time_s, bpm = (float(word) for word in words[:2])
        meter = parse_meter(words[2]) if len(words) > 2 else None
    except (ValueError, UsageError):
        raise InputError(f"{found}; {_EXPECTED}") from None
    if len(words) > 3 or not 0 <= time_s <= _LATEST_S:
        raise InputError(f"{found}; {_EXPECTED}")
    if not SLOWEST_BPM <= bpm <= FASTEST_BPM:
        raise InputError(f"{found}; {_TEMPI}")
    if before and time_s <= before[-1].time_s:
        raise InputError(f"{found}; expected a time after {before[-1].time_s:g} s, the line before")
    return Anchor(time_s, bpm, meter)


def _from_midi(path: Path, meter: Meter) -> TempoMap:
    """The tempo map of a MIDI file; its tick 0 is time 0."""
    import mido

    try:
        file = mido.MidiFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, EOFError, ValueError, KeyError, IndexError, mido.KeySignatureError) as error:
        raise InputError(f"{path}: cannot be read as a MIDI file ({_reason(error)})") from None
    if file.type == 2 or file.ticks_per_beat <= 0:
        raise InputError(f"{path}: has no common tempo map; expected MIDI of type 0 or 1 with ticks per quarter note")
    messages = _tempo_messages(file)
    for _, message in messages:
        if message.type == "time_signature":
            _check_meter(path, message.numerator, message.denominator)
    changes = _changes(messages, meter)
    _check_tempi(path, changes)
    return TempoMap(changes, _lead_in_ticks(changes))


def _lead_in_ticks(changes: list[TempoChange]) -> int:
    """Where the music of a file that we wrote begins: after a bar too short for an upbeat (`TempoMap.through`)."""
    start = next((change.tick for change in changes if change.meter != changes[0].meter), 0)
    return start if start < _SHORTEST_UPBEAT else 0


def _reason(error: Exception) -> str:
    """What mido found, where its exception alone would tell nothing."""
    if isinstance(error, EOFError):
        return "it ends too early"
    return f"unknown value {error}" if isinstance(error, KeyError) else str(error)


def _check_meter(path: Path, numerator: int, denominator: int) -> None:
    """Raises InputError for a meter in a MIDI file whose bars have no length, or none in whole ticks."""
    if not numerator:
        raise InputError(f"{path}: holds a meter of no beats")
    if TICKS_PER_WHOLE % denominator:
        finest = TICKS_PER_WHOLE & -TICKS_PER_WHOLE
        raise InputError(f"{path}: holds a meter of {numerator}/{denominator}; expected a note value of 1 to {finest}")


def _check_tempi(path: Path, changes: list[TempoChange]) -> None:
    """Raises InputError where a tempo that gives bars without end lasts; our own lead-ins are as fast for a moment."""
    ends = [*(change.tick for change in changes[1:]), None]
    for change, end in zip(changes, ends, strict=True):
        lasts = end is None or end - change.tick > TICKS_PER_WHOLE
        if lasts and 60e6 / change.quarter_us > FASTEST_BPM * (1 + ON_THE_BEAT):  # we stretch by as much
            raise InputError(f"{path}: holds a tempo of {60e6 / change.quarter_us:g}; {_TEMPI}")


def _tempo_messages(file: Any) -> list[tuple[int, Any]]:
    """(tick, message) of all changes of tempo and meter in all tracks, in order."""
    found = []
    for track in file.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type in ("set_tempo", "time_signature"):
                found.append((round(tick * TICKS_PER_QUARTER / file.ticks_per_beat), message))
    return sorted(found, key=lambda entry: entry[0])


def _changes(messages: list[tuple[int, Any]], meter: Meter) -> list[TempoChange]:
    last = TempoChange(0, 500_000, meter)  # MIDI's default tempo
    changes = {0: last}
    for tick, message in messages:
        if message.type == "set_tempo":
            last = TempoChange(tick, max(message.tempo, 1), last.meter)
        else:
            last = TempoChange(tick, last.quarter_us, Meter(message.numerator, message.denominator))
        changes[tick] = last
    return list(changes.values())
