"""What live transcription really costs and how late it really is, measured while it runs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..events import Hit
from ..input.source import Source
from ..output.writers import Sink

__all__ = ["MeasuredSink", "Meter", "Quantiles"]

_KEPT = 2000  # measurements; the latest count


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Median and 99th percentile of the latest measurements, in ms."""

    median_ms: float
    p99_ms: float


class Meter:
    """Measures, block by block; `processed` counts the samples that have been through the network.

    compute: from the moment a source handed out a block until its hits are known, where it completed a token.
    latency: from an attack (its reported time, on the clock of the source's converter) until its hit is known.
    """

    def __init__(self, source: Source, processed: Callable[[], int]) -> None:
        self._source = source
        self._processed = processed
        self._processed_before = 0
        self._seen_at_s = 0.0  # when the block measured last was handed out
        self._compute_s: deque[float] = deque(maxlen=_KEPT)
        self._latency_s: deque[float] = deque(maxlen=_KEPT)

    @property
    def compute(self) -> Quantiles | None:
        """Per call of the network; None before the first."""
        return _quantiles(self._compute_s)

    @property
    def latency(self) -> Quantiles | None:
        """Per hit; None before the first."""
        return _quantiles(self._latency_s)

    def observe(self, hits: Sequence[Hit]) -> None:
        """A block has just been processed, with these hits.

        Recordings have no latency, and neither has what is found at the end, where nothing is handed out any more.
        """
        now = time.perf_counter()
        newest = self._source.newest
        if not self._source.is_live or newest is None or newest.taken_at_s == self._seen_at_s:
            return
        self._seen_at_s = newest.taken_at_s
        if (processed := self._processed()) != self._processed_before:
            self._processed_before = processed
            self._compute_s.append(now - newest.taken_at_s)
        self._latency_s.extend(now - newest.heard_at_s + newest.position_s - hit.time_s for hit in hits)

    def describe(self) -> str | None:
        """The closing line; None where nothing was measured."""
        if (compute := self.compute) is None:
            return None
        line = f"measured: {compute.median_ms:.1f} ms computing per call (p99 {compute.p99_ms:.1f})"
        if latency := self.latency:
            line += f", {latency.median_ms:.0f} ms from attack to hit (p99 {latency.p99_ms:.0f})"
        return f"{line}, {self._source.overruns} overruns"


class MeasuredSink:
    """Lets a meter see the hits before a sink does, so that no output counts as computing."""

    def __init__(self, meter: Meter, sink: Sink) -> None:
        self.meter = meter
        self._sink = sink

    def write(self, hits: Iterable[Hit]) -> None:
        """Measure and pass on."""
        hits = list(hits)
        self.meter.observe(hits)
        self._sink.write(hits)

    def close(self) -> None:
        """As the sink does."""
        self._sink.close()

    def discard(self) -> None:
        """As the sink does."""
        self._sink.discard()


def _quantiles(seconds: deque[float]) -> Quantiles | None:
    if not seconds:
        return None
    median, p99 = np.quantile(np.array(seconds), (0.5, 0.99)) * 1000
    return Quantiles(float(median), float(p99))
