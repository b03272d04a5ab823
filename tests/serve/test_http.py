"""Health, metrics and whole files over HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from serving import Serving, alone, clicks, converse, post_request, run_app
from waiting import wait_until

from ghostnote.runtime import Engine, StreamPool
from ghostnote.runtime.serve.app import create_app
from ghostnote.runtime.serve.metrics import Metrics
from ghostnote.runtime.serve.settings import Settings

PCM = clicks(3)


def wav(pcm: np.ndarray, rate: int = 44100, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, pcm, rate, format=form, subtype="FLOAT" if form == "WAV" else None)
    return file.getvalue()


def test_health_says_what_is_served(serve: Callable[..., Serving], click_engine: Engine) -> None:
    status, text = serve(max_sessions=3).get("/healthz")
    told = json.loads(text)
    assert status == 200
    assert told["status"] == "ok"
    assert told["engine"] == click_engine.describe()
    assert told["total_latencies_ms"] == [40, 60, 80, 100, 150, 250]
    assert (told["sessions"], told["max_sessions"]) == (0, 3)


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics"])
def test_probes_may_ask_for_the_head_alone(serve: Callable[..., Serving], path: str) -> None:
    request = urllib.request.Request(serve().url(path), method="HEAD")
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert (answer.status, answer.read()) == (200, b"")


def test_metrics_count_what_happened(serve: Callable[..., Serving]) -> None:
    server = serve()
    with server.connect() as client:
        messages = converse(client, PCM.tobytes())
        hits = messages[-1]["hits"]
    assert server.post(wav(PCM))[0] == 200
    status, text = server.get("/metrics")
    assert status == 200
    assert re.search(r'^ghostnote_hits_total\{drum="SD"\} \d', text, re.MULTILINE)
    assert server.metric("ghostnote_hits_total") == hits
    assert server.metric("ghostnote_samples_total") == len(PCM)
    assert server.metric("ghostnote_sessions_opened_total") == 1
    assert server.metric("ghostnote_sessions") == 0
    assert server.metric("ghostnote_uploads_total") == 1
    assert server.metric("ghostnote_engine_call_seconds_count") >= server.metric("ghostnote_streams") == 0
    assert server.metric("ghostnote_time_to_hit_seconds_count") == hits
    assert server.metric("ghostnote_buffer_seconds") == 0
    assert server.metric("ghostnote_tokens") >= 2 * len(PCM) // 882


def test_a_page_that_is_not_welcome_is_counted(serve: Callable[..., Serving]) -> None:
    server = serve()
    assert server.post(wav(PCM)[:1000], Origin="https://elsewhere.example")[0] == 403
    assert server.metric("ghostnote_errors_total") == 1


@pytest.mark.parametrize("latency_ms", [None, 60])
def test_a_file_gives_the_hits_of_the_engine_alone(
    serve: Callable[..., Serving], click_engine: Engine, latency_ms: int | None
) -> None:
    status, told = serve().post(wav(PCM), f"?latency_ms={latency_ms}" if latency_ms else "")
    assert status == 200
    assert told["hits"] == sorted(alone(click_engine, PCM, latency_ms), key=lambda hit: hit["time"])
    assert told["audio_s"] == round(len(PCM) / 44100, 6)
    assert told["warnings"] == []


def test_a_broken_file_gives_what_could_be_heard(serve: Callable[..., Serving], click_engine: Engine) -> None:
    whole = wav(PCM)
    status, told = serve().post(whole[: len(whole) // 2])
    (warning,) = told["warnings"]
    assert status == 200
    assert re.match(r"the file is truncated: 3\.\d+ s announced, 1\.\d+ s found", warning)
    expected = [hit for hit in alone(click_engine, PCM, None) if hit["time"] < told["audio_s"] - 0.1]
    assert sorted(told["hits"], key=lambda hit: hit["time"])[: len(expected)] == sorted(
        expected, key=lambda hit: hit["time"]
    )


@pytest.mark.parametrize("rate", [8000, 48000])
def test_a_broken_file_of_another_rate_is_heard_to_its_end(serve: Callable[..., Serving], rate: int) -> None:
    whole = wav(PCM, rate)
    _, told = serve().post(whole[: len(whole) // 2])
    assert told["audio_s"] == pytest.approx((len(whole) // 2 - 80) / 4 / rate, abs=1 / 44100 + 10 / rate)


def test_bad_samples_of_a_file_are_silence_and_are_counted(serve: Callable[..., Serving], click_engine: Engine) -> None:
    broken = PCM.copy()
    broken[[100, 20000]] = np.nan, np.inf
    assert not PCM[[100, 20000]].any()
    status, told = serve().post(wav(broken))
    assert status == 200
    assert told["warnings"] == ["2 sample(s) were NaN, infinite or absurdly large and were taken as silence"]
    assert told["hits"] == sorted(alone(click_engine, PCM, None), key=lambda hit: hit["time"])


def test_what_is_wrong_with_a_file_is_said(serve: Callable[..., Serving]) -> None:
    usual, narrow, hasty = serve(), serve(max_upload_bytes=1000), serve(max_upload_s=0.0)
    whole = wav(PCM)
    for server, body, query, status, named in (
        (usual, b"", "", 415, "empty"),
        (usual, b"no audio at all" * 100, "", 415, "not audio that libsndfile reads"),
        (usual, whole, "?latency_ms=7", 422, "total latency <= 7 ms"),
        (usual, whole, "?latency_ms=soon", 422, "latency_ms 'soon': "),
        (narrow, whole, "", 413, "1000 bytes"),
        (hasty, whole, "", 408, "within 0 s"),
    ):
        found, told = server.post(body, query)
        assert found == status
        assert named in told["detail"]
        assert "/tmp" not in told["detail"]
        assert server.pool.stats().streams == 0


def test_a_parameter_that_makes_no_sense_is_counted(serve: Callable[..., Serving]) -> None:
    server = serve()
    assert server.post(wav(PCM), "?latency_ms=soon")[0] == 422
    assert server.metric("ghostnote_errors_total") == 1


def test_a_refusal_is_heard_by_who_sends_it_all_first(serve: Callable[..., Serving]) -> None:
    status, told = serve().post(bytes(20 << 20), "?latency_ms=7")  # more than lies between the two in buffers
    assert status == 422
    assert "total latency <= 7 ms" in told["detail"]


@pytest.mark.parametrize("sent", [0, 1000])
def test_who_does_not_go_on_sending_is_refused_all_the_same(
    serve: Callable[..., Serving], monkeypatch: pytest.MonkeyPatch, sent: int
) -> None:
    monkeypatch.setattr("ghostnote.runtime.serve.draining.DRAIN_S", 0.2)
    head = "POST /v1/transcribe?latency_ms=7 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", serve().port), timeout=30) as client:
        client.sendall(head.encode() + bytes(sent))
        assert client.recv(100).startswith(b"HTTP/1.1 422 ")


def test_a_form_is_told_how_to_send_a_file(serve: Callable[..., Serving]) -> None:
    status, told = serve().post(b"--x\r\n\r\n", **{"Content-Type": "multipart/form-data; boundary=x"})
    assert status == 415
    assert "curl --data-binary @FILE" in told["detail"]


def test_a_length_that_is_too_large_is_refused_before_the_file_is_sent(serve: Callable[..., Serving]) -> None:
    server = serve(max_upload_bytes=1000)
    head = "POST /v1/transcribe HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")  # not "100 Continue", which asks for it


def test_a_file_of_unknown_length_is_refused_once_it_is_too_large(serve: Callable[..., Serving]) -> None:
    server = serve(max_upload_bytes=1000)
    head = "POST /v1/transcribe HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(head.encode() + b"3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_the_page_loads_nothing_from_elsewhere(serve: Callable[..., Serving]) -> None:
    status, page = serve().get("/")
    assert status == 200
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|@import|url\((?!data:)""", page)


