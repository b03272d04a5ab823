"""What tests of pools share: an engine that is watched, and how streams are played."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import laws
import numpy as np
from click_model import TOKEN

from ghostnote.runtime import Engine, EngineError, Hit, PooledStream
from ghostnote.runtime.engines.protocol import State, StepOutput

DELAYS = range(6)


class Watched:
    """An engine that counts, may be slow, and fails where a stream is louder than 10."""

    def __init__(self, engine: Engine, step_s: float = 0.0) -> None:
        self._engine, self._step_s = engine, step_s
        self.manifest, self.zero_state = engine.manifest, engine.zero_state
        self.describe, self.close = engine.describe, engine.close
        self.batches: list[int] = []
        self.tokens: list[int] = []
        self.selected = 0
        self.threads: set[int] = set()

    def step(self, audio: np.ndarray, delay: np.ndarray, state: State) -> StepOutput:
        self.threads.add(threading.get_ident())
        time.sleep(self._step_s)
        if np.abs(audio).max() > 10:
            raise EngineError("too loud")
        self.batches.append(len(audio))
        self.tokens.append(audio.shape[1] // TOKEN)
        return self._engine.step(audio, delay, state)

    def select(self, rows: Sequence[tuple[State, int]]) -> State:
        self.threads.add(threading.get_ident())
        self.selected += len(rows)
        return self._engine.select(rows)


def play(stream: PooledStream, pcm: np.ndarray, sizes: Any) -> list[Hit]:
    """Feed in pieces, reading as we go."""
    hits = []
    for part in laws.cut(len(pcm), sizes):
        stream.feed(pcm[part])
        hits += stream.read()
    return hits + stream.flush()


def read_until_error(stream: PooledStream) -> tuple[list[Hit], EngineError]:
    hits: list[Hit] = []
    while True:
        try:
            hits += stream.read(timeout=5)
        except EngineError as error:
            return hits, error
