"""Writing hits: formats (how a hit becomes bytes) and sinks (where the bytes go).

Times in seconds, velocities 0..1 except in MIDI. Files appear under their name only when complete.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from ..errors import OutputError, UsageError
from ..events import Hit
from ..files import AtomicFile
from ..manifest import Manifest
from ..salvage import keep_elsewhere, keep_whole_lines

if TYPE_CHECKING:
    from .quantise import Grid
    from .tempo import TempoMap

__all__ = [
    "FORMATS",
    "NOTED_FORMATS",
    "TIMED_FORMATS",
    "FileSink",
    "Format",
    "FormatOptions",
    "OrderedFormat",
    "Sink",
    "StreamSink",
    "TextFormat",
    "format_for",
    "json_fields",
    "make_format",
    "write_hits",
]

_FORMAT_OF_SUFFIX = {
    ".mid": "midi",
    ".midi": "midi",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".labels": "labels",
    ".txt": "txt",
    ".musicxml": "musicxml",
}
FORMATS = ("midi", "jsonl", "csv", "labels", "txt", "musicxml")
NOTED_FORMATS = ("midi", "jsonl", "csv", "musicxml")  # that tell the MIDI note of a hit
TIMED_FORMATS = ("midi", "musicxml")  # that tell musical time; the others tell seconds


@dataclass(frozen=True)
class FormatOptions:
    """What may be asked of formats.

    `tempo` (120 beats per minute by default) and `grid` (none: times as they are) are for formats of musical time;
    `notes`, by class code, replace the manifest's; `track_per_drum` is for MIDI.
    """

    tempo: TempoMap | None = None
    grid: Grid | None = None
    notes: Mapping[str, int] = field(default_factory=dict)
    track_per_drum: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for a note that is none."""
        for code, note in self.notes.items():
            if isinstance(note, bool) or not isinstance(note, int) or not 0 <= note <= 127:
                raise UsageError(f"note of {code}: {note!r}; expected a MIDI note, 0..127")

    def note_of(self, manifest: Manifest) -> dict[str, int]:
        """MIDI notes by class code: the manifest's, and those that were asked for instead."""
        return manifest.note_of | dict(self.notes)


class Format(Protocol):
    """Hits, in order of time, to bytes."""

    def begin(self) -> bytes:
        """What stands before the first hit."""

    def add(self, hit: Hit) -> bytes:
        """One hit; may be empty when the format keeps it for later."""

    def end(self) -> bytes:
        """What stands after the last hit."""


class Sink(Protocol):
    """A place for the hits of one transcription."""

    def write(self, hits: Iterable[Hit]) -> None:
        """Take hits in the order in which they were found. Raises OutputError."""

    def close(self) -> None:
        """Everything was written: make it final. Raises OutputError."""

    def discard(self) -> None:
        """Forget what was written, as far as that is possible; nothing after `close`."""


class TextFormat:
    """One line per hit."""

    def __init__(self, line: Callable[[Hit], str], header: str = "") -> None:
        self._line = line
        self._header = header

    def begin(self) -> bytes:
        """The header line, if the format has one."""
        return self._header.encode()

    def add(self, hit: Hit) -> bytes:
        """The hit's line."""
        return (self._line(hit) + "\n").encode()

    def end(self) -> bytes:
        """Nothing."""
        return b""


def json_fields(hit: Hit, note: int) -> dict[str, float | int | str]:
    """A hit as an object of JSON, with its MIDI note."""
    return {
        "time": round(hit.time_s, 6),
        "class": hit.code,
        "note": note,
        "velocity": round(hit.velocity, 4),
        "confidence": round(hit.confidence, 4),
    }


def make_format(name: str, manifest: Manifest, options: FormatOptions | None = None) -> Format:
    """A fresh format by name (see FORMATS). Raises UsageError where the options do not suffice for it."""
    options = options or FormatOptions()
    note_of = options.note_of(manifest)

    def json_line(hit: Hit) -> str:
        return json.dumps(json_fields(hit, note_of[hit.code]))

    def csv_line(hit: Hit) -> str:
        return f"{hit.time_s:.6f},{hit.code},{note_of[hit.code]},{hit.velocity:.4f},{hit.confidence:.4f}"

    def label_line(hit: Hit) -> str:  # Audacity's label track: start, end, text
        return f"{hit.time_s:.6f}\t{hit.time_s:.6f}\t{hit.code}"

    def scorer_line(hit: Hit) -> str:
        return f"{hit.time_s:.6f}\t{hit.code}\t{hit.velocity:.6f}"

    if name == "midi":
        from .midi import MidiFormat  # mido, which only this format needs

        return MidiFormat(note_of, options.tempo, options.grid, track_per_drum=options.track_per_drum)
    if name == "musicxml":
        return _notation(note_of, options)
    if name == "csv":
        return TextFormat(csv_line, header="time,class,note,velocity,confidence\n")
    lines = {"jsonl": json_line, "labels": label_line, "txt": scorer_line}
    if name not in lines:
        raise UsageError(f"unknown format '{name}'; choose one of {', '.join(FORMATS)}")
    return TextFormat(lines[name])


def _notation(note_of: Mapping[str, int], options: FormatOptions) -> Format:
    if options.tempo is None or options.grid is None:
        raise UsageError(
            "MusicXML needs the beat and the finest note value: give --tempo (beats per minute, or a tempo map) and "
            "--quantize (e.g. 1/16)"
        )
    from .notation import MusicXmlFormat

    return MusicXmlFormat(note_of, options.tempo, options.grid)


