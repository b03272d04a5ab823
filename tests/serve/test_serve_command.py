"""`ghostnote serve` as a process: where it listens, how it ends, what it says when something is missing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket as sockets
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click_model
import pytest
from serving import alone, clicks, hits_of, hour, post_request, said, start_message
from waiting import wait_until
from websockets.sync.client import connect

from ghostnote.runtime import Engine
from ghostnote.runtime.errors import UsageError
from ghostnote.runtime.serve.command import serve

_RUN = "import sys; from ghostnote.cli import main; main()"


def _heed_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., object]:
    """Start the command with the click model; yields the process and its port."""
    model = click_model.build(tmp_path / "click.onnx")

    @contextmanager
    def start(
        *options: str, prepare: Callable[[], None] = _heed_signals
    ) -> Iterator[tuple[subprocess.Popen[str], int]]:
        words = [sys.executable, "-c", _RUN, "serve", "--engine", str(model), "--port", "0", *options]
        # The tests themselves may run with signals ignored (a shell's background job, nohup), which children inherit.
        with subprocess.Popen(
            words,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        ) as child:
            try:
                line = child.stderr.readline()
                found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
                assert found, line + child.stderr.read()
                yield child, int(found[1])
            finally:
                child.kill()

    return start


def upgrade(headers: dict[str, str]) -> bytes:
    """The request that opens a WebSocket."""
    fixed = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
    }
    lines = (f"{name}: {value}\r\n" for name, value in (headers | fixed).items())
    return f"GET /v1/transcribe HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


def _measured(port: int, metric: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        (value,) = re.findall(rf"^{metric} (.*)$", response.read().decode(), re.MULTILINE)
    return float(value)


def _received(client: sockets.socket) -> str:
    """All until the server closes."""
    with client.makefile("r", encoding="utf-8", newline="") as file:
        return file.read()


def _listens(port: int) -> bool:
    with sockets.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_ends_every_session_with_all_that_was_heard(
    process: Callable, click_engine: Engine, signum: int, code: int
) -> None:
    pcm = clicks(2)
    with process() as (child, port):
        url = f"ws://127.0.0.1:{port}/v1/transcribe"
        with connect(url) as first, connect(url) as second, connect(url) as waiting:
            for socket in (first, second):
                socket.send(start_message())
                socket.send(pcm.tobytes())
            early = [json.loads(first.recv(timeout=10)) for _ in range(10)]  # it hears
            second_early = [json.loads(second.recv(timeout=10)) for _ in range(10)]
            child.send_signal(signum)
            heard = [early + said(first), second_early + said(second)]
            assert said(waiting) == [{"type": "end", "hits": 0, "audio_s": 0, "reason": "shutdown"}]
        assert child.wait(10) == code
        assert child.stderr.read() == ""
    for messages in heard:
        assert hits_of(messages) == alone(click_engine, pcm)
        assert messages[-1]["type"] == "end"
        assert messages[-1]["reason"] == "shutdown"
    assert first.close_code == 1001


@pytest.mark.parametrize("whole", [False, True])
def test_a_signal_ends_uploads_with_an_answer(process: Callable, whole: bool) -> None:
    """While they are received, and while they are heard."""
    request = post_request(hour())
    with process() as (child, port), sockets.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(request if whole else request[:-1])
        wait_until(lambda: _measured(port, "ghostnote_streams") == 1)
        wait_until(lambda: not whole or _measured(port, "ghostnote_tokens") > 0)
        child.terminate()
        head, _, body = _received(client).partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 503 ")
        assert json.loads(body) == {"detail": "the server ends; send the file again"}
        assert child.wait(10) == 143
        assert child.stderr.read() == ""


def test_a_signal_that_was_ignored_from_the_start_is_ignored(process: Callable) -> None:
    """As of `ghostnote serve &` in a script."""
    with process(prepare=_ignore_interrupts) as (child, _):
        child.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1)
        child.terminate()
        assert child.wait(10) == 143


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_second_signal_ends_the_server_at_once(process: Callable, signum: int, code: int) -> None:
    with process() as (child, port), sockets.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(post_request(hour())[:-1])  # what is missing is waited for, before it has its answer
        wait_until(lambda: _measured(port, "ghostnote_streams") == 1)
        child.send_signal(signum)
        wait_until(lambda: not _listens(port))
        child.send_signal(signum)
        assert child.wait(10) == code
        assert not _received(client).startswith("HTTP/1.1 503 ")


def test_the_engine_is_warm_before_anybody_comes(process: Callable) -> None:
    with process() as (_, port):
        assert _measured(port, "ghostnote_engine_call_seconds_count") > 0


def test_the_most_accurate_may_be_the_latency_of_all(process: Callable) -> None:
    with process("--latency-ms", "inf") as (_, port), connect(f"ws://127.0.0.1:{port}/v1/transcribe") as socket:
        socket.send(start_message())
        assert json.loads(socket.recv(timeout=20))["type"] == "ready"


def test_a_server_of_this_machine_hears_pages_of_this_machine(process: Callable) -> None:
    with process() as (_, port):
        for host, status in (("localhost", 101), ("evil.example", 403)):
            headers = {"Host": f"{host}:{port}", "Origin": f"http://{host}:{port}"}
            with sockets.create_connection(("127.0.0.1", port)) as client:
                client.sendall(upgrade(headers))
                assert int(client.recv(1000).split()[1]) == status


def test_half_a_request_does_not_keep_the_server_alive(process: Callable) -> None:
    with process() as (child, port), sockets.create_connection(("127.0.0.1", port)) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\n")  # never finished
        child.terminate()
        assert child.wait(15) == 143


def test_an_engine_that_cannot_be_opened_and_a_taken_port_are_one_line(process: Callable) -> None:
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for options, code, named in (
            (["--engine", "small", "--port", port], 2, f"cannot listen on 127.0.0.1 port {port}"),
            (["--engine", "no.onnx"], 7, "no.onnx: no such model file"),
            (["--engine", "small", "--latency-ms", "3"], 2, "total latency <= 3 ms"),
        ):
            words = [sys.executable, "-c", _RUN, "serve", *options]
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == code
            assert named in done.stderr
            assert done.stderr.count("\n") == 1


def test_places_that_are_none_are_refused_before_the_work() -> None:
    with pytest.raises(UsageError, match="--host '': expected an address"):
        serve(host="")
    with pytest.raises(UsageError, match=r"--allow-origin 'studio\.example': expected scheme://host"):
        serve(allow_origin=["studio.example"])


@pytest.mark.parametrize(
    ("option", "value"), [("--max-upload-mb", "inf"), ("--max-upload-mb", "nan"), ("--idle-timeout", "nan")]
)
def test_a_limit_is_a_number(option: str, value: str) -> None:
    words = [sys.executable, "-c", _RUN, "serve", "--engine", "small", option, value]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert option in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_extra_one_line_installs_it(tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text('raise ModuleNotFoundError("No module named \'fastapi\'", name="fastapi")')
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, "-c", _RUN, "serve", "--engine", "small"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 7
    assert done.stderr == "ghostnote: `serve` needs fastapi, which is not installed; pip install 'ghostnote[serve]'\n"
