"""Fixtures: the click model as a file and as an engine, and audio with marked clicks."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click_model
import laws
import numpy as np
import pytest
import soundfile
from pooling import DELAYS, Watched

from ghostnote.runtime import Engine, Hit, StreamingTranscriber, StreamPool, open_engine

_RUN_COMMAND = "\nfrom ghostnote.runtime.command import main; main()"


@pytest.fixture(scope="session")
def click_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return click_model.build(tmp_path_factory.mktemp("model") / "click.onnx")


@pytest.fixture(scope="session")
def click_engine(click_path: Path) -> Iterator[Engine]:
    engine = open_engine(click_path)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def clicks() -> click_model.Clicks:
    """About 6 s, clicks of all classes at odd places, 60 ms or more apart, also at the very first and last sample."""
    rng = np.random.default_rng(7)
    length = 6 * click_model.RATE + 137
    places = np.cumsum(rng.integers(2700, 9000, 60))
    places = [0, *places[places < length - 2700].tolist(), length - 1]
    attacks = tuple((int(place), 1 + i % 17) for i, place in enumerate(places))
    pcm = np.zeros(length, np.float32)
    for place, channel in attacks:
        pcm[place] = click_model.click_amplitude(channel) * (-1) ** channel
    return click_model.Clicks(pcm, attacks)


@pytest.fixture
def click_wav(tmp_path: Path, clicks: click_model.Clicks) -> Path:
    path = tmp_path / "clicks.wav"
    soundfile.write(path, clicks.pcm, click_model.RATE, subtype="FLOAT")
    return path


@pytest.fixture
def start(click_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Start rt-transcribe with the click model in a process of its own; pipes on all three streams.

    `prelude` is Python that runs first, in that process.
    """

    def call(*args: object, prelude: str = "", **options: object) -> subprocess.Popen[bytes]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | options
        words = [sys.executable, "-c", prelude + _RUN_COMMAND, "--engine", str(click_path), *map(str, args)]
        return subprocess.Popen(words, preexec_fn=_heed_signals, **pipes)

    return call


def _heed_signals() -> None:
    """The tests themselves may run with signals ignored (a shell's background job, nohup), which children inherit."""
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)


@pytest.fixture(scope="session")
def alone(click_engine: Engine, clicks: click_model.Clicks) -> list[list[Hit]]:
    """The hits of each delay without a pool."""
    return [laws.transcribe(StreamingTranscriber(click_engine, d), clicks.pcm, [len(clicks.pcm)]) for d in DELAYS]


@pytest.fixture
def engine(click_engine: Engine) -> Watched:
    """For pools."""
    return Watched(click_engine)


@pytest.fixture
def pool(engine: Watched) -> Iterator[StreamPool]:
    """On that engine."""
    with StreamPool(engine, max_wait_ms=1) as pool:
        yield pool
