"""Clients that send more than is heard, or do not read: they wait or are ended, others notice nothing."""

from __future__ import annotations

import socket as sockets
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click_model
import numpy as np
import psutil
import pytest
import uvicorn
from serving import (
    HANDSHAKE,
    PCM,
    Serving,
    SlowEngine,
    alone,
    clicks,
    converse,
    frame,
    hits_of,
    start_message,
    stream_while,
)
from waiting import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from ghostnote.runtime import Engine
from ghostnote.runtime.serve import frames
from ghostnote.runtime.serve.frames import LARGE_BYTES, Allowance


def test_a_flood_is_read_no_faster_than_it_is_heard(serve: Callable[..., Serving], click_engine: Engine) -> None:
    """200 MB as fast as the socket takes them: the sender has to wait, memory does not grow, others hear all."""
    server = serve(engine=SlowEngine(click_engine, 0.02))
    sent = [0]

    def flood(socket: ClientConnection) -> None:
        block = np.zeros(100_000, np.float32).tobytes()
        try:
            while sent[0] < 500:
                socket.send(block)
                sent[0] += 1
        except (ConnectionClosed, OSError):
            return

    memory = psutil.Process().memory_info().rss
    with server.connect() as flooding:
        flooding.send(start_message())
        thread = threading.Thread(target=flood, args=(flooding,), daemon=True)

        def fault() -> None:
            thread.start()
            wait_until(lambda: sent[0] > 0)

        assert hits_of(stream_while(server, fault)) == alone(click_engine, PCM)
        assert sent[0] < 100
        assert psutil.Process().memory_info().rss - memory < 60e6
        assert server.metric("ghostnote_buffer_seconds") < 2.5
        flooding.socket.shutdown(sockets.SHUT_RDWR)
        thread.join(10)
    wait_until(lambda: server.pool.stats().streams == 0)


def test_who_is_held_back_longer_than_a_ping_may_take_is_heard(
    serve: Callable[..., Serving], click_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pong waits behind audio that is not read yet."""

    class ImpatientConfig(uvicorn.Config):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{"ws_ping_interval": 0.1, "ws_ping_timeout": 0.1} | options)

    monkeypatch.setattr(uvicorn, "Config", ImpatientConfig)
    pcm = clicks(6)
    with serve(engine=SlowEngine(click_engine, 0.3)).connect(ping_interval=None) as socket:
        assert hits_of(converse(socket, pcm.tobytes(), sizes=(65536,))) == alone(click_engine, pcm)


def noisy(seconds: float) -> np.ndarray:
    """As many hits as there can be: two classes in every frame that may have one."""
    pcm = np.zeros(int(seconds * click_model.RATE), np.float32)
    for number, place in enumerate(range(200, len(pcm), click_model.FRAME)):
        pcm[place] = click_model.click_amplitude(1 + number % 17)
    return pcm


def test_a_client_that_does_not_read_is_ended(serve: Callable[..., Serving], click_engine: Engine) -> None:
    server = serve(stall_timeout_s=0.5)
    raw = sockets.socket()
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", server.port))
    raw.settimeout(20)
    raw.sendall(HANDSHAKE)
    raw.recv(1)  # from here on it reads nothing
    block = noisy(1).tobytes()

    def flood() -> None:
        try:
            raw.sendall(frame(1, start_message().encode()))
            for _ in range(600):
                raw.sendall(frame(2, block))
        except OSError:
            return

    thread = threading.Thread(target=flood, daemon=True)

    def fault() -> None:
        thread.start()
        wait_until(lambda: server.metric("ghostnote_errors_total") == 1, 30)

    assert hits_of(stream_while(server, fault)) == alone(click_engine, PCM)
    assert 'kind="stalled"' in server.metrics.text().decode()
    wait_until(lambda: server.pool.stats().streams == 0)
    raw.shutdown(sockets.SHUT_RDWR)
    thread.join(10)
    raw.close()


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(frame(2, b"\0"), id="bytes"),
        pytest.param(frame(2, b""), id="empty"),
        pytest.param(frame(2, bytes(LARGE_BYTES - 1)), id="little"),
        pytest.param(frame(9, b""), id="pings"),
        pytest.param(frame(10, bytes(125)), id="pongs"),
        pytest.param(frame(2, b"", final=False) + 10_000 * frame(0, b"", final=False), id="fragments"),
    ],
)
def test_frames_without_end_end_their_own_session_only(
    serve: Callable[..., Serving], click_engine: Engine, flood: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever costs the server more than it carries; what was heard before it is reported."""
    monkeypatch.setattr(frames, "FRAMES_PER_S", 200)  # which the slowest machine can read
    server, heard = serve(), PCM[:40_000]
    block = flood * max(1, 65536 // len(flood))
    answer = b""

    def fault() -> None:
        nonlocal answer
        with sockets.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(HANDSHAKE)
            client.recv(4096)
            client.sendall(frame(1, start_message().encode()) + frame(2, heard.tobytes()))
            with suppress(ConnectionError):  # cut off while it sends
                while True:
                    client.sendall(block)
            with suppress(ConnectionError):
                while received := client.recv(65536):
                    answer += received

    assert hits_of(stream_while(server, fault)) == alone(click_engine, PCM)
    assert b'"code": "flood"' in answer
    assert answer.endswith((1008).to_bytes(2, "big") + b"flood")
    certain = [hit for hit in alone(click_engine, heard) if hit["time"] < 0.6]
    assert answer.count(b'"type": "hit"') >= len(certain) > 0
    assert 'kind="flood"' in server.metrics.text().decode()
    wait_until(lambda: server.pool.stats().streams == 0)


def test_who_sends_by_the_quantum_of_a_browser_is_no_flood(serve: Callable[..., Serving], click_engine: Engine) -> None:
    """Twenty seconds of an audio worklet that was cut off and sends all at once, and larger pieces without end."""
    server, late = serve(), clicks(20)
    with server.connect() as socket:
        assert hits_of(converse(socket, late.tobytes(), sizes=(4 * 128,))) == alone(click_engine, late)
    with server.connect() as socket:
        *_, end = converse(socket, bytes(9000 * LARGE_BYTES), sizes=(LARGE_BYTES,))
    assert end["type"] == "end"


def test_an_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(frames.time, "monotonic", lambda: now)
    allowance = Allowance(per_s=10, burst=40)
    assert allowance.take(40)
    assert not allowance.take(1)
    now += 0.5
    assert allowance.take(4)
    assert not allowance.take(1)
    now += 1000
    assert allowance.take(40)
    assert not allowance.take(1)
