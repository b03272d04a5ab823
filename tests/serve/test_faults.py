"""Clients that send garbage, stall or vanish: they are told, others notice nothing, nothing heard is lost."""

from __future__ import annotations

import json
import socket as sockets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from serving import (
    HANDSHAKE,
    PCM,
    Serving,
    SlowEngine,
    alone,
    converse,
    frame,
    hits_of,
    hour,
    post_request,
    said,
    start_message,
    stream_while,
)
from waiting import wait_until
from websockets.exceptions import ConnectionClosed

from ghostnote.runtime import Engine
from ghostnote.runtime.engines.protocol import StepOutput

GARBAGE = [
    ("{", "bad_json", 1007),
    ("[" * 4000, "bad_json", 1007),
    ("[]", "bad_message", 1008),
    ("x" * 5000, "bad_message", 1008),
    ('{"type": "end"}', "bad_message", 1008),
    (start_message(sample_rate=10**9), "bad_message", 1008),
    (start_message(latency_ms=5), "bad_message", 1008),
    (b"\0\1\2", "bad_message", 1008),
]


def test_garbage_is_answered_and_disturbs_nobody(serve: Callable[..., Serving], click_engine: Engine) -> None:
    server = serve()

    def fault() -> None:
        for garbage, code, close_code in GARBAGE:
            with server.connect() as socket:
                socket.send(garbage)
                messages = said(socket)
            assert [message["type"] for message in messages] == ["error"]
            assert messages[0]["code"] == code
            assert socket.close_code == close_code
            assert socket.close_reason == code

    assert hits_of(stream_while(server, fault)) == alone(click_engine, PCM)
    assert server.metric("ghostnote_errors_total") == len(GARBAGE)
    assert server.pool.stats().streams == 0


def test_bytes_that_are_no_websocket_disturb_nobody(serve: Callable[..., Serving], click_engine: Engine) -> None:
    server, noise = serve(), np.random.default_rng(3).bytes(50_000)
    start = frame(1, start_message().encode())

    def fault() -> None:
        for raw in (noise, start + noise, start + frame(1, b"\xff\xfe"), frame(2, b"")[:5]):
            with sockets.create_connection(("127.0.0.1", server.port), timeout=20) as client, suppress(ConnectionError):
                if raw is not noise:
                    client.sendall(HANDSHAKE)
                    assert client.recv(4096).startswith(b"HTTP/1.1 101")
                client.sendall(raw)
                with suppress(OSError):  # not connected any more: the server was quicker
                    client.shutdown(sockets.SHUT_WR)
                while client.recv(65536):  # until the server has had enough of it
                    pass

    assert hits_of(stream_while(server, fault)) == alone(click_engine, PCM)
    wait_until(lambda: server.pool.stats().streams == 0)


def test_garbage_after_audio_does_not_cost_what_was_heard(serve: Callable[..., Serving], click_engine: Engine) -> None:
    with serve().connect() as socket:
        socket.send(start_message())
        socket.send(PCM.tobytes())
        socket.send('{"type": "dance"}')
        *_, error = messages = said(socket)
    assert error["code"] == "bad_message"
    assert "dance" in error["message"]
    assert hits_of(messages) == alone(click_engine, PCM)


@pytest.mark.parametrize("excess", [1, 20_000, 5_000_000])
def test_too_large_a_message_does_not_cost_what_was_heard(
    excess: int, serve: Callable[..., Serving], click_engine: Engine
) -> None:
    server = serve(max_message_bytes=len(PCM.tobytes()))
    with server.connect() as socket:
        socket.send(start_message())
        socket.send(PCM.tobytes())
        socket.send(PCM.tobytes() + b"\0" * excess)
        *_, error = messages = said(socket)
    assert error["code"] == "too_large"
    assert hits_of(messages) == alone(click_engine, PCM)
    assert socket.close_code == 1009
    wait_until(lambda: server.pool.stats().streams == 0)


def test_too_many_fragments_of_one_message_are_too_large(serve: Callable[..., Serving]) -> None:
    server = serve(max_message_bytes=10_000)

    def without_end() -> Iterator[bytes]:
        while True:
            yield b"\0" * 2_000
            socket.ping()

    with server.connect() as socket, suppress(ConnectionClosed):
        socket.send(start_message())
        socket.send(without_end())
    assert socket.close_code == 1009
    wait_until(lambda: server.pool.stats().streams == 0)


