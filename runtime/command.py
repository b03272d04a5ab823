"""`rt-transcribe`: audio in, drum hits out. Also mounted as `ghostnote transcribe`.

Everything heavy is imported inside functions, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import GhostnoteError, OutputError, UsageError
from .live import options
from .output_options import (
    FormatOption,
    MeterOption,
    MidiTracks,
    MidiTracksOption,
    NoteMapOption,
    OutputOption,
    OutputRequest,
    QuantizeOption,
    ReportOption,
    ScoreRequest,
    TempoOption,
)

if TYPE_CHECKING:
    from .engines.protocol import Engine
    from .interrupt import Interruption
    from .job import Report
    from .pcm import PcmFormat

__all__ = ["app", "main", "transcribe"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class DeviceName(StrEnum):
    """What runs an ONNX file."""

    CPU = "cpu"
    CUDA = "cuda"


class RawName(StrEnum):
    """Raw sample formats; the same as `pcm.RAW_FORMATS`, which would load numpy."""

    U8 = "u8"
    S16LE = "s16le"
    S24LE = "s24le"
    S32LE = "s32le"
    F32LE = "f32le"
    F64LE = "f64le"


def _show_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"ghostnote {__version__}")
        raise typer.Exit


@app.command()
def transcribe(
    source: Annotated[
        str | None, typer.Argument(metavar="INPUT", help="Audio file, or - for WAV or raw PCM on standard input.")
    ] = None,
    output: OutputOption = None,
    engine: Annotated[
        Path | None, typer.Option(help="A model.onnx or .plan, or a bundled model: base (default), small.")
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option(help="Largest total latency allowed, in ms. Default: the most accurate setting.")
    ] = None,
    form: FormatOption = None,
    tempo: TempoOption = None,
    meter: MeterOption = None,
    quantize: QuantizeOption = None,
    midi_tracks: MidiTracksOption = MidiTracks.ONE,
    note_map: NoteMapOption = None,
    report: ReportOption = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 1,
    device: Annotated[
        DeviceName, typer.Option(help="What runs an ONNX file. Plans run on their GPU.")
    ] = DeviceName.CPU,
    raw_format: Annotated[RawName | None, typer.Option(help="INPUT is raw PCM, interleaved, in this format.")] = None,
    rate: Annotated[int | None, typer.Option(min=1, help="Sample rate of raw PCM in Hz.")] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Channels of raw PCM. Default: 1.")] = None,
    live: options.Live = False,
    input_device: options.InputDevice = None,
    input_channels: options.InputChannels = None,
    block_ms: options.BlockMs = 10,
    list_devices: options.ListDevices = False,
    follow: options.Follow = False,
    follow_timeout: options.FollowTimeout = None,
    grid: options.Grid = None,
    midi_port: options.MidiPort = None,
    midi_virtual: options.MidiVirtual = None,
    osc: options.Osc = None,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Transcribe drums: hits with time, class and velocity.

    Without --output, hits appear as they are found: as a list on a terminal (with --live and --follow, as a grid), as
    JSON lines (one per hit) on a pipe.
    """
    from .interrupt import Interrupted, Interruption

    code = 0
    with Interruption() as interruption:
        try:
            if list_devices:
                _show_devices()
                return
            asked = options.LiveOptions(
                live,
                input_device,
                input_channels,
                block_ms,
                follow,
                follow_timeout,
                grid,
                midi_port,
                midi_virtual,
                osc,
            )
            asked.check(source)
            raw = _raw_format(raw_format, rate, channels)
            score = ScoreRequest(tempo, meter, quantize, midi_tracks, note_map)
            request = OutputRequest.of(output, form, report, score)
            code = _transcribe(source, request, engine, latency_ms, threads, device, raw, asked, interruption)
        except Interrupted:
            _say("interrupted before any audio was read")
        except BrokenPipeError:
            _abandon_stdout()  # the reader of our output has seen enough: no error
        except GhostnoteError as error:
            _say(f"error: {error}")
            if isinstance(error, OutputError) and not output:
                _abandon_stdout()
            code = error.exit_code
    if interruption.exit_code or code:
        raise typer.Exit(interruption.exit_code or code)


