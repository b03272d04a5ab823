"""The streaming transcriber: any pieces give the same hits, nothing is late, nothing grows."""

from __future__ import annotations

import tracemalloc
from typing import Any

import click_model
import laws
import numpy as np
import pytest
from click_model import Clicks
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostnote.runtime import Engine, EngineError, Hit, StreamingTranscriber, UsageError, decode

RATE = click_model.RATE


def level_hits(hits: list[Hit]) -> list[tuple[int, str]]:
    """(sample, class) of all hits but BD, which fires at every click."""
    return [(round(hit.time_s * RATE), hit.code) for hit in hits if hit.code != "BD"]


@pytest.fixture(scope="module")
def whole(click_engine: Engine, clicks: Clicks) -> list[Hit]:
    return laws.transcribe(StreamingTranscriber(click_engine), clicks.pcm, [len(clicks.pcm)])


@pytest.mark.parametrize("delay_index", range(6))
def test_every_click_is_found(delay_index: int, click_engine: Engine, clicks: Clicks) -> None:
    hits = laws.transcribe(StreamingTranscriber(click_engine, delay_index), clicks.pcm, laws.every(5000))
    codes = click_engine.manifest.codes
    assert level_hits(hits) == [(place, codes[channel]) for place, channel in clicks.attacks]


@settings(max_examples=15)
@given(
    st.lists(st.one_of(st.integers(0, 50), st.integers(800, 900), st.integers(0, 60_000)), max_size=30),
    st.sampled_from([None, 1, 3, 7, 50, 64]),
)
def test_any_pieces_and_calls(
    click_engine: Engine, clicks: Clicks, whole: list[Hit], sizes: list[int], tokens_per_call: int | None
) -> None:
    transcriber = StreamingTranscriber(click_engine, tokens_per_call=tokens_per_call)
    sizes = [*sizes, len(clicks.pcm)]
    assert laws.transcribe(transcriber, clicks.pcm, sizes) == whole
    transcriber.reset()
    assert laws.transcribe(transcriber, clicks.pcm, sizes) == whole  # second run


def test_single_samples(click_engine: Engine, clicks: Clicks) -> None:
    pcm = clicks.pcm[:9000]
    one_by_one = laws.transcribe(StreamingTranscriber(click_engine, 1), pcm, laws.every(1))
    assert one_by_one == laws.transcribe(StreamingTranscriber(click_engine, 1), pcm, [len(pcm)])
    assert one_by_one


def test_streams_share_an_engine(click_engine: Engine, clicks: Clicks, whole: list[Hit]) -> None:
    a, b = StreamingTranscriber(click_engine), StreamingTranscriber(click_engine, 0)
    hits: list[Hit] = []
    for part in laws.cut(len(clicks.pcm), laws.every(4567)):
        hits += a.feed(clicks.pcm[part])
        b.feed(clicks.pcm[part][::-1])
    assert hits + a.flush() == whole