def test_who_vanishes_leaves_a_free_place(serve: Callable[..., Serving], click_engine: Engine) -> None:
    server = serve(max_sessions=2)

    def fault() -> None:
        for _ in range(5):
            with server.connect() as socket:
                socket.send(start_message())
                socket.send(PCM[:20_000].tobytes())
                assert json.loads(socket.recv())["type"] == "ready"
                socket.socket.shutdown(sockets.SHUT_RDWR)  # no goodbye
            wait_until(lambda: server.pool.stats().streams == 1 and server.metric("ghostnote_sessions") == 1)

    assert hits_of(stream_while(server, fault)) == alone(click_engine, PCM)


def test_who_leaves_before_the_answer_leaves_a_free_place(serve: Callable[..., Serving], click_engine: Engine) -> None:
    server = serve(engine=SlowEngine(click_engine, 0.02), max_sessions=1)
    with sockets.create_connection(("127.0.0.1", server.port)) as leaving:
        leaving.sendall(post_request(hour()))
        wait_until(lambda: server.metric("ghostnote_tokens") > 0)
    wait_until(lambda: server.pool.stats().streams == 0)
    assert server.post(b"")[0] == 415  # by the only thread for uploads
    assert 'ghostnote_errors_total{kind="disconnected"} 1.0' in server.metrics.text().decode()


def test_one_too_many_is_refused_until_there_is_room(serve: Callable[..., Serving]) -> None:
    server = serve(max_sessions=1)
    with server.connect() as first:
        first.send(start_message())
        first.recv()
        with server.connect() as second:
            (error,) = said(second)
        assert error["code"] == "full"
        assert "try again later" in error["message"]
        assert second.close_code == 1013
        assert server.post(b"")[0] == 503
    wait_until(lambda: server.metric("ghostnote_sessions") == 0)
    with server.connect() as third:
        assert converse(third, PCM.tobytes())[-1]["type"] == "end"
    assert server.metric("ghostnote_sessions_refused_total") == 2
    assert server.metric("ghostnote_sessions_opened_total") == 2


@pytest.mark.parametrize("started", [False, True])
def test_silence_ends_a_session_with_all_that_was_heard(
    serve: Callable[..., Serving], click_engine: Engine, started: bool
) -> None:
    with serve(idle_timeout_s=0.3).connect() as socket:
        if started:
            socket.send(start_message())
            socket.send(PCM.tobytes())
        *_, error = messages = said(socket)
    assert error["code"] == "idle"
    assert socket.close_code == 1008
    assert hits_of(messages) == (alone(click_engine, PCM) if started else [])


@pytest.mark.parametrize(("samples", "pause_s"), [(882, 0.02), (100_000, 0)])
def test_a_session_ends_after_its_time(serve: Callable[..., Serving], samples: int, pause_s: float) -> None:
    with serve(max_session_s=0.5, idle_timeout_s=5).connect() as socket:
        socket.send(start_message())
        began = time.monotonic()
        try:
            while time.monotonic() < began + 10:
                socket.send(PCM[:samples].tobytes())
                time.sleep(pause_s)
        except ConnectionClosed:
            pass
        *_, error = said(socket)
    assert error["code"] == "too_long"
    assert time.monotonic() - began < 5


class PoisonedEngine(SlowEngine):
    """Fails whenever a sample is louder than full scale by far."""

    def step(self, audio: np.ndarray, *arguments: Any) -> StepOutput:
        if np.abs(audio).max() > 100:
            raise RuntimeError("too loud")
        return self._engine.step(audio, *arguments)


def test_an_engine_that_fails_ends_the_guilty_session_only(serve: Callable[..., Serving], click_engine: Engine) -> None:
    server = serve(engine=PoisonedEngine(click_engine, 0))
    certain = [hit for hit in alone(click_engine, PCM) if hit["time"] < 2.2]

    def fault() -> None:
        with server.connect() as socket:
            socket.send(start_message())
            socket.send(PCM.tobytes())
            early = [json.loads(socket.recv(timeout=10)) for _ in range(1 + len(certain))]
            socket.send(np.full(2000, 1e6, np.float32).tobytes())
            *_, error = said(socket)
        assert error["code"] == "engine"
        assert "too loud" in error["message"]
        assert socket.close_code == 1011
        assert hits_of(early) == certain

    assert hits_of(stream_while(server, fault)) == alone(click_engine, PCM)


def test_a_closed_pool_is_told_as_an_error(serve: Callable[..., Serving]) -> None:
    server = serve()
    server.pool.close()
    with server.connect() as socket:
        socket.send(start_message())
        (error,) = said(socket)
    assert error["code"] == "engine"
    assert server.post(b"")[0] == 500
