"""Clients that send garbage, flood, stall or vanish: they are told, others notice nothing, nothing heard is lost."""

from __future__ import annotations

import json
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import click_model
import numpy as np
import psutil
import pytest
import uvicorn
from serving import Message, Serving, alone, clicks, converse, hits_of, hour, post_request, said, start_message
from waiting import wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from ghostnote.runtime import Engine
from ghostnote.runtime.engines.protocol import StepOutput
from ghostnote.runtime.errors import UsageError
from ghostnote.runtime.serve import frames
from ghostnote.runtime.serve.frames import LARGE_BYTES, Allowance
from ghostnote.runtime.serve.settings import parse_origin

PCM = clicks(2.5)


HANDSHAKE = (
    b"GET /v1/transcribe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def _frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
    """A WebSocket frame from a client, masked with zeros (RFC 6455, 5.2)."""
    first = opcode | (0x80 if final else 0)
    if len(payload) < 126:  # the only way for pings and pongs
        return bytes((first, 0x80 | len(payload))) + bytes(4) + payload
    return bytes((first, 0x80 | 127)) + len(payload).to_bytes(8, "big") + bytes(4) + payload


def stream_while(server: Serving, fault: Callable[[], None]) -> list[Message]:
    """What a well-behaved session hears that begins before the fault and ends after it."""
    with server.connect() as socket:
        socket.send(start_message())
        half = len(PCM) // 2
        socket.send(PCM[:half].tobytes())
        fault()
        socket.send(PCM[half:].tobytes())
        socket.send('{"type": "end"}')
        return said(socket)


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
    start = _frame(1, start_message().encode())

    def fault() -> None:
        for raw in (noise, start + noise, start + _frame(1, b"\xff\xfe"), _frame(2, b"")[:5]):
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


class SlowEngine:
    """An engine that takes its time over every call."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine, self._seconds = engine, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, *arguments: Any) -> StepOutput:
        time.sleep(self._seconds)
        return self._engine.step(*arguments)


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
            raw.sendall(_frame(1, start_message().encode()))
            for _ in range(600):
                raw.sendall(_frame(2, block))
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
        pytest.param(_frame(2, b"\0"), id="bytes"),
        pytest.param(_frame(2, b""), id="empty"),
        pytest.param(_frame(2, bytes(LARGE_BYTES - 1)), id="little"),
        pytest.param(_frame(9, b""), id="pings"),
        pytest.param(_frame(10, bytes(125)), id="pongs"),
        pytest.param(_frame(2, b"", final=False) + 10_000 * _frame(0, b"", final=False), id="fragments"),
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
            client.sendall(_frame(1, start_message().encode()) + _frame(2, heard.tobytes()))
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


@pytest.mark.parametrize(
    ("allowed", "welcome", "unwelcome"),
    [
        ((), [None, "http://127.0.0.1:{port}"], ["http://127.0.0.1:1", "https://evil.example", "null", "http://["]),
        (("https://studio.example",), [None, "https://studio.example"], ["https://evil.example"]),
        (("*",), ["https://evil.example", "null"], []),
    ],
)
def test_pages_of_others_are_not_served(
    serve: Callable[..., Serving], allowed: tuple[str, ...], welcome: list[str | None], unwelcome: list[str]
) -> None:
    server = serve(allowed_origins=allowed)
    for origin in welcome:
        origin = origin and origin.format(port=server.port)
        assert server.post(b"", **({"Origin": origin} if origin else {}))[0] == 415  # an empty file is no audio
        with server.connect(origin=origin) as socket:
            assert converse(socket, b"")[-1]["type"] == "end"
    for origin in unwelcome:
        assert server.post(b"", Origin=origin)[0] == 403
        with pytest.raises(InvalidStatus, match="403"):
            server.connect(origin=origin).__enter__()


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://studio.example", "https://studio.example"),
        ("https://Studio.Example/", "https://studio.example"),
        ("https://studio.example:443", "https://studio.example"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("http://localhost:443", "http://localhost:443"),
        ("chrome-extension://abc", "chrome-extension://abc"),
        ("null", "null"),
        ("*", "*"),
    ],
)
def test_an_allowed_origin_is_taken_as_browsers_send_it(text: str, origin: str) -> None:
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "studio.example",
        "studio.example:80",
        "https://",
        "https://a/b",
        "https://a?b",
        "https://u@a",
        "http://[",
        "http://a:x",
    ],
)
def test_what_no_browser_sends_is_no_allowed_origin(text: str) -> None:
    with pytest.raises(UsageError, match="expected scheme://host"):
        parse_origin(text)


@pytest.mark.parametrize(
    ("host", "welcome"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_a_name_that_was_led_to_this_machine_is_no_proof(
    serve: Callable[..., Serving], host: str, welcome: bool
) -> None:
    """DNS rebinding: a page's own name suddenly means 127.0.0.1, so that Origin and Host agree."""
    server = serve(loopback_only=True)
    place = f"{host}:{server.port}"
    assert server.post(b"", Origin=f"http://{place}", Host=place)[0] == (415 if welcome else 403)
    named = serve(loopback_only=True, allowed_origins=(f"http://{place}",))
    assert named.post(b"", Origin=f"http://{place}", Host=place)[0] == 415


def test_a_closed_pool_is_told_as_an_error(serve: Callable[..., Serving]) -> None:
    server = serve()
    server.pool.close()
    with server.connect() as socket:
        socket.send(start_message())
        (error,) = said(socket)
    assert error["code"] == "engine"
    assert server.post(b"")[0] == 500