def test_the_stream_is_the_decoder_over_the_network(click_engine: Engine, clicks: Clicks, whole: list[Hit]) -> None:
    """What evaluation does: network over the zero-padded whole, then `decode`."""
    manifest, index = click_engine.manifest, click_engine.manifest.default_delay
    padded = np.zeros((1, -(-(len(clicks.pcm) + RATE) // click_model.TOKEN) * click_model.TOKEN), np.float32)
    padded[0, : len(clicks.pcm)] = clicks.pcm
    heads = laws.run_engine(click_engine, padded, [index], laws.every(64))
    arrays = [value[0] for value in heads.arrays().values()]
    hits = decode(*arrays, manifest, index, duration_s=len(clicks.pcm) / RATE)
    assert hits == sorted(whole, key=lambda hit: hit.time_s)


@pytest.mark.parametrize("delay_index", range(6))
def test_no_hit_is_later_than_the_total_latency(delay_index: int, click_engine: Engine, clicks: Clicks) -> None:
    transcriber = StreamingTranscriber(click_engine, delay_index)
    reported = laws.assert_reported_in_time(transcriber, clicks.pcm, piece=63)
    limit = transcriber.total_latency_ms / 1000
    attack_of = {click_engine.manifest.codes[channel]: [] for _, channel in clicks.attacks}
    for place, channel in clicks.attacks:
        attack_of[click_engine.manifest.codes[channel]].append(place / RATE)
    waits = [
        now - min(attack_of[hit.code], key=lambda attack: abs(attack - hit.time_s))
        for hit, now in reported
        if hit.code != "BD"
    ]
    assert len(waits) > 30
    assert max(waits) <= limit + 1e-9  # against the marked attack, not only the reported time
    assert max(waits) > limit - 0.01  # and the figure is no exaggeration


def test_different_without_reset(click_engine: Engine, clicks: Clicks) -> None:
    pcm = clicks.pcm[: 50 * click_model.TOKEN]
    transcriber = StreamingTranscriber(click_engine)
    first = transcriber.feed(pcm)
    assert transcriber.feed(pcm) != first
    transcriber.reset()
    assert transcriber.feed(pcm) == first


def test_memory_is_bounded(click_engine: Engine) -> None:
    """Twenty times the audio, live and in file calls, takes no more memory."""
    noise = np.random.default_rng(0).uniform(-0.2, 0.2, RATE).astype(np.float32)

    def peak(seconds: int, tokens_per_call: int | None) -> int:
        transcriber = StreamingTranscriber(click_engine, tokens_per_call=tokens_per_call)
        transcriber.feed(noise)
        tracemalloc.start()
        for _ in range(seconds):
            transcriber.feed(noise)
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    for tokens_per_call in (None, 50):
        assert peak(60, tokens_per_call) < 1.1 * peak(3, tokens_per_call) + 10_000


def test_a_long_piece_is_cut_into_calls(click_engine: Engine) -> None:
    calls = []

    class Counting:
        manifest = click_engine.manifest
        zero_state = staticmethod(click_engine.zero_state)

        def step(self, audio, delay, state):
            calls.append(audio.shape[1] // click_model.TOKEN)
            return click_engine.step(audio, delay, state)

    StreamingTranscriber(Counting()).feed(np.zeros(120 * click_model.TOKEN + 5, np.float32))
    assert calls == [50, 50, 20]
    calls.clear()
    transcriber = StreamingTranscriber(Counting(), 0, tokens_per_call=50)
    transcriber.feed(np.zeros(120 * click_model.TOKEN + 5, np.float32))
    assert calls == [50, 50]
    transcriber.flush()
    assert calls == [50, 50, 22]


def test_non_finite_samples_count_as_silence(click_engine: Engine, clicks: Clicks, whole: list[Hit]) -> None:
    pcm = clicks.pcm.copy()
    silent = np.flatnonzero(pcm == 0)[[10, 500, 5000, 40_000]]
    pcm[silent] = np.nan, np.inf, -np.inf, -1e17
    transcriber = StreamingTranscriber(click_engine)
    assert laws.transcribe(transcriber, pcm, laws.every(1000)) == whole
    assert transcriber.non_finite_samples == 4
    assert np.isnan(pcm[silent[0]])  # the caller's array is left alone
    transcriber.reset()
    assert transcriber.non_finite_samples == 0


@pytest.mark.parametrize("tokens_per_call", [None, 10])
def test_an_engine_that_fails_inside_a_call_keeps_the_hits_before_it(
    click_engine: Engine, clicks: Clicks, whole: list[Hit], monkeypatch: pytest.MonkeyPatch, tokens_per_call: int | None
) -> None:
    step, calls = type(click_engine).step, []

    def failing(self: Engine, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise EngineError("the third call")
        return step(self, *arguments)

    monkeypatch.setattr(type(click_engine), "step", failing)
    transcriber = StreamingTranscriber(click_engine, tokens_per_call=tokens_per_call)
    with pytest.raises(EngineError, match="the third call"):
        transcriber.feed(clicks.pcm)
    found = transcriber.found()
    assert found
    assert found == whole[: len(found)]
    assert transcriber.found() == []


@pytest.mark.parametrize("length", [0, 1, 440, 882, 883])
def test_very_short_streams(length: int, click_engine: Engine) -> None:
    pcm = np.full(length, 0.95, np.float32)
    transcriber = StreamingTranscriber(click_engine)
    hits = laws.transcribe(transcriber, pcm, [max(1, length)])
    assert [hit.code for hit in hits] == ["BD"] * bool(length)
    assert all(0 <= hit.time_s < length / RATE for hit in hits)
    assert transcriber.samples_fed == length


def test_silence_has_no_hits(click_engine: Engine) -> None:
    assert laws.transcribe(StreamingTranscriber(click_engine), np.zeros(RATE, np.float32), [RATE]) == []


def test_samples_processed(click_engine: Engine) -> None:
    transcriber = StreamingTranscriber(click_engine)
    transcriber.feed(np.zeros(2000, np.float32))
    assert (transcriber.samples_fed, transcriber.samples_processed) == (2000, 1764)


def test_flush_ends_the_stream(click_engine: Engine) -> None:
    transcriber = StreamingTranscriber(click_engine)
    transcriber.flush()
    assert transcriber.flush() == []
    with pytest.raises(RuntimeError, match="reset"):
        transcriber.feed(np.zeros(1, np.float32))


@pytest.mark.parametrize("pcm", [np.zeros((2, 100), np.float32), np.zeros(100, np.int16)])
def test_what_is_no_mono_float_is_refused(pcm: np.ndarray, click_engine: Engine) -> None:
    with pytest.raises(ValueError, match="mono samples"):
        StreamingTranscriber(click_engine).feed(pcm)


def test_choice_of_the_delay(click_engine: Engine) -> None:
    assert StreamingTranscriber(click_engine).delay_index == 5
    assert StreamingTranscriber(click_engine, latency_ms=100).delay_index == 3
    assert StreamingTranscriber(click_engine, 2).total_latency_ms == 80
    for bad in ({"delay_index": 6}, {"delay_index": -1}, {"latency_ms": 1}, {"delay_index": 1, "latency_ms": 100}):
        with pytest.raises(UsageError):
            StreamingTranscriber(click_engine, **bad)
