"""Where the hits of a run go, as its options ask for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError
from ..input.pcm import make_blocking
from ..terminal import TerminalSink, is_terminal
from .options import OutputRequest
from .sinks import Sinks
from .writers import TIMED_FORMATS, FileSink, FormatOptions, OrderedFormat, Sink, StreamSink, make_format

if TYPE_CHECKING:
    from ..engines.protocol import Engine
    from ..input.source import Source
    from ..manifest import Manifest
    from ..streams.stream import StreamingTranscriber

__all__ = ["open_outputs"]


def open_outputs(
    sinks: Sinks,
    request: OutputRequest,
    options: FormatOptions,
    engine: Engine,
    transcriber: StreamingTranscriber,
    reader: Source,
    *,
    silent: bool,
) -> Callable[[NDArray[np.float32]], None]:
    """Add to the sinks everything that was asked for; returns who listens to the sound, mono [n] at the model's rate.

    Raises OutputError, UsageError. `options` is what the request's score resolves to.
    `silent`: without a file nothing goes to standard output, because something else is shown there.
    """
    manifest = engine.manifest
    for path, name in request.files:
        sinks.add(FileSink(path, make_format(name, manifest, options), manifest.frame_s))
    if not request.files and not silent:
        sinks.add(_standard_output(request.stream_format, manifest, options))
    if request.report is None:
        return lambda _: None
    from .report import ReportSink, facts_of
    from .soundtrack import Soundtrack, omission

    soundtrack = Soundtrack(manifest.sample_rate, omission(live=reader.is_live, duration_s=reader.duration_s))
    sinks.add(ReportSink(request.report, facts_of(request, engine, transcriber, reader), soundtrack))
    return soundtrack.hear


def _standard_output(name: str | None, manifest: Manifest, options: FormatOptions) -> Sink:
    if sys.stdout is None:
        raise OutputError("standard output is closed; name a file with -o")
    make_blocking(sys.stdout)
    if name is None and is_terminal(sys.stdout):
        return TerminalSink()
    form = make_format(name or "jsonl", manifest, options)
    # Lines go out as soon as they are known, a file that is made at the end is made of sorted hits.
    return StreamSink(sys.stdout.buffer, OrderedFormat(form, manifest.frame_s) if name in TIMED_FORMATS else form)
