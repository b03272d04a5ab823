"""The laws of the streaming contract, on PyTorch and on onnxruntime, with a tiny model of random weights.

Laws at the level of PCM and hits (any number of samples at a time, latency) are tested with the runtime.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensor_laws as laws
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tokens_of_audio

from ghostnote.runtime.engine import Engine

TOKENS = 160  # more than the tiny model's receptive field: 2 layers of 16 tokens, and the convolutions
DELAYS = (0, 3, 5)


@pytest.fixture(scope="module", params=["torch", "onnxruntime"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue({"torch": "tiny_torch", "onnxruntime": "tiny_engine"}[request.param])


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """[3, N], three streams."""
    return tokens_of_audio(TOKENS, streams=len(DELAYS), seed=7)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_whole_equals_any_chunking(engine: Engine, audio: np.ndarray, size: int, record_property) -> None:
    record_property("ties", laws.whole_equals_chunked(engine, audio, DELAYS, laws.pieces(TOKENS, size)))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_whole_equals_random_chunking(engine: Engine, audio: np.ndarray, seed: int) -> None:
    laws.whole_equals_chunked(engine, audio, DELAYS, laws.random_pieces(TOKENS, seed))


@pytest.mark.parametrize("size", [2, 50])
def test_second_run_is_identical(engine: Engine, audio: np.ndarray, size: int) -> None:
    laws.second_run_is_identical(engine, audio, DELAYS, laws.pieces(TOKENS, size))


@pytest.mark.parametrize("size", [2, 50])
def test_a_batch_equals_each_alone(engine: Engine, audio: np.ndarray, size: int, record_property) -> None:
    record_property("ties", laws.batch_equals_alone(engine, audio, DELAYS, laws.pieces(TOKENS, size)))


def test_every_state_matters(engine: Engine, audio: np.ndarray) -> None:
    laws.state_matters(engine, audio[:, : 882 * 20], DELAYS)


def test_every_delay_matters(engine: Engine, audio: np.ndarray) -> None:
    laws.delays_matter(engine, audio[:, : 882 * 20])


@pytest.mark.parametrize("size", [1, 2, 7, 50])
@pytest.mark.parametrize("cut", [1, 41, 99])
def test_the_future_changes_nothing(engine: Engine, size: int, cut: int) -> None:
    laws.future_changes_nothing(engine, DELAYS, laws.pieces(100, size), cut)


def test_silence_gives_finite_numbers(engine: Engine) -> None:
    silence = np.zeros((1, 882 * 50), np.float32)
    output = engine.step(silence, np.zeros((1, 1), np.int64), engine.zero_state(1))
    assert all(np.isfinite(value).all() for value in (output.onset_logits, output.velocity, output.offset))


def test_heads_stay_in_their_ranges(engine: Engine, audio: np.ndarray) -> None:
    output = engine.step(audio * 4, np.zeros((len(audio), 1), np.int64), engine.zero_state(len(audio)))
    assert output.onset_logits.shape == (len(audio), 2 * TOKENS, 18)
    assert 0 <= output.velocity.min() <= output.velocity.max() <= 1
    assert -0.5 <= output.offset.min() <= output.offset.max() <= 1.5