def _show_devices() -> None:
    from .live.loop import describe_devices

    typer.echo(describe_devices())


def _transcribe(
    source: str | None,
    request: OutputRequest,
    engine_path: Path | None,
    latency_ms: float | None,
    threads: int,
    device: str,
    raw: PcmFormat | None,
    asked: options.LiveOptions,
    interruption: Interruption,
) -> int:
    """Open everything, run, report; the exit code."""
    from .engines.opening import open_engine
    from .job import run
    from .live.loop import Stage, grid_terminal, open_live_outputs, open_source
    from .outputs import open_outputs
    from .sinks import Sinks
    from .stream import FILE_TOKENS_PER_CALL, StreamingTranscriber
    from .terminal import ProgressLine

    engine = open_engine(engine_path, threads=threads, device=device)
    manifest = engine.manifest
    with interruption.wait_for(lambda: open_source(asked, source, manifest.sample_rate, raw)) as reader:
        per_call = None if reader.is_live else FILE_TOKENS_PER_CALL
        transcriber = StreamingTranscriber(engine, latency_ms=latency_ms, tokens_per_call=per_call)
        on_stdout = not request.files
        terminal = grid_terminal(asked, stdout_is_taken=on_stdout and request.stream_format is not None)
        drawn = on_stdout and terminal is sys.stdout  # in the place of the list
        shown = terminal is not None or (on_stdout and sys.stdout.isatty())
        progress = ProgressLine(reader.duration_s, shown=sys.stderr.isatty() and not shown)
        sinks = Sinks(_warn)
        try:
            hear = open_outputs(sinks, request, engine, transcriber, reader, silent=drawn)
            sink = open_live_outputs(sinks, asked, terminal, Stage(reader, manifest, transcriber))
            report = run(reader, transcriber, sink, interruption=interruption, watch=progress, hear=hear)
        except BaseException:
            sinks.discard()
            raise
        finally:
            progress.clear()
    _conclude(report, engine, transcriber.total_latency_ms, request, interruption)
    if measured := sink.meter.describe():
        _say(measured)
    engine.close()  # a GPU's memory is given back in order, not as the process happens to end
    return report.error.exit_code if report.error else 0


def _conclude(
    report: Report, engine: Engine, total_latency_ms: float, request: OutputRequest, interruption: Interruption
) -> None:
    """The lines on stderr that end a run."""
    from .terminal import describe

    for warning in report.warnings:
        _warn(warning)
    kept = "the hits up to there are written" if report.written else "nothing is written"
    if interruption.signum is not None:
        _say(f"interrupted after {report.audio_s:.1f} s: {kept}")
    if report.error is not None:
        _say(f"error: {report.error}; {kept}")
    if report.written:
        where = f"; written to {', '.join(map(str, request.names))}" if request.names else ""
        _say(f"{describe(report, total_latency_ms)}; {engine.describe()}{where}")


def _raw_format(name: RawName | None, rate: int | None, channels: int | None) -> PcmFormat | None:
    """What the three options about raw PCM say together."""
    if name is None:
        if rate is not None or channels is not None:
            raise UsageError(
                "--rate and --channels describe raw PCM: give --raw-format too (files and WAV say it themselves)"
            )
        return None
    if rate is None:
        raise UsageError("--raw-format needs --rate: raw PCM does not say its sample rate")
    from .pcm import PcmFormat

    return PcmFormat(str(name), rate, channels or 1)


def _abandon_stdout() -> None:
    """Let Python's own flush at exit go nowhere, instead of failing a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _warn(line: str) -> None:
    _say(f"warning: {line}")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def main() -> None:
    """Console script `rt-transcribe`."""
    app(prog_name="rt-transcribe")


if __name__ == "__main__":
    main()
