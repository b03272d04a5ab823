"""The options of `rt-transcribe` that say what is written where, as typer reads them, and what they ask for together.

Nothing heavy is imported here: `--help` shows these.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from ..files import check_page, spare
from ..terminal import is_terminal

if TYPE_CHECKING:
    from ..manifest import Manifest
    from .writers import FormatOptions

__all__ = ["FormatName", "MidiTracks", "OutputOptions", "OutputRequest", "ScoreOptions"]


class FormatName(StrEnum):
    """Output formats; the same as `writers.FORMATS`, which would load numpy."""

    MIDI = "midi"
    JSONL = "jsonl"
    CSV = "csv"
    LABELS = "labels"
    TXT = "txt"
    MUSICXML = "musicxml"


class MidiTracks(StrEnum):
    """How hits are spread over the tracks of a MIDI file."""

    ONE = "one"
    DRUMS = "drums"


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Which outputs there are, as given; see the options' help texts."""

    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", help="File to write; its ending chooses the format. May be repeated."),
    ] = None
    form: Annotated[FormatName | None, typer.Option("--format", help="Output format, whatever the file is called.")] = (
        None
    )
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page to look at and listen to, in one file.")
    ] = None


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """Musical time and notes, as given; see the options' help texts."""

    tempo: Annotated[
        str | None,
        typer.Option(
            metavar="BPM|FILE",
            help="MIDI, MusicXML: quarter notes per minute, or a tempo map: lines of seconds,bpm[,meter], or a .mid.",
        ),
    ] = None
    meter: Annotated[
        str | None, typer.Option(metavar="4/4", help="Meter where the tempo map says none. Default: 4/4.")
    ] = None
    quantize: Annotated[
        str | None,
        typer.Option(metavar="1/16", help="MIDI, MusicXML: snap to this note value (1/12: triplets). Needs --tempo."),
    ] = None
    midi_tracks: Annotated[MidiTracks, typer.Option(help="MIDI: all hits in one track, or a track per drum.")] = (
        MidiTracks.ONE
    )
    note_map: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="MIDI notes other than General MIDI's: lines of CODE NOTE, or JSON."),
    ] = None

    def check(self, formats: set[str], *, played: bool) -> None:
        """Raise UsageError where an option has nothing to act on among the formats.

        `played`: hits go to a MIDI port or by OSC, too.
        """
        from .writers import NOTED_FORMATS, TIMED_FORMATS

        timed = bool(formats.intersection(TIMED_FORMATS))
        for name, given in (("--tempo", self.tempo), ("--quantize", self.quantize)):
            if given is not None and not timed:
                raise UsageError(f"{name} is for MIDI and MusicXML; name such a file with -o, or leave it out")
        for name, given in (("--meter", self.meter), ("--quantize", self.quantize)):
            if given is not None and self.tempo is None:
                raise UsageError(f"{name} needs --tempo: beats per minute, or a tempo map")
        if self.midi_tracks is MidiTracks.DRUMS and "midi" not in formats:
            raise UsageError("--midi-tracks is for MIDI; name a .mid file with -o, or leave it out")
        if self.note_map is not None and not played and not formats.intersection(NOTED_FORMATS):
            raise UsageError(
                "--note-map is for MIDI, MusicXML, JSON lines, CSV, --midi-port, --midi-virtual and --osc; ask for one "
                "of them, or leave it out"
            )

    @property
    def files(self) -> list[tuple[str, Path]]:
        """The files that `resolve` reads: what each is, its name."""
        from .tempo_files import tempo_file

        tempo = None if self.tempo is None else tempo_file(self.tempo)
        named = (("tempo map", tempo), ("note map", self.note_map))
        return [(what, path) for what, path in named if path is not None]

    def resolve(self, manifest: Manifest) -> FormatOptions:
        """Read the files that are named. Raises UsageError and InputError."""
        from .note_map import read_note_map
        from .quantise import parse_grid
        from .tempo_files import parse_meter, read_tempo
        from .writers import FormatOptions

        meter = None if self.meter is None else parse_meter(self.meter)
        return FormatOptions(
            tempo=None if self.tempo is None else read_tempo(self.tempo, meter),
            grid=None if self.quantize is None else parse_grid(self.quantize),
            notes={} if self.note_map is None else read_note_map(self.note_map, manifest.codes),
            track_per_drum=self.midi_tracks is MidiTracks.DRUMS,
        )


@dataclass(frozen=True)
class OutputRequest:
    """All outputs of a run: files with their formats; standard output where there is no file; a report."""

    files: tuple[tuple[Path, str], ...]
    stream_format: str | None  # None: JSON lines, or a list on a terminal
    report: Path | None
    score: ScoreOptions

    @classmethod
    def of(cls, options: OutputOptions, score: ScoreOptions, *, played: bool = False) -> OutputRequest:
        """What the options ask for. Raises UsageError where they contradict each other.

        `played`: hits go to a MIDI port or by OSC, too.
        """
        from .writers import format_for

        paths, form, report = options.output or [], options.form, options.report
        if Path("-") in paths:
            raise UsageError("-o - names no file: leave -o out, and hits go to standard output (--format chooses how)")
        if Path() in (*paths, report):
            raise UsageError("an output has an empty name, or that of this folder; name a file")
        if form is not None and len(paths) > 1:
            raise UsageError("--format names the format of one output; with several, their endings choose")
        if form is FormatName.MIDI and not paths and is_terminal(sys.stdout):
            raise UsageError("MIDI is no text for a terminal: name a file with -o")
        check_page("--report", report)
        files = tuple((path, format_for(path) if form is None else str(form)) for path in paths)
        places = [os.path.realpath(path) for path in (*paths, *([report] if report else []))]
        if len(set(places)) < len(places):
            raise UsageError("the same file is named for two outputs; give each its own")
        stream_format = None if form is None else str(form)
        formats = {name for _, name in files}
        if not files and (stream_format or not is_terminal(sys.stdout)):  # a terminal's list tells no note
            formats.add(stream_format or "jsonl")
        score.check(formats, played=played)
        return cls(files, stream_format, report, score)

    def spare(self, read: Iterable[tuple[str, Path]]) -> None:
        """Raises UsageError where an output would replace a file that is read: (what it is, its name) of each."""
        spare(self.names, (*read, *self.score.files))

    @property
    def names(self) -> list[Path]:
        """Every file that is going to be written."""
        return [path for path, _ in self.files] + ([self.report] if self.report else [])
