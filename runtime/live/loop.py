"""What a transcription listens to and what its hits go to, by the live options; and the devices there are."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import OutputError
from ..input.pcm import PcmFormat
from ..input.source import Source
from ..manifest import Manifest
from ..output.sinks import Sinks
from ..streams.stream import StreamingTranscriber
from ..terminal import is_terminal
from .meter import MeasuredSink, Meter
from .options import LiveOptions

__all__ = ["Stage", "describe_devices", "grid_terminal", "open_live_outputs", "open_source"]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the outputs of a transcription may ask for: whence the audio comes, what hears it, MIDI notes by class."""

    source: Source
    manifest: Manifest
    transcriber: StreamingTranscriber
    note_of: Mapping[str, int]


def open_source(options: LiveOptions, source: str | None, sample_rate: int, raw: PcmFormat | None) -> Source:
    """A device, a growing file, a file or a pipe. Raises InputError."""
    if options.live:
        from .capture import BLOCK_MS, CaptureReader

        block_ms = options.block_ms or BLOCK_MS
        return CaptureReader(sample_rate, device=options.input_device, inputs=options.inputs, block_ms=block_ms)
    assert source is not None  # `LiveOptions.check`
    if options.follow:
        from .follow import follow

        return follow(Path(source), sample_rate, raw=raw, timeout_s=options.follow_timeout)
    from ..input.audio import AudioReader

    return AudioReader(source, sample_rate, raw=raw)


def grid_terminal(options: LiveOptions, *, stdout_is_taken: bool) -> IO[str] | None:
    """Where the grid is drawn; None for no grid. Never on a pipe.

    `stdout_is_taken`: hits go to standard output in a format that was asked for. Where that, or a pipe, keeps the grid
    off standard output, it is drawn on standard error if --grid asks for it.
    """
    wanted = (options.live or options.follow) if options.grid is None else options.grid
    if not wanted:
        return None
    if is_terminal(sys.stdout) and not stdout_is_taken:
        return sys.stdout
    return sys.stderr if options.grid and is_terminal(sys.stderr) else None


def open_live_outputs(sinks: Sinks, options: LiveOptions, terminal: IO[str] | None, stage: Stage) -> MeasuredSink:
    """Add the live outputs to the sinks, and measure all of these. Raises OutputError and UsageError.

    `terminal` is where the grid goes.
    """
    meter = Meter(stage.source, lambda: stage.transcriber.samples_processed)
    _add_players(sinks, options, stage.note_of)
    if terminal is not None:
        from .grid import Grid, GridSink

        grid = Grid(stage.manifest, stage.source, meter, stage.transcriber.total_latency_ms)
        sinks.add(GridSink(grid, terminal), optional=True)
    return MeasuredSink(meter, sinks)


def _add_players(sinks: Sinks, options: LiveOptions, note_of: Mapping[str, int]) -> None:
    """MIDI ports and OSC, as asked for."""
    for name, virtual in ((options.midi_port, False), (options.midi_virtual, True)):
        if name is not None:
            from .midi_port import MidiPortSink

            sinks.add(MidiPortSink(name, note_of, virtual=virtual), optional=True)
    if options.osc is not None:
        from .osc import OscSink

        sinks.add(OscSink(options.osc, note_of), optional=True)


def describe_devices() -> Iterator[str]:
    """MIDI ports and input devices, in lines. Raises InputError in the end where there is no input device."""
    from .capture import describe_devices as describe_inputs
    from .midi_port import output_names

    try:
        ports = output_names() or ["none found; --midi-virtual makes one"]
    except OutputError as error:
        ports = [str(error)]
    yield "MIDI ports:"
    yield from (f"  {port}" for port in ports)
    inputs = describe_inputs()
    yield "input devices:"
    yield inputs
