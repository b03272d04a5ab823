"""One transcription from beginning to end: reader -> transcriber -> sink, keeping what is known if something breaks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .engines.protocol import Engine
from .errors import EngineError, GhostnoteError, InputError
from .events import Hit
from .input.audio import AudioReader
from .input.source import Source
from .interrupt import Interruption
from .output.writers import Sink
from .streams.stream import FILE_TOKENS_PER_CALL, StreamingTranscriber, silenced_text

__all__ = ["Report", "run", "transcribe_file"]


@dataclass
class Report:
    """What happened: hits per class, audio and wall-clock seconds, what the user should know, what stopped it."""

    counts: Counter[str] = field(default_factory=Counter)
    audio_s: float = 0.0
    elapsed_s: float = 0.0
    warnings: list[str] = field(default_factory=list)
    error: GhostnoteError | None = None
    written: bool = False


def run(
    reader: Source,
    transcriber: StreamingTranscriber,
    sink: Sink,
    *,
    interruption: Interruption,
    watch: Callable[[float], None],
    hear: Callable[[NDArray[np.float32]], None] = lambda _: None,
) -> Report:
    """Transcribe all of `reader` into `sink`; `watch` learns the seconds done, `hear` the samples, before they are fed.

    Errors of input or engine end the stream early; the hits up to there are written and the error is in the report.
    Errors of the output are raised.
    """
    report = Report()
    start = time.perf_counter()

    def keep(hits: list[Hit]) -> None:
        report.counts.update(hit.code for hit in hits)
        sink.write(hits)

    def listen(blocks: Iterable[NDArray[np.float32]]) -> None:
        for block in blocks:
            hear(block)
            keep(transcriber.feed(block))
            watch(transcriber.samples_fed / transcriber.sample_rate)

    def finish() -> None:
        listen(reader.rest())
        keep(transcriber.flush())

    report.error = _attempt(lambda: listen(interruption.until_signalled(reader)))
    if not isinstance(report.error, EngineError):
        report.error = _attempt(finish) or report.error
    keep(transcriber.found())  # before the call that failed, if one did
    report.written = report.error is None or transcriber.samples_processed > 0
    if report.written:
        sink.close()
    else:
        sink.discard()
    report.audio_s = transcriber.samples_fed / transcriber.sample_rate
    report.elapsed_s = time.perf_counter() - start
    report.warnings = _warnings(reader, transcriber)
    return report


def transcribe_file(
    source: str | Path, engine: Engine, delay_index: int | None = None, *, latency_ms: float | None = None
) -> list[Hit]:
    """All hits of an audio file, sorted by time.

    Raises UsageError for a latency that no setting meets; InputError and EngineError, also half-way: to keep what was
    found before, feed a `StreamingTranscriber`.
    """
    transcriber = StreamingTranscriber(engine, delay_index, latency_ms=latency_ms, tokens_per_call=FILE_TOKENS_PER_CALL)
    with AudioReader(source, engine.manifest.sample_rate) as reader:
        hits = [hit for block in reader for hit in transcriber.feed(block)]
    return _by_time(hits + transcriber.flush())


def _by_time(hits: Iterable[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: hit.time_s)


def _attempt(action: Callable[[], None]) -> GhostnoteError | None:
    try:
        action()
    except (InputError, EngineError) as error:
        return error
    return None


def _warnings(reader: Source, transcriber: StreamingTranscriber) -> list[str]:
    return reader.warnings + silenced_text(reader.non_finite_samples + transcriber.non_finite_samples)
