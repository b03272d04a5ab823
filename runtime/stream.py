"""The streaming transcriber: PCM in pieces of any size, hits out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .decoder import StreamingDecoder
from .engines.protocol import Engine
from .errors import UsageError
from .events import Hit

__all__ = ["FILE_TOKENS_PER_CALL", "StreamingTranscriber", "silence_non_finite"]

Floats = NDArray[np.float32]

FILE_TOKENS_PER_CALL = 50  # for files: large enough to be efficient, small enough for memory and the first hit
_LIVE_TOKENS_PER_CALL = 50  # upper bound of one live call, so that a long piece does not take memory in proportion


class StreamingTranscriber:
    """Transcribes one stream of mono float32 PCM at the manifest's rate, full scale 1.0.

    Live (`tokens_per_call` None) every complete token is processed inside the `feed` that completes it. For files,
    `tokens_per_call` gathers tokens into calls of exactly that size, the remainder in `flush`: same hits, less cost.
    Choose a delay by index, or by `latency_ms` (largest total latency allowed); neither means the manifest's default.

    Each call returns new hits by frame, within a frame by time (sorted up to two frames, see `StreamingDecoder`).
    """

    def __init__(
        self,
        engine: Engine,
        delay_index: int | None = None,
        *,
        latency_ms: float | None = None,
        tokens_per_call: int | None = None,
    ) -> None:
        manifest = engine.manifest
        self._engine = engine
        self.delay_index = _choose_delay(engine, delay_index, latency_ms)
        self._live = tokens_per_call is None
        self._rate = manifest.sample_rate
        self._token = manifest.samples_per_token
        self._delay_samples = manifest.delay_samples(self.delay_index)
        self._lookahead_samples = manifest.decoder.lookahead_frames * manifest.samples_per_frame
        self._delay = np.array([[self.delay_index]], np.int64)
        self._decoder = StreamingDecoder(manifest, self.delay_index)
        self._buffer = np.zeros((1, (tokens_per_call or _LIVE_TOKENS_PER_CALL) * self._token), np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample is the first of a new stream."""
        self._state = self._engine.zero_state(1)
        self._decoder.reset()
        self._filled = 0  # samples waiting in the buffer
        self._fed = 0
        self._non_finite = 0
        self._finished = False

    @property
    def sample_rate(self) -> int:
        """Hz of the PCM that `feed` takes."""
        return self._rate

    @property
    def samples_fed(self) -> int:
        """Input samples taken since the start. Live, `feed` decides a hit with no sample after these."""
        return self._fed

    @property
    def samples_processed(self) -> int:
        """Input samples that have been through the network; the rest waits for its token or call to fill."""
        return self._fed - self._filled

    @property
    def non_finite_samples(self) -> int:
        """NaN and infinite input samples, replaced by 0, since the start."""
        return self._non_finite

    @property
    def total_latency_ms(self) -> float:
        """Worst case from attack to report with the chosen delay, without transport and computing."""
        return self._engine.manifest.total_latency_ms(self.delay_index)

    def feed(self, pcm: Floats) -> list[Hit]:
        """Take the next samples [n], any n; return the hits that became certain."""
        if self._finished:
            raise RuntimeError("this stream was flushed; call reset() before feeding another")
        pcm = _check_pcm(pcm)
        pcm, replaced = silence_non_finite(pcm)
        self._non_finite += replaced
        self._fed += len(pcm)
        return self._push(pcm, drain=self._live)

    def flush(self) -> list[Hit]:
        """End of the stream: return the remaining hits before its end. Feeding again needs `reset` first."""
        if self._finished:
            return []
        self._finished = True
        end = self._fed
        tokens = math.ceil((end + self._delay_samples + self._lookahead_samples) / self._token)
        missing = tokens * self._token - end
        hits: list[Hit] = []
        silence = np.zeros(min(missing, self._buffer.size), np.float32)
        while missing:
            piece = silence[:missing]
            missing -= len(piece)
            hits += self._push(piece, drain=not missing)
        return [hit for hit in hits if hit.time_s < end / self._rate]

    def _push(self, pcm: Floats, *, drain: bool) -> list[Hit]:
        """Fill the buffer and run the network whenever it is full; `drain` also runs the complete tokens left over."""
        hits: list[Hit] = []
        room = self._buffer.size
        start = 0
        while start < len(pcm):
            taken = min(room - self._filled, len(pcm) - start)
            self._buffer[0, self._filled : self._filled + taken] = pcm[start : start + taken]
            self._filled += taken
            start += taken
            if self._filled == room:
                hits += self._run(room)
        complete = self._filled // self._token * self._token
        if drain and complete:
            hits += self._run(complete)
        return hits

    def _run(self, samples: int) -> list[Hit]:
        """One call of the network over the first `samples` of the buffer; the rest moves to the front."""
        output = self._engine.step(self._buffer[:, :samples], self._delay, self._state)
        self._state = output.state
        rest = self._filled - samples
        self._buffer[0, :rest] = self._buffer[0, samples : self._filled]
        self._filled = rest
        return self._decoder.push(output.onset_logits[0], output.velocity[0], output.offset[0])


def silence_non_finite(pcm: Floats) -> tuple[Floats, int]:
    """Replace NaN and infinities by 0: (samples, how many were replaced). Finite input is returned as it came."""
    finite = np.isfinite(pcm)
    if finite.all():
        return pcm, 0
    return np.where(finite, pcm, np.float32(0)), int(pcm.size - np.count_nonzero(finite))


def _check_pcm(pcm: Floats) -> Floats:
    pcm = np.asarray(pcm)
    if pcm.ndim != 1 or not np.issubdtype(pcm.dtype, np.floating):
        raise ValueError(
            f"expected mono samples as a 1-D float array, full scale 1.0, found shape {pcm.shape} of {pcm.dtype}; "
            "downmix and scale first"
        )
    return pcm.astype(np.float32, copy=False)


def _choose_delay(engine: Engine, delay_index: int | None, latency_ms: float | None) -> int:
    manifest = engine.manifest
    if latency_ms is not None:
        if delay_index is not None:
            raise UsageError("choose the delay by index or by latency, not both")
        return manifest.delay_for_latency(latency_ms)
    chosen = manifest.default_delay if delay_index is None else delay_index
    if not 0 <= chosen < len(manifest.delays_ms):
        raise UsageError(
            f"delay index {chosen} is not one of 0..{len(manifest.delays_ms) - 1} of model '{manifest.name}'"
        )
    return chosen
