"""The laws of the streaming contract, on PyTorch and on onnxruntime, with a tiny model of random weights.

The checks are those of laws.py; here they meet the real network, with more audio than its receptive field.
"""

from __future__ import annotations

from collections.abc import Callable

import laws
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tokens_of_audio

from ghostnote.runtime.engines.protocol import Engine
from ghostnote.runtime.streams.stream import StreamingTranscriber

TOKENS = 160  # 3.2 s; the tiny model reaches back 2 layers of 16 tokens, and the convolutions
TOKEN = 882  # samples
DELAYS = (0, 3, 5)
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["torch", "onnxruntime"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue({"torch": "tiny_torch", "onnxruntime": "tiny_engine"}[request.param])


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """[3, N], three streams."""
    return tokens_of_audio(TOKENS, streams=len(DELAYS), seed=7)


@pytest.mark.parametrize("delay", DELAYS)
def test_any_chunking_equals_the_whole_and_a_second_run(engine: Engine, audio: np.ndarray, delay: int) -> None:
    laws.assert_any_chunking(engine, audio[0], delay, TOLERANCE)


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_chunking_equals_the_whole(engine: Engine, audio: np.ndarray, seed: int) -> None:
    whole = laws.run_engine(engine, audio, DELAYS, [TOKENS])
    chunked = laws.run_engine(engine, audio, DELAYS, laws.random_sizes(seed, 40))
    laws.assert_same_heads(chunked, whole, TOLERANCE, f"random tokens, seed {seed}")


def test_a_batch_equals_each_alone(engine: Engine, audio: np.ndarray) -> None:
    laws.assert_batch_is_alone(engine, audio, DELAYS, TOLERANCE)


@pytest.mark.parametrize("delay", DELAYS)
def test_without_a_reset_it_differs(engine: Engine, audio: np.ndarray, delay: int) -> None:
    laws.assert_reset_matters(engine, audio[0], delay)


def test_every_kind_of_state_is_used(engine: Engine, audio: np.ndarray) -> None:
    fresh = laws.run_engine(engine, audio, DELAYS, [TOKENS])
    for name, past in fresh.state.items():
        again = laws.run_engine(engine, audio, DELAYS, [TOKENS], engine.zero_state(len(DELAYS)) | {name: past})
        assert np.abs(again.onset_logits - fresh.onset_logits).max() > 100 * TOLERANCE, f"{name} changes nothing"


def test_the_state_does_not_grow(engine: Engine, audio: np.ndarray) -> None:
    state = laws.run_engine(engine, audio, DELAYS, laws.every(7)).state
    assert {n: v.shape for n, v in state.items()} == {n: v.shape for n, v in engine.zero_state(len(DELAYS)).items()}


def test_every_delay_is_a_setting_of_its_own(engine: Engine, audio: np.ndarray) -> None:
    delays = range(len(engine.manifest.delays_ms))
    logits = laws.run_engine(engine, np.repeat(audio[:1], len(delays), axis=0), delays, [TOKENS]).onset_logits
    alike = [(i, j) for i in delays for j in range(i) if np.abs(logits[i] - logits[j]).max() < 100 * TOLERANCE]
    assert alike == []


@pytest.mark.parametrize("token", [0, 40, 99])
@pytest.mark.parametrize("future", ["silence", "noise", "music"])
def test_the_future_changes_nothing(engine: Engine, audio: np.ndarray, token: int, future: str) -> None:
    noise = 0.9 * np.random.default_rng(0).standard_normal(audio.shape[1], np.float32)
    other = {"silence": np.zeros_like(audio[0]), "noise": noise, "music": audio[1]}[future]
    laws.assert_causal(engine, audio[0], other, token, delay_index=3)


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("size", [147, TOKEN, 5000, None])
def test_pcm_in_any_pieces_gives_the_same_hits(
    engine: Engine, audio: np.ndarray, delay: int, size: int | None, record_property: Callable[[str, object], None]
) -> None:
    pcm = audio[0][:-311]  # ends inside a token
    whole = laws.transcribe(StreamingTranscriber(engine, delay, tokens_per_call=TOKENS + 20), pcm, [len(pcm)])
    sizes = laws.random_sizes(1, 4000) if size is None else laws.every(size)
    found = laws.transcribe(StreamingTranscriber(engine, delay), pcm, sizes)
    heads = laws.run_engine(engine, audio[:1], [delay], [TOKENS])
    allowed = laws.ties(heads, engine.manifest, delay, 2 * TOLERANCE)
    record_property("differing hits", laws.assert_hits_agree(found, whole, allowed).total())
    assert len(whole) > 100


@pytest.mark.parametrize("delay", DELAYS)
def test_no_hit_is_reported_late(engine: Engine, audio: np.ndarray, delay: int) -> None:
    assert laws.assert_reported_in_time(StreamingTranscriber(engine, delay), audio[0], piece=147)


def test_silence_gives_finite_numbers(engine: Engine) -> None:
    heads = laws.run_engine(engine, np.zeros((1, TOKEN * 50), np.float32), [0], [50])
    assert all(np.isfinite(value).all() for value in heads.arrays().values())


def test_heads_stay_in_their_ranges(engine: Engine, audio: np.ndarray) -> None:
    heads = laws.run_engine(engine, audio * 4, DELAYS, [TOKENS])
    assert heads.onset_logits.shape == (len(DELAYS), 2 * TOKENS, 18)
    assert 0 <= heads.velocity.min() <= heads.velocity.max() <= 1
    assert -0.5 <= heads.offset.min() <= heads.offset.max() <= 1.5
