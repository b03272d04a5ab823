"""What an engine makes of a recording: its raw outputs, the hits that the decoder picks from them, and a live stream.

Everything goes through the runtime's own `StreamingTranscriber` and `decode`, so that what is measured is what users
run. A whole-file model shares the decoder alone. Letters: N samples, F frames, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...runtime.decoder import decode
from ...runtime.engines.protocol import HEADS, Engine, State, StepOutput
from ...runtime.manifest import Manifest
from ...runtime.streams.stream import FILE_TOKENS_PER_CALL, StreamingTranscriber
from .notes import Note, in_order, note_of

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint

__all__ = ["PIECE_S", "Heard", "Listener", "Source", "WholeFile", "at_threshold", "hear", "notes_at", "stream"]

Floats = NDArray[np.float32]
Source = Path | Floats  # a recording, or mono samples [N] at the engine's rate
PIECE_S = 0.02  # a live stream arrives in pieces of this length


@dataclass(frozen=True)
class Heard:
    """The network's answer to one recording with one delay: three heads [F, C], and how long the recording was."""

    onset_logits: Floats
    velocity: Floats
    offset: Floats
    duration_s: float


class WholeFile:
    """A model that hears a recording's end before it answers (the baseline): no stream, no latency."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.manifest = checkpoint.manifest()
        self._kind, self._model = checkpoint.config.kind, checkpoint.model()

    def describe(self) -> str:
        """One line for humans."""
        import torch

        return f"{self._kind} {self.manifest.name} ({self.manifest.precision}) on PyTorch {torch.__version__}, cpu"

    def hear(self, pcm: Floats) -> Heard:
        """The outputs for a recording, mono [N] at the model's rate."""
        import torch

        from ..whole_file import whole_outputs

        (outputs,) = whole_outputs(self._model, torch.from_numpy(pcm)[None], self.manifest.default_delay)
        return Heard(*outputs, len(pcm) / self.manifest.sample_rate)


Listener = Engine | WholeFile


class _Recorder:
    """An engine that keeps the outputs of every step of its one stream."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.manifest = engine.manifest
        self.zero_state = engine.zero_state
        self.select = engine.select
        self.describe = engine.describe
        self.close = engine.close
        self.steps: list[StepOutput] = []

    def step(self, audio: Floats, delay: NDArray[np.int64], state: State) -> StepOutput:
        output = self._engine.step(audio, delay, state)
        self.steps.append(replace(output, state={}))
        return output


def hear(engine: Listener, source: Source, delay: int) -> Heard:
    """Run the network over a recording once. Raises InputError and EngineError."""
    if isinstance(engine, WholeFile):
        return engine.hear(_pcm(source, engine.manifest.sample_rate))
    recorder = _Recorder(engine)
    transcriber = StreamingTranscriber(recorder, delay, tokens_per_call=FILE_TOKENS_PER_CALL)
    for block in _blocks(source, transcriber.sample_rate):
        transcriber.feed(block)
    transcriber.flush()
    onset_logits, velocity, offset = (
        np.concatenate([getattr(step, head)[0] for step in recorder.steps]) for head in HEADS
    )
    return Heard(onset_logits, velocity, offset, transcriber.samples_fed / transcriber.sample_rate)


def notes_at(heard: Heard, manifest: Manifest, delay: int) -> list[Note]:
    """The decoder's hits, sorted, with the thresholds of `manifest`; with the engine's own: what a user would get."""
    hits = decode(heard.onset_logits, heard.velocity, heard.offset, manifest, delay, heard.duration_s)
    return in_order(note_of(hit) for hit in hits)


def at_threshold(manifest: Manifest, threshold: float) -> Manifest:
    """The manifest with one decision threshold for everything."""
    rows = tuple((threshold,) * len(manifest.decoder.parents) for _ in manifest.delays_ms)
    return replace(manifest, decoder=replace(manifest.decoder, thresholds=rows))


def stream(engine: Engine, source: Source, delay: int) -> list[Note]:
    """The same hits, live: fed in pieces of 20 ms, each with the position of the input at which it came out.

    After its end the recording goes on as silence, as a live input would.
    """
    transcriber = StreamingTranscriber(engine, delay)
    rate = transcriber.sample_rate
    piece = round(PIECE_S * rate)
    pcm = _pcm(source, rate)
    after = np.zeros(round(transcriber.total_latency_ms / 1000 * rate) + piece, np.float32)
    whole = np.concatenate([pcm, after])
    notes = []
    for start in range(0, len(whole), piece):
        hits = transcriber.feed(whole[start : start + piece])
        notes += [note_of(hit, transcriber.samples_fed / rate) for hit in hits if hit.time_s < len(pcm) / rate]
    return in_order(notes)


def _pcm(source: Source, rate: int) -> Floats:
    return np.concatenate([np.zeros(0, np.float32), *_blocks(source, rate)])


def _blocks(source: Source, rate: int) -> Iterator[Floats]:
    if not isinstance(source, Path):
        yield source
        return
    from ...runtime.input.audio import AudioReader

    with AudioReader(source, rate) as reader:
        yield from reader
