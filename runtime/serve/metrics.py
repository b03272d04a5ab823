"""What a server tells Prometheus, in a registry of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ..engines.protocol import Engine, Floats, State, StepOutput
from ..manifest import Manifest
from ..streams.pool import StreamPool

__all__ = ["MeteredEngine", "Metrics"]

_CALL_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
_TO_HIT_S = (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3, 0.5, 1, 2, 5)


class Metrics:
    """Counters of one server; `text` is the page that Prometheus reads."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.sessions = Gauge("ghostnote_sessions", "WebSocket sessions open now", registry=registry)
        self.opened = Counter("ghostnote_sessions_opened", "WebSocket sessions since the start", registry=registry)
        self.refused = Counter("ghostnote_sessions_refused", "Sessions and uploads for want of room", registry=registry)
        self.uploads = Counter("ghostnote_uploads", "Files transcribed", registry=registry)
        self.samples = Counter("ghostnote_samples", "Samples heard, at the model's rate", registry=registry)
        self.hits = Counter("ghostnote_hits", "Hits reported", ["drum"], registry=registry)
        self.errors = Counter("ghostnote_errors", "Sessions and uploads ended by an error", ["kind"], registry=registry)
        self.call_s = Histogram(
            "ghostnote_engine_call_seconds", "Duration of a call of the engine", buckets=_CALL_S, registry=registry
        )
        self.to_hit_s = Histogram(
            "ghostnote_time_to_hit_seconds",
            "From the arrival of an attack's audio to its report",
            buckets=_TO_HIT_S,
            registry=registry,
        )

    def watch(self, pool: StreamPool) -> None:
        """Show what the pool counts itself; read when Prometheus asks."""
        rate = pool.sample_rate
        for name, text, value in (
            ("streams", "Streams in the pool now: sessions and uploads", lambda: pool.stats().streams),
            ("tokens", "Tokens heard", lambda: pool.stats().tokens),
            ("late_tokens", "Tokens heard too late for live use", lambda: pool.stats().late_tokens),
            ("buffer_seconds", "Audio taken and not yet heard", lambda: pool.stats().waiting_samples / rate),
        ):
            Gauge(f"ghostnote_{name}", text, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class MeteredEngine:
    """An engine whose calls are timed."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._call_s = metrics.call_s

    @property
    def manifest(self) -> Manifest:
        """What the artifact says about itself."""
        return self._engine.manifest

    def zero_state(self, batch: int) -> State:
        """See `Engine`."""
        return self._engine.zero_state(batch)

    def step(self, audio: Floats, delay: NDArray[np.int64], state: State) -> StepOutput:
        """See `Engine`."""
        start = time.perf_counter()
        try:
            return self._engine.step(audio, delay, state)
        finally:
            self._call_s.observe(time.perf_counter() - start)

    def select(self, rows: Sequence[tuple[State, int]]) -> State:
        """See `Engine`."""
        return self._engine.select(rows)

    def describe(self) -> str:
        """One line for humans."""
        return self._engine.describe()

    def close(self) -> None:
        """Free what the engine holds."""
        self._engine.close()
