"""The example client against a stand-in for the server: what it prints is what the local engine finds."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip(
    "tritonclient.grpc", reason="the client of Triton is not installed; pip install 'ghostnote[triton]'"
)

from triton_server import TritonStandIn, serving

from ghostnote.export.signals import drum_like
from ghostnote.export.triton import write_repository
from ghostnote.runtime.engines.opening import model_file, open_engine
from ghostnote.runtime.engines.protocol import Engine
from ghostnote.runtime.errors import EngineError
from ghostnote.runtime.events import Hit
from ghostnote.runtime.job import transcribe_file
from ghostnote.runtime.streams.stream import StreamingTranscriber

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = "small"


@pytest.fixture(scope="module")
def client() -> ModuleType:
    """examples/triton_client.py as a module."""
    spec = importlib.util.spec_from_file_location("triton_client", EXAMPLES / "triton_client.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, TritonStandIn]]:
    folder = write_repository(Path(str(model_file(MODEL))), tmp_path_factory.mktemp("repository"))
    with serving(folder) as running:
        yield running


@pytest.fixture(scope="module")
def local() -> Iterator[Engine]:
    engine = open_engine(MODEL)
    yield engine
    engine.close()


def test_the_printed_hits_are_those_of_the_local_engine(
    client: ModuleType, server: tuple[str, TritonStandIn], local: Engine, monkeypatch, capfdbinary
) -> None:
    url, stand_in = server
    monkeypatch.setattr(sys, "argv", ["triton_client", str(EXAMPLES / "groove.flac"), "--url", url, "--model", MODEL])
    assert client.main() == 0
    printed = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    expected = transcribe_file(EXAMPLES / "groove.flac", local)
    assert len(expected) > 20
    shown = [(hit["time"], hit["class"], hit["velocity"], hit["confidence"]) for hit in printed]
    assert sorted(shown) == [
        (
            pytest.approx(h.time_s, abs=1e-5),
            h.code,
            pytest.approx(h.velocity, abs=1e-4),
            pytest.approx(h.confidence, abs=1e-4),
        )
        for h in sorted(expected, key=lambda hit: (round(hit.time_s, 6), hit.code))
    ]
    assert stand_in.sequences == {}  # ended, not left to time out


def test_two_streams_take_turns_and_do_not_hear_each_other(
    client: ModuleType, server: tuple[str, TritonStandIn], local: Engine
) -> None:
    url, stand_in = server
    sounds = [drum_like(seed, 3.0, 44100).astype(np.float32) for seed in (1, 2)]
    alone = [
        live_hits(StreamingTranscriber(local, delay), [sound]) for delay, sound in zip((0, 5), sounds, strict=True)
    ]
    with closing(client.TritonEngine(url, MODEL)) as engine:
        transcribers = [StreamingTranscriber(engine, delay) for delay in (0, 5)]
        found: list[list[Hit]] = [[], []]
        for start in range(0, len(sounds[0]), 3000):
            for row, transcriber in enumerate(transcribers):
                found[row] += transcriber.feed(sounds[row][start : start + 3000])
        assert len(stand_in.sequences) == 2
        for row, transcriber in enumerate(transcribers):
            found[row] += transcriber.flush()
    assert stand_in.sequences == {}
    assert all(len(hits) > 5 for hits in alone)
    assert [keys(hits) for hits in found] == [keys(hits) for hits in alone]
    assert keys(found[0]) != keys(found[1])


def test_a_stream_that_begins_anew_has_forgotten_the_old_one(
    client: ModuleType, server: tuple[str, TritonStandIn]
) -> None:
    sound = drum_like(3, 1.0, 44100).astype(np.float32)
    with closing(client.TritonEngine(server[0], MODEL)) as engine:
        transcriber = StreamingTranscriber(engine)
        first = live_hits(transcriber, [sound])
        transcriber.reset()
        assert live_hits(transcriber, [sound]) == first
    assert first


def test_a_sequence_that_the_server_has_given_up_is_an_error(
    client: ModuleType, server: tuple[str, TritonStandIn]
) -> None:
    url, stand_in = server
    with closing(client.TritonEngine(url, MODEL)) as engine:
        transcriber = StreamingTranscriber(engine)
        transcriber.feed(np.zeros(882, np.float32))
        stand_in.sequences.clear()
        with pytest.raises(EngineError, match="START"):
            transcriber.feed(np.zeros(882, np.float32))


def test_a_batch_is_not_the_clients_business(client: ModuleType, server: tuple[str, TritonStandIn]) -> None:
    with closing(client.TritonEngine(server[0], MODEL)) as engine, pytest.raises(ValueError, match="one stream"):
        engine.zero_state(2)


def test_an_unknown_model_and_a_missing_server_are_one_line(
    client: ModuleType, server: tuple[str, TritonStandIn], monkeypatch, capsys
) -> None:
    for url, model in ((server[0], "other"), ("127.0.0.1:1", MODEL)):
        monkeypatch.setattr(sys, "argv", ["triton_client", "any.wav", "--url", url, "--model", model])
        assert client.main() == EngineError.exit_code
        (line,) = capsys.readouterr().err.splitlines()
        assert url in line
        assert model in line


def live_hits(transcriber: StreamingTranscriber, pieces: list[np.ndarray]) -> list[Hit]:
    return [hit for piece in pieces for hit in transcriber.feed(piece)] + transcriber.flush()


def keys(hits: list[Hit]) -> list[tuple[float, str]]:
    """Time in tenths of a millisecond, and class: the rest may differ in the last digits."""
    return [(round(hit.time_s, 4), hit.code) for hit in hits]
