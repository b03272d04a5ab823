"""`rt-transcribe` in a process of its own: signals, broken pipes, what gets imported."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import click_model
import mido
import numpy as np
import pytest
import soundfile

RATE = click_model.RATE
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("ending", ["mid", "jsonl"])
def test_signals_while_listening(signum: int, code: int, ending: str, start: Start, tmp_path: Path) -> None:
    out = tmp_path / f"a.{ending}"
    process = start("-", "--raw-format", "f32le", "--rate", RATE, "-o", out)
    assert process.stdin
    audio = np.zeros(RATE, np.float32)
    audio[1000] = 0.95
    process.stdin.write(audio.tobytes())
    process.stdin.flush()
    _wait_for(lambda: _unread(process.stdin) == 0)
    time.sleep(0.1)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert b"interrupted after " in errors
    assert b" s: the hits up to there are written" in errors
    assert b"Traceback" not in errors
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
    notes = sum(m.type == "note_on" for m in mido.MidiFile(out)) if ending == "mid" else out.read_text().count("\n")
    assert notes == 1


def test_nohup_is_respected(start: Start, tmp_path: Path) -> None:
    prelude = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    process = start("-", "--raw-format", "f32le", "--rate", RATE, "-o", tmp_path / "a.csv", prelude=prelude)
    _wait_for(lambda: any(p.name.startswith(".ghostnote") for p in tmp_path.iterdir()))
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(np.zeros(RATE, np.float32).tobytes(), timeout=20)
    assert process.returncode == 0, errors


def test_signal_in_the_middle_of_a_file(start: Start, tmp_path: Path) -> None:
    path, out = tmp_path / "long.wav", tmp_path / "a.txt"
    audio = np.zeros(1200 * RATE, np.int16)
    audio[::RATE] = 31_000
    soundfile.write(path, audio, RATE)
    process = start(path, "-o", out)
    _wait_for(lambda: any(p.name.startswith(".ghostnote") for p in tmp_path.iterdir()))
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    lines = out.read_text().splitlines()
    assert 0 < len(lines) < 1200
    assert [round(float(line.split()[0])) for line in lines] == list(range(len(lines)))


def test_signal_before_any_input(start: Start, tmp_path: Path) -> None:
    """Waiting for the WAV header of a pipe that says nothing."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start(pipe, "-o", tmp_path / "a.mid")
    with pipe.open("wb"):  # returns when the command has opened the other end
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 143
    assert errors == b"interrupted before any audio was read\n"
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_signal_while_an_output_waits_for_its_reader(start: Start, click_wav: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start(click_wav, "-o", pipe, "--format", "csv")
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (143, b"interrupted before any audio was read\n")
    assert not [*tmp_path.glob(".*")]


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="pipes of this system have one size")
@pytest.mark.parametrize("words", [("-o", "p.csv"), ("--report", "a.html")])
def test_signal_while_nobody_reads_an_output(words: tuple[str, ...], start: Start, tmp_path: Path) -> None:
    """A named pipe, or standard output: what goes there is given up after a while, and the other file is complete."""
    audio = np.zeros(60 * RATE, np.int16)
    audio[:: RATE // 12] = 31_000  # more hits than a small pipe holds
    soundfile.write(tmp_path / "long.wav", audio, RATE)
    os.mkfifo(tmp_path / "p.csv")
    if "-o" in words:
        words = ("-o", "a.csv", *words)
    with os.fdopen(os.open(tmp_path / "p.csv", os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        hasty = "import ghostnote.runtime.interrupt as interrupt; interrupt._PATIENCE_S = 0.5\n"
        process = start("long.wav", *words, cwd=tmp_path, prelude=hasty)
        full = reader if "-o" in words else process.stdout
        fcntl.fcntl(full, fcntl.F_SETPIPE_SZ, 4096)
        _wait_for(lambda: _stands(full))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
    assert b"warning: nobody reads an output; what is left for it is lost" in process.stderr.read()
    kept = tmp_path / words[1]
    assert kept.read_text().count("\n") > 100 if kept.suffix == ".csv" else b"</html>" in kept.read_bytes()
    assert not [*tmp_path.glob(".*")]


@pytest.mark.skipif(sys.platform != "linux", reason="what a terminal that is gone answers differs")
@pytest.mark.parametrize("words", [("-o", "a.csv"), ("-o", "a.csv", "--report", "a.html"), ("--report", "a.html")])
def test_a_terminal_that_goes_without_a_word_leaves_the_take(
    words: tuple[str, ...], start: Start, tmp_path: Path
) -> None:
    """As where SIGHUP is ignored: with -o it shows progress, without it lists hits."""
    leader, follower = os.openpty()
    prelude = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    process = start(
        "-", "--raw-format", "f32le", "--rate", RATE, *words,
        prelude=prelude, stdout=follower, stderr=follower, cwd=tmp_path,
    )  # fmt: skip
    os.close(follower)
    _wait_for(lambda: any(p.name.startswith(".ghostnote") for p in tmp_path.iterdir()))
    os.close(leader)
    audio = np.zeros(4 * RATE, np.float32)
    audio[::5000] = 0.95
    process.communicate(audio.tobytes(), timeout=20)
    assert process.returncode == (0 if "-o" in words else 6)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(word for word in words if not word.startswith("-"))
    assert all(p.stat().st_size > 100 for p in tmp_path.iterdir())


def _unread(stream: IO[bytes]) -> int:
    """Bytes that wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(stream.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


def _stands(pipe: IO[bytes]) -> bool:
    """Whether a pipe holds something, and nothing more comes."""
    before = _unread(pipe)
    time.sleep(1)
    return 0 < before == _unread(pipe)


def _wait_for(condition: Callable[[], object], timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def test_closed_output_pipe_is_no_error(start: Start) -> None:
    process = start("-", "--raw-format", "f32le", "--rate", RATE)
    assert process.stdin
    assert process.stdout
    process.stdout.close()
    audio = np.zeros(2 * RATE, np.float32)
    audio[::5000] = 0.95
    _, errors = process.communicate(audio.tobytes(), timeout=20)
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_standard_output(start: Start, click_wav: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start(click_wav, stdout=full)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 6
    assert errors.splitlines() == [b"error: standard output: cannot be written (No space left on device)"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_standard_error_costs_no_output(start: Start, click_wav: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    (tmp_path / "full.csv").symlink_to("/dev/full")
    with Path("/dev/full").open("wb") as full:
        process = start(click_wav, "-o", tmp_path / "full.csv", "-o", out, stderr=full)
    process.communicate(timeout=20)
    assert process.returncode == 6
    assert len(out.read_text().splitlines()) > 1


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout here")
def test_standard_output_by_its_name_goes_on_where_it_is(start: Start, click_wav: Path, tmp_path: Path) -> None:
    together = tmp_path / "all.txt"
    together.write_text("before\n")
    for _ in range(2):
        with together.open("ab") as file:
            process = start(click_wav, "-o", "/dev/stdout", "--format", "txt", stdout=file)
        process.communicate(timeout=20)
        assert process.returncode == 0
    before, *lines = together.read_text().splitlines()
    assert before == "before"
    assert len(lines) > 0
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("all")] == ["all.txt"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_that_does_not_block_is_waited_for(unbuffered: str, start: Start, tmp_path: Path) -> None:
    audio = np.zeros(100 * RATE, np.float32)
    audio[::5000] = 0.95
    soundfile.write(tmp_path / "many.wav", audio, RATE, subtype="FLOAT")
    end, full = os.pipe()
    os.set_blocking(full, False)
    process = start(tmp_path / "many.wav", stdout=full, env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
    _wait_for(lambda: not select.select([], [full], [], 0)[1])
    time.sleep(1)  # for hits that find no room
    os.close(full)
    with os.fdopen(end, "rb") as reader:
        lines = reader.readlines()
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, len(lines)) == (0, np.count_nonzero(audio)), errors
    assert json.loads(lines[-1])["time"] == pytest.approx(np.flatnonzero(audio)[-1] / RATE, abs=0.01)


def test_closed_standard_output(start: Start, click_wav: Path, tmp_path: Path) -> None:
    process = start(click_wav, prelude="import sys; sys.stdout = None")  # as Python leaves it for `>&-`
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (6, b"error: standard output is closed; name a file with -o\n")
    assert start(click_wav, "-o", tmp_path / "a.csv", prelude="import sys; sys.stdout = None").wait(20) == 0


@pytest.mark.parametrize("words", [(), ("--grid",)])
def test_closed_standard_error(words: tuple[str, ...], start: Start, click_wav: Path, tmp_path: Path) -> None:
    process = start(click_wav, *words, "-o", tmp_path / "a.csv", prelude="import sys; sys.stderr = None")
    assert process.wait(20) == 0
    assert (tmp_path / "a.csv").read_text().count("\n") > 1


_PROBE = """
import json, sys
import ghostnote.runtime
light = sorted({name.partition(".")[0] for name in sys.modules})
from ghostnote.runtime import command
try:
    command.main()
finally:
    print(json.dumps([light, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


@pytest.mark.parametrize("ending", ["mid", "jsonl", "csv", "labels", "txt"])
def test_transcribing_loads_neither_torch_nor_onnx(ending: str, click_path: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(48_000), 48_000)  # resampled, decoded: all of the runtime
    words = [sys.executable, "-c", _PROBE, "--engine", click_path, tmp_path / "a.flac", "-o", tmp_path / f"a.{ending}"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    light, loaded = json.loads(done.stderr.splitlines()[-1])
    assert {"onnxruntime", "soundfile", "soxr"} <= set(loaded)
    assert not {"torch", "onnx", "scipy", "mir_eval"} & set(loaded)
    assert not {"numpy", "onnxruntime", "soundfile", "soxr", "mido", "typer"} & set(light)


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", _PROBE, "--help"], capture_output=True, text=True, check=True)
    _, loaded = json.loads(done.stderr.splitlines()[-1])
    assert not {"numpy", "onnxruntime", "soundfile", "soxr", "mido"} & set(loaded)
