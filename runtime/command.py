"""`rt-transcribe`: audio in, drum hits out. Also mounted as `ghostnote transcribe`.

Everything heavy is imported inside functions, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .engines.options import EngineOptions
from .errors import GhostnoteError, OutputError
from .input.raw_options import RawOptions
from .live.options import LiveOptions
from .option_groups import flattened
from .output.options import OutputOptions, OutputRequest, ScoreOptions

if TYPE_CHECKING:
    from .engines.protocol import Engine
    from .input.pcm import PcmFormat
    from .interrupt import Interruption
    from .job import Report

__all__ = ["app", "main", "transcribe"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"ghostnote {__version__}")
        raise typer.Exit


@app.command()
@flattened
def transcribe(
    *,
    source: Annotated[
        str | None, typer.Argument(metavar="INPUT", help="Audio file, or - for WAV or raw PCM on standard input.")
    ] = None,
    outputs: OutputOptions,
    hearing: EngineOptions,
    score: ScoreOptions,
    raw: RawOptions,
    live: LiveOptions,
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
            if live.list_devices:
                _show_devices()
                return
            live.check(source, raw)
            request = OutputRequest.of(outputs, score, played=live.plays)
            request.spare(_files_read(source, hearing))
            code = _transcribe(source, request, hearing, raw.resolve(), live, interruption)
        except Interrupted:
            _say("interrupted before any audio was read")
        except BrokenPipeError:
            _abandon(1)  # the reader of our output has seen enough: no error
        except GhostnoteError as error:
            _say(f"error: {error}")
            if isinstance(error, OutputError) and not outputs.output:
                _abandon(1)
            code = error.exit_code
    if interruption.exit_code or code:
        raise typer.Exit(interruption.exit_code or code)


def _show_devices() -> None:
    from .live.loop import describe_devices

    for line in describe_devices():
        typer.echo(line)


def _files_read(source: str | None, hearing: EngineOptions) -> list[tuple[str, Path]]:
    """Input and model: what each is, its name."""
    from .engines.opening import model_files
    from .input.audio import STDIN

    redirected = "/dev/stdin" if source == STDIN else source  # where there is such a name, it leads to what came by `<`
    return ([] if redirected is None else [("input", Path(redirected))]) + model_files(hearing.engine)


def _transcribe(
    source: str | None,
    request: OutputRequest,
    hearing: EngineOptions,
    raw: PcmFormat | None,
    live: LiveOptions,
    interruption: Interruption,
) -> int:
    """Open everything, run, report; the exit code."""
    from .engines.opening import open_engine
    from .job import run
    from .live.loop import Stage, grid_terminal, open_live_outputs, open_source
    from .output.outputs import open_outputs
    from .output.sinks import Sinks
    from .streams.stream import FILE_TOKENS_PER_CALL, StreamingTranscriber
    from .terminal import ProgressLine, is_terminal

    engine = open_engine(hearing.engine, threads=hearing.threads, device=hearing.device)
    manifest = engine.manifest
    options = request.score.resolve(manifest)
    with interruption.wait_for(lambda: open_source(live, source, manifest.sample_rate, raw)) as reader:
        per_call = None if reader.is_live else FILE_TOKENS_PER_CALL
        transcriber = StreamingTranscriber(engine, latency_ms=hearing.latency_ms, tokens_per_call=per_call)
        on_stdout = not request.files
        terminal = grid_terminal(live, stdout_is_taken=on_stdout and request.stream_format is not None)
        drawn = on_stdout and terminal is not None and terminal is sys.stdout  # in the place of the list
        shown = terminal is not None or (on_stdout and is_terminal(sys.stdout))
        progress = ProgressLine(reader.duration_s, shown=is_terminal(sys.stderr) and not shown)
        sinks = Sinks(_warn)
        try:
            hear = interruption.wait_for(  # a named pipe waits for its reader
                lambda: open_outputs(sinks, request, options, engine, transcriber, reader, silent=drawn)
            )
            sink = open_live_outputs(
                sinks, live, terminal, Stage(reader, manifest, transcriber, options.note_of(manifest))
            )
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


def _abandon(descriptor: int) -> None:
    """Let what is still written there go nowhere: Python's own flush at exit would fail a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _warn(line: str) -> None:
    _say(f"warning: {line}")


def _say(line: str) -> None:
    """A line on stderr. Where nobody can read it, what is heard and written goes on all the same."""
    try:
        typer.echo(line, err=True)
    except OSError:
        _abandon(2)


def main() -> None:
    """Console script `rt-transcribe`."""
    app(prog_name="rt-transcribe")


if __name__ == "__main__":
    main()