def format_for(path: Path) -> str:
    """The format that a file name asks for. Raises UsageError where it asks for none."""
    try:
        return _FORMAT_OF_SUFFIX[path.suffix.lower()]
    except KeyError:
        known = " ".join(_FORMAT_OF_SUFFIX)
        raise UsageError(
            f"{path}: no format known for the ending '{path.suffix}'; use --format, or one of {known}"
        ) from None


class StreamSink:
    """Hits to an open byte stream, each flushed as soon as it is found (so times may be out of order by two frames)."""

    def __init__(self, stream: BinaryIO, form: Format, name: str = "standard output") -> None:
        self._stream = stream
        self._form = form
        self._name = name
        self._put(form.begin())

    def write(self, hits: Iterable[Hit]) -> None:
        """Write and flush. BrokenPipeError passes through: the reader has seen enough."""
        for hit in hits:
            self._put(self._form.add(hit))

    def close(self) -> None:
        """Write what stands at the end; the stream stays open."""
        self._put(self._form.end())

    def discard(self) -> None:
        """What is written to a stream is written."""

    def _put(self, data: bytes) -> None:
        if not data:
            return
        left = memoryview(data)
        try:
            while left:  # without a buffer (python -u) a stream may take a part only
                left = left[self._stream.write(left) :]
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self._name}: cannot be written ({error.strerror})") from None


class OrderedFormat:
    """Sorts hits for another format: takes them as they are found, out of order by up to two frames."""

    def __init__(self, form: Format, frame_s: float) -> None:
        self._form = form
        self._order = _TimeOrder(2 * frame_s)

    def begin(self) -> bytes:
        """What stands before the first hit."""
        return self._form.begin()

    def add(self, hit: Hit) -> bytes:
        """The hits that nothing earlier can follow now."""
        return b"".join(map(self._form.add, self._order.push([hit])))

    def end(self) -> bytes:
        """The other hits, and what stands after the last."""
        return b"".join((*map(self._form.add, self._order.rest()), self._form.end()))


class FileSink:
    """Hits in order of time to a file that appears, whole, on `close` (see AtomicFile).

    When the disk is full, lines are kept as far as they fitted, a format that is written at the end in another place.
    """

    def __init__(self, path: Path, form: Format, frame_s: float) -> None:
        self._form = OrderedFormat(form, frame_s)
        self._file = AtomicFile(path, keep=keep_whole_lines if isinstance(form, TextFormat) else keep_elsewhere)
        self._file.write([form.begin()])

    def write(self, hits: Iterable[Hit]) -> None:
        """Write the hits that nothing earlier can follow."""
        self._file.write(map(self._form.add, hits))

    def close(self) -> None:
        """Complete the file and give it its name."""
        self._file.write([self._form.end()])
        self._file.close()

    def discard(self) -> None:
        """Leave nothing behind; what stood under the name before stays."""
        self._file.discard()


class _TimeOrder:
    """Sorts a stream of hits that is out of order by less than `reach_s`, holding back no more than that."""

    def __init__(self, reach_s: float) -> None:
        self._reach_s = reach_s
        self._latest_s = 0.0
        self._count = 0
        self._waiting: list[tuple[float, int, Hit]] = []

    def push(self, hits: Iterable[Hit]) -> list[Hit]:
        """Take hits; return, sorted, those that no later one can precede."""
        for hit in hits:
            self._count += 1  # hits at the same time stay in the order in which they came
            heapq.heappush(self._waiting, (hit.time_s, self._count, hit))
            self._latest_s = max(self._latest_s, hit.time_s)
        ready = []
        while self._waiting and self._waiting[0][0] <= self._latest_s - self._reach_s:
            ready.append(heapq.heappop(self._waiting)[-1])
        return ready

    def rest(self) -> list[Hit]:
        """All that is left, sorted."""
        return [heapq.heappop(self._waiting)[-1] for _ in range(len(self._waiting))]


def write_hits(
    hits: Iterable[Hit],
    path: Path | str,
    manifest: Manifest,
    format_name: str | None = None,
    options: FormatOptions | None = None,
) -> None:
    """Write a list of hits to a file, atomically; the format follows from the file's ending unless named.

    Raises OutputError; UsageError for what the format cannot say: a class without a note, numbers that are not finite.
    """
    path, options = Path(path), options or FormatOptions()
    name = format_name or format_for(path)
    form = make_format(name, manifest, options)
    ordered = sorted(hits, key=lambda hit: hit.time_s)
    _check_hits(ordered, options.note_of(manifest) if name in NOTED_FORMATS else None)
    sink = FileSink(path, form, manifest.frame_s)
    try:
        sink.write(ordered)
        sink.close()
    except BaseException:
        sink.discard()
        raise


def _check_hits(hits: Iterable[Hit], note_of: Mapping[str, int] | None) -> None:
    """Raises UsageError where a hit has a number that is not finite, or a class that is not among the notes, if any."""
    for hit in hits:
        for name, value in (("time", hit.time_s), ("velocity", hit.velocity), ("confidence", hit.confidence)):
            if not math.isfinite(value):
                raise UsageError(f"hit of {hit.code} at {hit.time_s} s: {name} {value}; expected a finite number")
        if note_of is not None and hit.code not in note_of:
            known = ", ".join(note_of)
            raise UsageError(f"hit at {hit.time_s} s: unknown class '{hit.code}'; expected one of {known}")
