"""Streams: PCM in pieces of any size, hits out. `Stream` is what belongs to one stream and to no engine."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..decoder import StreamingDecoder
from ..engines.protocol import Engine
from ..errors import UsageError
from ..events import Hit
from ..manifest import Manifest

__all__ = ["FILE_TOKENS_PER_CALL", "Stream", "StreamingTranscriber", "check_pcm", "silence_non_finite", "silenced_text"]

Floats = NDArray[np.float32]

FILE_TOKENS_PER_CALL = 96  # for files: large enough to be efficient (docs/budget.md), small enough for memory
_LOUDEST = 1e6  # times full scale; the square of what is far beyond leaves float32's range inside the network
_LIVE_TOKENS_PER_CALL = 50  # upper bound of one live call, so that a long piece does not take memory in proportion


class Stream:
    """One stream between its samples and its hits: tokens to be, delay, decoder, end. Someone else runs the network.

    Samples go in with `push` (as many as there is `room` for) and leave as whole tokens with `audio`; what the network
    said of them comes back with `advance`, which returns hits. `finish` ends the stream: it then takes the silence that
    it still needs by itself, and `ended` says when all has been through the network.
    Choose a delay by index, or by `latency_ms` (largest total latency allowed); neither means the manifest's default.
    """

    def __init__(
        self,
        manifest: Manifest,
        delay_index: int | None = None,
        *,
        latency_ms: float | None = None,
        capacity_tokens: int,
    ) -> None:
        self.delay_index = _choose_delay(manifest, delay_index, latency_ms)
        self.total_latency_ms = manifest.total_latency_ms(self.delay_index)
        self._rate = manifest.sample_rate
        self._token = manifest.samples_per_token
        lookahead_samples = manifest.decoder.lookahead_frames * manifest.samples_per_frame
        self._tail_samples = manifest.delay_samples(self.delay_index) + lookahead_samples
        self._decoder = StreamingDecoder(manifest, self.delay_index)
        self._buffer = np.zeros(capacity_tokens * self._token, np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample is the first of a new stream."""
        self._decoder.reset()
        self._filled = 0  # samples waiting in the buffer
        self._silence = 0  # samples of silence that must still follow the end
        self._end_s = math.inf
        self.fed = 0  # samples taken
        self.non_finite = 0  # samples that were no audio (`silence_non_finite`), replaced by 0

    @property
    def room(self) -> int:
        """Samples that `push` takes now; none after `finish`."""
        return 0 if self.finished else self._buffer.size - self._filled

    @property
    def tokens(self) -> int:
        """Complete tokens that wait for the network."""
        return self._filled // self._token

    @property
    def waiting(self) -> int:
        """Samples that have not been through the network."""
        return self._filled

    @property
    def finished(self) -> bool:
        """Whether `finish` was called."""
        return self._end_s < math.inf

    @property
    def ended(self) -> bool:
        """Whether the stream was finished and all of it has been through the network."""
        return self.finished and not self._filled and not self._silence

    def push(self, pcm: Floats) -> None:
        """Take samples [n], n at most `room`."""
        pcm, replaced = silence_non_finite(pcm)
        self.non_finite += replaced
        self.fed += len(pcm)
        self._buffer[self._filled : self._filled + len(pcm)] = pcm
        self._filled += len(pcm)

    def finish(self) -> None:
        """No more samples: what is left and the silence that reports wait for become whole tokens."""
        if self.finished:
            return
        self._end_s = self.fed / self._rate
        tokens = math.ceil((self.fed + self._tail_samples) / self._token)
        self._silence = tokens * self._token - self.fed
        self._pad()

    def audio(self, tokens: int) -> Floats:
        """The samples of the next tokens [tokens * samples_per_token]; valid until the stream changes."""
        return self._buffer[: tokens * self._token]

    def advance(self, tokens: int, onset_logits: Floats, velocity: Floats, offset: Floats) -> list[Hit]:
        """The network has heard the next tokens and said [F, C] each: the hits that became certain."""
        samples = tokens * self._token
        rest = self._filled - samples
        self._buffer[:rest] = self._buffer[samples : self._filled]
        self._filled = rest
        self._pad()
        hits = self._decoder.push(onset_logits, velocity, offset)
        return [hit for hit in hits if hit.time_s < self._end_s] if self.finished else hits

    def _pad(self) -> None:
        silence = min(self._silence, self._buffer.size - self._filled)
        self._buffer[self._filled : self._filled + silence] = 0
        self._filled += silence
        self._silence -= silence


