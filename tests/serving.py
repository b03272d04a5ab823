"""A server in a thread of the tests, its clients, and what they should hear. Skips where the extra is missing."""

# ruff: noqa: E402 - what is imported below needs the extra
from __future__ import annotations

import io
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click_model
import numpy as np
import pytest
import soundfile

for library in ("fastapi", "uvicorn", "websockets", "prometheus_client"):
    pytest.importorskip(library, reason=f"the extra `serve` is not installed ({library})")

import uvicorn
from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ghostnote.runtime import Engine
from ghostnote.runtime.engines.protocol import StepOutput
from ghostnote.runtime.output.writers import json_fields
from ghostnote.runtime.serve.command import configure
from ghostnote.runtime.serve.metrics import Metrics
from ghostnote.runtime.serve.settings import Settings
from ghostnote.runtime.streams.pool import StreamPool
from ghostnote.runtime.streams.stream import StreamingTranscriber

Message = dict[str, Any]


@dataclass
class Serving:
    """A server that runs in a thread of this process."""

    port: int
    pool: StreamPool
    metrics: Metrics

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def connect(self, **options: Any) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.port}/v1/transcribe", max_queue=None, **options)

    def get(self, path: str) -> tuple[int, str]:
        return fetch(urllib.request.Request(self.url(path)))

    def post(self, body: bytes, query: str = "", **headers: str) -> tuple[int, Any]:
        status, text = fetch(urllib.request.Request(self.url("/v1/transcribe" + query), body, headers))
        return status, json.loads(text)

    def metric(self, name: str) -> float:
        lines = (line.rpartition(" ") for line in self.metrics.text().decode().splitlines())
        return sum(float(value) for key, _, value in lines if key.partition("{")[0] == name)


def fetch(request: urllib.request.Request) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@contextmanager
def run_app(app: FastAPI, settings: Settings) -> Iterator[int]:
    """The application on a free port, in a thread; stopped at the end."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(configure(app, settings))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def clicks(seconds: float, seed: int = 7) -> np.ndarray:
    """Clicks of all classes at odd places, 60 to 200 ms apart."""
    rng = np.random.default_rng(seed)
    pcm = np.zeros(int(seconds * click_model.RATE) + 137, np.float32)
    places = np.cumsum(rng.integers(2700, 9000, len(pcm) // 2700))
    for number, place in enumerate(places[places < len(pcm)]):
        pcm[place] = click_model.click_amplitude(1 + number % 17)
    return pcm


def alone(engine: Engine, pcm: np.ndarray, latency_ms: float | None = 100) -> list[Message]:
    """The hits of audio that has an engine for itself, as they look on the wire."""
    transcriber = StreamingTranscriber(engine, latency_ms=latency_ms)
    note_of = engine.manifest.note_of
    return [json_fields(hit, note_of[hit.code]) for hit in transcriber.feed(pcm) + transcriber.flush()]


def post_request(body: bytes) -> bytes:
    """An upload as it is on the wire."""
    return f"POST /v1/transcribe HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def hour() -> bytes:
    """A small file that keeps an engine busy for long."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(3600 * 8000, np.int16), 8000, format="FLAC")
    return file.getvalue()


def start_message(**fields: Any) -> str:
    return json.dumps({"type": "start", "sample_rate": 44100, "encoding": "f32le", "channels": 1} | fields)


def converse(socket: ClientConnection, data: bytes, sizes: tuple[int, ...] = (4096,), **fields: Any) -> list[Message]:
    """A whole session: start, the data in messages of these sizes in turn, end; all that the server said."""
    socket.send(start_message(**fields))
    position = number = 0
    while position < len(data):
        size = sizes[number % len(sizes)]
        socket.send(data[position : position + size])
        position, number = position + size, number + 1
    socket.send('{"type": "end"}')
    return [json.loads(message) for message in socket]


def hits_of(messages: list[Message]) -> list[Message]:
    return [
        {key: value for key, value in message.items() if key != "type"}
        for message in messages
        if message["type"] == "hit"
    ]


def said(socket: ClientConnection) -> list[Message]:
    """All messages until the connection closes, however it does."""
    messages = []
    try:
        while True:
            messages.append(json.loads(socket.recv(timeout=20)))
    except ConnectionClosed:
        return messages


PCM = clicks(2.5)


HANDSHAKE = (
    b"GET /v1/transcribe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
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


class SlowEngine:
    """An engine that takes its time over every call."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine, self._seconds = engine, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, *arguments: Any) -> StepOutput:
        time.sleep(self._seconds)
        return self._engine.step(*arguments)
