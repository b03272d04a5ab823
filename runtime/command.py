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

if TYPE_CHECKING:
    from .engines.protocol import Engine
    from .interrupt import Interruption
    from .job import Report
    from .manifest import Manifest
    from .pcm import PcmFormat
    from .writers import Sink

__all__ = ["app", "main", "transcribe"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class FormatName(StrEnum):
    """Output formats; the same as `writers.FORMATS`, which would load numpy."""

    MIDI = "midi"
    JSONL = "jsonl"
    CSV = "csv"
    LABELS = "labels"
    TXT = "txt"


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
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; its ending chooses the format.")
    ] = None,
    engine: Annotated[
        Path | None, typer.Option(help="A model.onnx, or a bundled model: base (default), small.")
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option(help="Largest total latency allowed, in ms. Default: the most accurate setting.")
    ] = None,
    form: Annotated[
        FormatName | None, typer.Option("--format", help="Output format, whatever the file is called.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 1,
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
            format_name = _format_name(output, form)
            code = _transcribe(source, output, engine, latency_ms, format_name, threads, raw, asked, interruption)
        except Interrupted:
            _say("interrupted before any audio was read")
        except BrokenPipeError:
            _abandon_stdout()  # the reader of our output has seen enough: no error
        except GhostnoteError as error:
            _say(f"error: {error}")
            if isinstance(error, OutputError) and output is None:
                _abandon_stdout()
            code = error.exit_code
    if interruption.exit_code or code:
        raise typer.Exit(interruption.exit_code or code)


def _show_devices() -> None:
    from .live.loop import describe_devices

    typer.echo(describe_devices())


def _transcribe(
    source: str | None,
    output: Path | None,
    engine_path: Path | None,
    latency_ms: float | None,
    format_name: str | None,
    threads: int,
    raw: PcmFormat | None,
    asked: options.LiveOptions,
    interruption: Interruption,
) -> int:
    """Open everything, run, report; the exit code."""
    from .engines.opening import open_engine
    from .job import run
    from .live.loop import Stage, grid_terminal, open_live_outputs, open_source
    from .stream import FILE_TOKENS_PER_CALL, StreamingTranscriber
    from .terminal import ProgressLine

    engine = open_engine(engine_path, threads=threads)
    manifest = engine.manifest
    with interruption.wait_for(lambda: open_source(asked, source, manifest.sample_rate, raw)) as reader:
        per_call = None if reader.is_live else FILE_TOKENS_PER_CALL
        transcriber = StreamingTranscriber(engine, latency_ms=latency_ms, tokens_per_call=per_call)
        terminal = grid_terminal(asked, stdout_is_taken=output is None and format_name is not None)
        drawn = output is None and terminal is sys.stdout  # in the place of the list
        results = None if drawn else _open_sink(output, format_name, manifest)
        sink = open_live_outputs(asked, results, terminal, Stage(reader, manifest, transcriber), _warn)
        shown = terminal is not None or (output is None and sys.stdout.isatty())
        progress = ProgressLine(reader.duration_s, shown=sys.stderr.isatty() and not shown)
        try:
            report = run(reader, transcriber, sink, interruption=interruption, watch=progress)
        except BaseException:
            sink.discard()
            raise
        finally:
            progress.clear()
    _conclude(report, engine, transcriber.total_latency_ms, output, interruption)
    if measured := sink.meter.describe():
        _say(measured)
    return report.error.exit_code if report.error else 0


def _conclude(
    report: Report, engine: Engine, total_latency_ms: float, output: Path | None, interruption: Interruption
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
        where = f"; written to {output}" if output else ""
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


def _format_name(output: Path | None, form: FormatName | None) -> str | None:
    """The output format; None where nothing asks for one."""
    if form is not None:
        if form is FormatName.MIDI and output is None and sys.stdout is not None and sys.stdout.isatty():
            raise UsageError("MIDI is no text for a terminal: name a file with -o")
        return str(form)
    if output is None:
        return None
    from .writers import format_for

    return format_for(output)


def _open_sink(output: Path | None, format_name: str | None, manifest: Manifest) -> Sink:
    from .writers import FileSink, StreamSink, make_format

    if output is not None and format_name is not None:
        return FileSink(output, make_format(format_name, manifest), manifest.frame_s)
    if sys.stdout is None:
        raise OutputError("standard output is closed; name a file with -o")
    if format_name is None and sys.stdout.isatty():
        from .terminal import TerminalSink

        return TerminalSink()
    return StreamSink(sys.stdout.buffer, make_format(format_name or "jsonl", manifest))


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