class StreamingTranscriber:
    """Transcribes one stream of mono float32 PCM at the manifest's rate, full scale 1.0.

    Live (`tokens_per_call` None) every complete token is processed inside the `feed` that completes it. For files,
    `tokens_per_call` gathers tokens into calls of exactly that size, the remainder in `flush`: same hits, less cost.
    Choose a delay by index, or by `latency_ms` (largest total latency allowed); neither means the manifest's default.

    Each call returns new hits by frame, within a frame by time (sorted up to two frames, see `StreamingDecoder`). Where
    the engine fails inside a call, the hits of the same call before it are kept for `found`.
    """

    def __init__(
        self,
        engine: Engine,
        delay_index: int | None = None,
        *,
        latency_ms: float | None = None,
        tokens_per_call: int | None = None,
    ) -> None:
        if tokens_per_call is not None and tokens_per_call < 1:
            raise UsageError(f"{tokens_per_call} tokens per call: expected 1 or more, or None for live streams")
        self._engine = engine
        self._live = tokens_per_call is None
        self._stream = Stream(
            engine.manifest,
            delay_index,
            latency_ms=latency_ms,
            capacity_tokens=tokens_per_call or _LIVE_TOKENS_PER_CALL,
        )
        self._delay = np.array([[self.delay_index]], np.int64)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample is the first of a new stream."""
        self._stream.reset()
        self._state = self._engine.zero_state(1)
        self._found: list[Hit] = []

    @property
    def delay_index(self) -> int:
        """The delay in use, as an index into the manifest's `delays_ms`."""
        return self._stream.delay_index

    @property
    def sample_rate(self) -> int:
        """Hz of the PCM that `feed` takes."""
        return self._engine.manifest.sample_rate

    @property
    def samples_fed(self) -> int:
        """Input samples taken since the start. Live, `feed` decides a hit with no sample after these."""
        return self._stream.fed

    @property
    def samples_processed(self) -> int:
        """Input samples that have been through the network; the rest waits for its token or call to fill."""
        return max(self._stream.fed - self._stream.waiting, 0)

    @property
    def non_finite_samples(self) -> int:
        """Input samples that were NaN, infinite or absurdly large, replaced by 0, since the start."""
        return self._stream.non_finite

    @property
    def total_latency_ms(self) -> float:
        """Worst case from attack to report with the chosen delay, without transport and computing."""
        return self._stream.total_latency_ms

    def feed(self, pcm: Floats) -> list[Hit]:
        """Take the next samples [n], any n; return the hits that became certain.

        Raises ValueError for what is no such array, RuntimeError after `flush`, EngineError.
        """
        if self._stream.finished:
            raise RuntimeError("this stream was flushed; call reset() before feeding another")
        pcm = check_pcm(pcm)
        while len(pcm):
            taken = min(self._stream.room, len(pcm))
            self._stream.push(pcm[:taken])
            pcm = pcm[taken:]
            if not self._stream.room or self._live:
                self._run()
        return self.found()

    def flush(self) -> list[Hit]:
        """End of the stream: return the remaining hits before its end. Feeding again needs `reset` first."""
        self._stream.finish()
        while not self._stream.ended:
            self._run()
        return self.found()

    def found(self) -> list[Hit]:
        """Hits that are certain and were not returned yet: those before a call of the engine that raised."""
        hits, self._found = self._found, []
        return hits

    def _run(self) -> None:
        """One call of the network over the complete tokens."""
        tokens = self._stream.tokens
        if not tokens:
            return
        output = self._engine.step(self._stream.audio(tokens)[None], self._delay, self._state)
        self._state = output.state
        heads = output.onset_logits[0], output.velocity[0], output.offset[0]
        self._found += self._stream.advance(tokens, *heads)


def silence_non_finite(pcm: Floats) -> tuple[Floats, int]:
    """Replace what is no audio by 0: (samples, how many were replaced). Other input is returned as it came.

    That is NaN, infinities, and numbers a million times beyond full scale, as damaged files hold them.
    """
    audible = np.abs(pcm) <= _LOUDEST  # false of NaN
    if audible.all():
        return pcm, 0
    return np.where(audible, pcm, np.float32(0)), int(pcm.size - np.count_nonzero(audible))


def silenced_text(count: int) -> list[str]:
    """The warning about so many samples that `silence_non_finite` replaced: none, or one line."""
    return [f"{count} sample(s) were NaN, infinite or absurdly large and were taken as silence"] if count else []


def check_pcm(pcm: Floats) -> Floats:
    """Mono float32 samples [n]. Raises ValueError for anything else."""
    pcm = np.asarray(pcm)
    if pcm.ndim != 1 or not np.issubdtype(pcm.dtype, np.floating):
        raise ValueError(
            f"expected mono samples as a 1-D float array, full scale 1.0, found shape {pcm.shape} of {pcm.dtype}; "
            "downmix and scale first"
        )
    return pcm.astype(np.float32, copy=False)


def _choose_delay(manifest: Manifest, delay_index: int | None, latency_ms: float | None) -> int:
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
