"""The session protocol over real sockets: what is sent is what is heard, in whatever form and pieces it comes."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st
from serving import Serving, alone, clicks, converse, hits_of, said, start_message

from ghostnote.runtime import Engine
from ghostnote.runtime.input.pcm import PcmFormat
from ghostnote.runtime.serve.protocol import Problem, SessionError, parse_command, parse_start
from ghostnote.runtime.serve.receiving import Arrivals, PcmDecoder


def test_hits_are_those_of_the_engine_alone(serve: Callable[..., Serving], click_engine: Engine) -> None:
    server, pcm = serve(), clicks(4)
    with server.connect() as socket:
        messages = converse(socket, pcm.tobytes(), sizes=(1, 5001, 3, 4096, 20000))
    ready, *_, end = messages
    expected = alone(click_engine, pcm)
    assert ready["type"] == "ready"
    assert ready["total_latency_ms"] == 100
    assert [entry["code"] for entry in ready["classes"]] == list(click_engine.manifest.codes)
    assert ready["classes"][0] == {"code": "BD", "note": 36, "name": "bass drum"}
    assert len(expected) > 20
    assert hits_of(messages) == expected
    assert end == {"type": "end", "hits": len(expected), "audio_s": round(len(pcm) / 44100, 6)}
    assert socket.close_code == 1000


def test_the_latency_asked_for_is_the_one_that_is_taken(serve: Callable[..., Serving], click_engine: Engine) -> None:
    server, pcm = serve(latency_ms=None), clicks(1)
    for asked, total in ((60, 60), (None, 250)):
        with server.connect() as socket:
            messages = converse(socket, pcm.tobytes(), latency_ms=asked)
        assert messages[0]["total_latency_ms"] == total
        assert hits_of(messages) == alone(click_engine, pcm, asked)


def test_integers_and_channels_and_another_rate(serve: Callable[..., Serving], click_engine: Engine) -> None:
    server, pcm = serve(), clicks(2)
    whole = np.round(pcm * 2**15).astype("<i2")
    with server.connect() as socket:
        stereo = converse(socket, np.repeat(whole, 2).tobytes(), (999,), encoding="s16le", channels=2)
    assert hits_of(stereo) == alone(click_engine, whole.astype(np.float32) / 2**15)
    assert stereo[0]["resampled"] is False
    # The click model answers to single samples, which no resampling leaves as they are: any hits at the right times.
    quick = soxr.resample(pcm, 44100, 48000)
    with server.connect() as socket:
        resampled = converse(socket, (4 * quick).tobytes(), sample_rate=48000.0)
    assert resampled[0]["resampled"] is True
    assert resampled[-1]["audio_s"] == pytest.approx(len(pcm) / 44100, abs=1e-4)
    expected = [hit["time"] for hit in alone(click_engine, pcm)]
    found = np.array([hit["time"] for hit in hits_of(resampled)])
    assert all(np.abs(found - time).min() < 0.001 for time in expected)


def test_after_a_reset_time_begins_again(serve: Callable[..., Serving], click_engine: Engine) -> None:
    server, first, second = serve(), clicks(1.5, seed=1), clicks(2, seed=2)
    with server.connect() as socket:
        socket.send(start_message())
        socket.send(first.tobytes())
        socket.send('{"type": "reset"}')
        messages = []
        while not messages or messages[-1]["type"] != "reset":
            messages.append(json.loads(socket.recv(timeout=10)))
        assert hits_of(messages) == alone(click_engine, first)
        assert messages[-1] == {"type": "reset", "hits": len(messages) - 2, "audio_s": round(len(first) / 44100, 6)}
        socket.send(second.tobytes())
        socket.send('{"type": "end"}')
        rest = said(socket)
    assert hits_of(rest) == alone(click_engine, second)
    assert rest[-1]["audio_s"] == round(len(second) / 44100, 6)


def test_bad_samples_are_silence_and_are_counted(serve: Callable[..., Serving], click_engine: Engine) -> None:
    server, pcm = serve(), clicks(1)
    broken = pcm.copy()
    broken[[100, 20000]] = np.nan, np.inf
    with server.connect() as socket:
        messages = converse(socket, broken.tobytes())
    assert messages[-1]["replaced_samples"] == 2
    assert hits_of(messages) == alone(click_engine, pcm)


def test_no_audio_at_all(serve: Callable[..., Serving]) -> None:
    with serve().connect() as socket:
        messages = converse(socket, b"")
    assert [message["type"] for message in messages] == ["ready", "end"]
    assert messages[-1] == {"type": "end", "hits": 0, "audio_s": 0}


# --- the parts, without a socket ---


@given(st.text(max_size=60) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5),
                                           lambda inner: st.lists(inner, max_size=3)
                                           | st.dictionaries(st.sampled_from(["type", "sample_rate", "x"]), inner),
                                           max_leaves=5).map(json.dumps))  # fmt: skip
def test_whatever_is_no_message_is_refused_in_words(text: str) -> None:
    for parse in (parse_command, lambda message: parse_start(message, None)):
        with pytest.raises(SessionError) as refused:
            parse(text)
        assert refused.value.problem in (Problem.BAD_JSON, Problem.BAD_MESSAGE)
        assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"sample_rate": 7999}, "sample_rate"),
        ({"sample_rate": 10**30}, "sample_rate"),
        ({"sample_rate": True}, "sample_rate"),
        ({"sample_rate": "44100"}, "sample_rate"),
        ({"sample_rate": None}, "sample_rate"),
        ({"channels": 0}, "channels"),
        ({"channels": 33}, "channels"),
        ({"channels": 1.5}, "channels"),
        ({"encoding": "mp3"}, "encoding"),
        ({"encoding": ["f32le"]}, "encoding"),
        ({"latency_ms": "fast"}, "latency_ms"),
        ({"latency_ms": float("nan")}, "latency_ms"),
        ({"latency_ms": -1}, "latency_ms"),
        ({"latency_ms": True}, "latency_ms"),
        ({"latency_ms": float("inf")}, "latency_ms"),
        ({"latency_ms": int("9" * 400)}, "latency_ms"),
        ({"type": "begin"}, "start"),
    ],
)
def test_a_start_says_what_is_wrong_with_it(fields: dict, named: str) -> None:
    with pytest.raises(SessionError, match=named) as refused:
        parse_start(start_message(**fields), None)
    assert refused.value.problem is Problem.BAD_MESSAGE
    assert len(str(refused.value)) < 150


@given(
    st.lists(st.integers(1, 700), min_size=1, max_size=20),
    st.sampled_from(["f32le", "s16le"]),
    st.integers(1, 3),
    st.sampled_from([8000, 44100, 48000]),
)
def test_pieces_of_any_size_decode_to_the_same(sizes: list[int], encoding: str, channels: int, rate: int) -> None:
    pcm = PcmFormat(encoding, rate, channels)
    whole = np.random.default_rng(1).uniform(-1, 1, 1500 * channels)
    data = (whole.astype("<f4") if encoding == "f32le" else (whole * 32767).astype("<i2")).tobytes()
    heard, position = PcmDecoder(pcm, 44100), 0
    pieces = []
    while position < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces += heard.decode(data[position : position + size]) or [np.zeros(0)]
        position += size
        pieces.append(np.zeros(0, np.float32))
    one = PcmDecoder(pcm, 44100)
    expected = np.concatenate([*one.decode(data), one.finish()])
    np.testing.assert_allclose(np.concatenate([*pieces, heard.finish()]), expected, atol=1e-6)
    assert heard.frames == one.frames == 1500


def test_waiting_is_told_from_the_arrival_of_the_attack() -> None:
    arrivals = Arrivals(span_s=1.0)
    for number in range(1, 301):
        arrivals.note(number / 100, now=10 + number)
    assert arrivals.waited_s(2.995, now=400) == 90
    assert arrivals.waited_s(2.505, now=400) == 400 - 261
    assert arrivals.waited_s(3.5, now=400) is None
    assert arrivals.waited_s(0.5, now=400) == 400 - (10 + 200)  # the oldest that is known
