"""`rt-transcribe` live, in a process of its own: a device, a growing file, several outputs, and what may go wrong."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click_model
import mido
import numpy as np
import pytest

RATE = click_model.RATE
RAW = ("--raw-format", "f32le", "--rate", RATE)
Start = Callable[..., "subprocess.Popen[bytes]"]

# A microphone that hears a click every 100 ms for two seconds, the first after 50 ms.
_MICROPHONE = f"""
import sys
import numpy as np
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from fake_sounddevice import FakeSounddevice
audio = np.zeros((2 * {RATE}, 2), np.float32)
audio[{RATE} // 20 :: {RATE} // 10] = 0.95
sys.modules["sounddevice"] = FakeSounddevice(audio, OPTIONS)
"""


def microphone(options: str = "") -> str:
    return _MICROPHONE.replace("OPTIONS", options)


def clicks(count: int, every: int = RATE // 10) -> bytes:
    """So many clicks at full scale, as float32 PCM, each in the middle of its piece."""
    audio = np.zeros((count, every), np.float32)
    audio[:, every // 2] = 0.95
    return audio.tobytes()


def rows(path: Path) -> list[float]:
    """Times in a CSV file."""
    header, *lines = path.read_text().splitlines()
    assert header == "time,class,note,velocity,confidence"
    assert all(line.count(",") == 4 for line in lines)
    return [float(line.split(",")[0]) for line in lines]


def note_ons(path: Path) -> list[float]:
    """Times in a MIDI file."""
    now, times = 0.0, []
    for message in mido.MidiFile(path):
        now += message.time
        times += [now] if message.type == "note_on" else []
    return times


def wait_for(condition: Callable[[], object], timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


class OscListener:
    """A UDP socket that counts what has come. Read by a thread all the time: what does not fit its buffer is lost."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._seen = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self._socket.recv(1000):
            self._seen += 1

    def count(self) -> int:
        return self._seen

    def close(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())  # an empty message ends the thread
        self._thread.join()
        self._socket.close()


@pytest.fixture
def osc() -> Iterator[OscListener]:
    pytest.importorskip("pythonosc", reason="needs the extra `live`")
    listener = OscListener()
    yield listener
    listener.close()


# Signals


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("ending", ["mid", "csv"])
def test_signals_while_following(signum: int, code: int, ending: str, start: Start, osc, tmp_path: Path) -> None:
    path, out = tmp_path / "take.pcm", tmp_path / f"a.{ending}"
    path.write_bytes(clicks(5))
    process = start(path, "--follow", *RAW, "-o", out, "--osc", osc.target, "--latency-ms", 40)
    wait_for(lambda: osc.count() == 5)
    with path.open("ab") as file:
        file.write(clicks(5))
    wait_for(lambda: osc.count() == 10)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code, errors
    assert b"interrupted after 1.0 s: the hits up to there are written" in errors
    assert b"Traceback" not in errors
    times = note_ons(out) if ending == "mid" else rows(out)
    assert times == pytest.approx([0.05 + k / 10 for k in range(10)], abs=1e-3)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_while_listening_to_a_device(signum: int, code: int, start: Start, osc, tmp_path: Path) -> None:
    out = tmp_path / "a.mid"
    process = start("--live", "-o", out, "--osc", osc.target, "--latency-ms", 40, prelude=microphone())
    wait_for(lambda: osc.count() >= 5)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code, errors
    found = re.search(rb"interrupted after ([\d.]+) s: the hits up to there are written", errors)
    assert found
    heard_s = float(found[1])
    times = note_ons(out)
    assert times == pytest.approx([0.05 + k / 10 for k in range(len(times))], abs=1e-3)
    assert len(times) == pytest.approx(min(20, 10 * heard_s), abs=1)  # all that was heard, to the last moment
    assert b"ms from attack to hit" in errors


def test_a_signal_finds_what_a_slow_engine_has_not_done_yet(start: Start, tmp_path: Path) -> None:
    """Audio that waits in the ring was heard: it is transcribed before leaving."""
    slow = """
import time
from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine as engine
step, calls = engine.step, []
def stalling(self, *args):
    calls.append(1)
    time.sleep(0.9 if len(calls) == 3 else 0)
    return step(self, *args)
engine.step = stalling
"""
    out = tmp_path / "a.csv"
    process = start("--live", "-o", out, prelude=microphone() + slow)
    wait_for(lambda: any(p.name.startswith(".ghostnote") for p in tmp_path.iterdir()))
    time.sleep(0.7)  # stalls after 60 ms
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert len(rows(out)) > 4  # all but the first are from the ring


# The source ends or breaks


def test_a_vanished_device_ends_like_a_file(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "a.mid"
    process = start("--live", "-o", out, prelude=microphone("vanish_after=100"))
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 5
    assert b"error: Fake Interface: the device stopped delivering audio after 1.0 s; was it unplugged?;" in errors
    assert b"the hits up to there are written" in errors
    assert note_ons(out) == pytest.approx([0.05 + k / 10 for k in range(10)], abs=1e-3)


def test_a_followed_file_that_is_renamed_is_complete(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "take.pcm.part"
    path.write_bytes(clicks(5))
    process = start(path, "--follow", *RAW, "--latency-ms", 40)
    assert process.stdout
    assert json.loads(process.stdout.readline())["time"] == pytest.approx(0.05, abs=1e-3)
    path.rename(tmp_path / "take.pcm")
    out, errors = process.stdout.read(), process.stderr.read()
    assert process.wait(timeout=20) == 0
    assert out.count(b"\n") == 4
    assert b"warning: " in errors
    assert b"was removed or renamed" in errors


def test_an_engine_that_fails_half_way(start: Start, osc: OscListener, tmp_path: Path) -> None:
    failing = """
from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine as engine
from ghostnote.runtime import EngineError
step, calls = engine.step, []
def failing(self, *args):
    calls.append(1)
    if len(calls) == 6:
        raise EngineError("onnxruntime failed: out of memory")
    return step(self, *args)
engine.step = failing
"""
    out = tmp_path / "a.csv"
    process = start("-", *RAW, "-o", out, "--osc", osc.target, "--latency-ms", 40, prelude=failing)
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        for _ in range(20):
            process.stdin.write(clicks(1))
            process.stdin.flush()
            time.sleep(0.03)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 7
    assert b"error: onnxruntime failed: out of memory; the hits up to there are written" in errors
    assert 3 <= len(rows(out)) < 20
    wait_for(lambda: osc.count() == len(rows(out)))


# The output breaks

# A limit on the size of files stands for a full disk: 8 KiB hold about 250 of 600 hits.
_FULL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))"


def test_disk_full_stops_the_file_only(start: Start, osc: OscListener, tmp_path: Path) -> None:
    path, out = tmp_path / "a.pcm", tmp_path / "a.csv"
    path.write_bytes(clicks(600, RATE // 25))
    process = start(path, *RAW, "-o", out, "--osc", osc.target, prelude=_FULL_DISK)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 6
    message = f"{out}: cannot be written (file too large); what could be kept is in {out}.partial".encode()
    assert b"warning: " in errors
    assert errors.count(message) == 2  # when it happened, and as the error at the end
    assert b"the other outputs go on" in errors
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv.partial", "a.pcm"]
    times = rows(tmp_path / "a.csv.partial")
    assert times == pytest.approx([0.02 + k / 25 for k in range(len(times))], abs=1e-3)
    assert len(times) > 200
    wait_for(lambda: osc.count() > len(times))  # it went on; a few of a burst of 600 may be lost on the way


def test_a_closed_output_pipe_stops_that_output_only(start: Start, osc: OscListener) -> None:
    process = start("-", *RAW, "--osc", osc.target)
    assert process.stdout
    process.stdout.close()
    _, errors = process.communicate(clicks(30), timeout=20)
    assert (process.returncode, errors) == (0, b"")
    wait_for(lambda: osc.count() == 30)


# The grid


def _on_terminal(start: Start, *args: object, **options: object) -> tuple[int, bytes]:
    """Run with standard output and error on a terminal of 80 x 24."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = start(*args, stdout=follower, stderr=follower, env=environment | {"TERM": "xterm-256color"}, **options)
    os.close(follower)
    text = b""
    with contextlib.suppress(OSError):  # Linux says so when the other end closes
        while chunk := os.read(leader, 65536):
            text += chunk
    os.close(leader)
    return process.wait(timeout=20), text


def test_a_grid_on_a_terminal(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    code, text = _on_terminal(start, "--live", "-o", out, prelude=microphone("vanish_after=100"))
    assert code == 5
    frames = text.decode().split("listening to Fake Interface")
    assert 10 < len(frames) < 60  # about a second at 20 per second
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", frames[-1])
    assert last.count("▇") + last.count("█") >= 9  # of 10 clicks
    assert re.search(r"latency 250 ms, measured \d+, p99 \d+ {3}compute [\d.]+ ms, p99 [\d.]+ {3}overruns 0", last)
    assert "was it unplugged?" in last
    assert text.rfind(b"\x1b[?25h") > text.rfind(b"\x1b[?25l")  # the cursor is back
    assert len(rows(out)) == 10


@pytest.mark.skipif(sys.platform != "linux", reason="what a terminal that is gone answers differs")
def test_a_terminal_that_is_closed_leaves_the_take(start: Start, tmp_path: Path) -> None:
    """The system sends SIGHUP, and refuses whatever is still drawn."""
    out = tmp_path / "a.csv"
    leader, follower = pty.openpty()
    own_it = "import fcntl, termios\nfcntl.ioctl(1, termios.TIOCSCTTY, 0)\n"
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), follower)
    process = start("--live", "-o", out, prelude=own_it + microphone(), start_new_session=True, **streams)
    os.close(follower)
    text = b""
    while b"listening to" not in text or not any(p.name.startswith(".ghostnote") for p in tmp_path.iterdir()):
        text += os.read(leader, 65536)
    drawn_until = time.monotonic() + 0.7
    while time.monotonic() < drawn_until:
        os.read(leader, 65536)
    os.close(leader)
    assert process.wait(timeout=20) == 129
    assert len(rows(out)) >= 5


def test_json_lines_instead_of_a_grid_on_a_pipe(start: Start) -> None:
    process = start("--live", prelude=microphone("vanish_after=60"))
    out, errors = process.communicate(timeout=20)
    assert process.returncode == 5
    assert b"\x1b" not in out + errors
    assert [json.loads(line)["class"] for line in out.splitlines()] == ["BD"] * 6


def test_a_file_is_listed_unless_a_grid_is_asked_for(start: Start, click_wav: Path) -> None:
    _, text = _on_terminal(start, click_wav, "--grid")
    assert b"listening to" in text
    _, text = _on_terminal(start, "--live", "--no-grid", prelude=microphone("vanish_after=20"))
    assert b"listening to" not in text
    assert b"bass drum" in text