def test_schema_tells_of_uploads(serve: Callable[..., Serving]) -> None:
    schema = json.loads(serve().get("/openapi.json")[1])
    assert set(schema["paths"]) == {"/healthz", "/v1/transcribe"}


def test_no_upload_is_left_behind(
    serve: Callable[..., Serving], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = serve()
    assert server.post(wav(PCM, form="FLAC"))[0] == 200
    assert server.post(b"nothing")[0] == 415
    assert list(tmp_path.iterdir()) == []


def test_half_a_file_leaves_a_free_place(serve: Callable[..., Serving]) -> None:
    server, body = serve(max_sessions=1), wav(PCM)
    with socket.create_connection(("127.0.0.1", server.port)) as vanishing:
        vanishing.sendall(post_request(body)[:50_000])
        wait_until(lambda: server.pool.stats().streams == 1)
        assert server.post(body[:1000])[0] == 503  # refused unread: a long body may break the pipe before the answer
    wait_until(lambda: server.pool.stats().streams == 0)
    assert server.metric("ghostnote_errors_total") == 1
    assert server.post(body)[0] == 200


def test_a_file_that_comes_when_the_server_ends_is_refused(click_engine: Engine) -> None:
    metrics = Metrics()
    with StreamPool(click_engine) as pool:
        app = create_app(pool, metrics=metrics)
        asyncio.run(app.state.sessions.stop(1))
        with run_app(app, Settings()) as port:
            server = Serving(port, pool, metrics)
            assert server.post(wav(PCM)) == (503, {"detail": "the server ends; send the file again"})
    assert 'ghostnote_errors_total{kind="ShutdownError"} 1.0' in metrics.text().decode()


def test_a_full_disk_is_said(serve: Callable[..., Serving], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    server = serve()
    monkeypatch.setattr("pathlib.Path.open", refuse)
    status, told = server.post(wav(PCM))
    assert (status, told["detail"]) == (507, "the server has no place for the file (No space left on device)")


def test_no_temporary_folder_is_said(
    serve: Callable[..., Serving], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = serve()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    status, told = server.post(wav(PCM)[:1000])  # refused unread: a long body may break the pipe before the answer
    assert (status, told["detail"]) == (507, "the server has no place for the file (No such file or directory)")
