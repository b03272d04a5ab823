"""Several sinks as one: what fails is left behind, the others go on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import OutputError
from .events import Hit
from .output_options import OutputRequest
from .writers import TIMED_FORMATS, FileSink, FormatOptions, OrderedFormat, Sink, StreamSink, make_format

if TYPE_CHECKING:
    from .engines.protocol import Engine
    from .manifest import Manifest
    from .source import Source
    from .stream import StreamingTranscriber

__all__ = ["Outputs", "Sinks", "open_outputs"]


class Sinks:
    """Passes hits on to every sink. Opening raises OutputError where one cannot be opened, and leaves nothing behind.

    A sink that fails later is dropped; when none is left, or on `close` when the others are complete, its error is
    raised. So is BrokenPipeError, the error of a reader who has seen enough.
    """

    def __init__(self, openers: Iterable[Callable[[], Sink]]) -> None:
        self._sinks: list[Sink] = []
        self._failures: list[OutputError | BrokenPipeError] = []
        try:
            for opener in openers:
                self._sinks.append(opener())
        except BaseException:
            self.discard()
            raise

    def write(self, hits: Iterable[Hit]) -> None:
        """Take hits in the order in which they were found."""
        hits = list(hits)
        self._each(lambda sink: sink.write(hits))
        if not self._sinks:  # nobody is left who needs the rest; without a failure there never was
            self._raise_failures()

    def close(self) -> None:
        """Complete all that has not failed, then raise what has."""
        self._each(lambda sink: sink.close())
        self._raise_failures()

    def discard(self) -> None:
        """Forget all."""
        for sink in self._sinks:
            sink.discard()

    def _each(self, action: Callable[[Sink], None]) -> None:
        working = []
        for sink in self._sinks:
            try:
                action(sink)
            except (OutputError, BrokenPipeError) as failure:
                sink.discard()
                self._failures.append(failure)
            else:
                working.append(sink)
        self._sinks = working

    def _raise_failures(self) -> None:
        errors = [str(failure) for failure in self._failures if isinstance(failure, OutputError)]
        if errors:
            rest = "; the other outputs are complete" if self._sinks else ""
            raise OutputError("; ".join(errors) + rest)
        if self._failures:
            raise self._failures[0]


@dataclass(frozen=True)
class Outputs:
    """Where the hits of a run go, and who listens to its sound: mono float32 [n] at the model's rate."""

    sink: Sinks
    hear: Callable[[NDArray[np.float32]], None]


def open_outputs(
    request: OutputRequest, engine: Engine, transcriber: StreamingTranscriber, reader: Source, *, silent: bool
) -> Outputs:
    """Open everything that was asked for. Raises OutputError, UsageError; InputError for files that options name.

    `silent`: without a file nothing goes to standard output, because something else is shown there.
    """
    manifest = engine.manifest
    options = request.score.resolve(manifest)
    openers: list[Callable[[], Sink]] = [partial(_file, path, name, manifest, options) for path, name in request.files]
    if not openers and not silent:
        openers.append(partial(_standard_output, request.stream_format, manifest, options))
    if request.report is None:
        return Outputs(Sinks(openers), lambda _: None)
    from .report import ReportSink, facts_of
    from .soundtrack import Soundtrack, omission

    soundtrack = Soundtrack(manifest.sample_rate, omission(live=reader.is_live, duration_s=reader.duration_s))
    facts = facts_of(request, engine, transcriber, reader)
    openers.append(partial(ReportSink, request.report, facts, soundtrack))
    return Outputs(Sinks(openers), soundtrack.hear)


def _file(path: Path, name: str, manifest: Manifest, options: FormatOptions) -> Sink:
    return FileSink(path, make_format(name, manifest, options), manifest.frame_s)


def _standard_output(name: str | None, manifest: Manifest, options: FormatOptions) -> Sink:
    if sys.stdout is None:
        raise OutputError("standard output is closed; name a file with -o")
    if name is None and sys.stdout.isatty():
        from .terminal import TerminalSink

        return TerminalSink()
    form = make_format(name or "jsonl", manifest, options)
    # Lines go out as soon as they are known, a file that is made at the end is made of sorted hits.
    return StreamSink(sys.stdout.buffer, OrderedFormat(form, manifest.frame_s) if name in TIMED_FORMATS else form)
