"""`rt-transcribe` as users meet it: outputs, exit codes, one-line errors, signals, pipes."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click_model
import mido
import numpy as np
import pytest
import soundfile
from click_model import Clicks
from typer.testing import CliRunner, Result

from ghostnote.runtime import command, transcribe_file
from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine
from ghostnote.runtime.engines.opening import open_engine
from ghostnote.runtime.input import pcm, raw_options
from ghostnote.runtime.output import options as output_options
from ghostnote.runtime.output import writers

RATE = click_model.RATE
Start = Callable[..., "subprocess.Popen[bytes]"]


def run(*args: object, stdin: bytes | None = None) -> Result:
    """The command inside this process."""
    return CliRunner().invoke(command.app, [str(arg) for arg in args], input=stdin)


@pytest.fixture
def go(click_path: Path) -> Callable[..., Result]:
    """The command inside this process, with the click model."""

    def call(*args: object, stdin: bytes | None = None) -> Result:
        return run("--engine", click_path, *args, stdin=stdin)

    return call


def assert_failed(result: Result, code: int, *words: str) -> None:
    """The exit code, and one line on stderr that begins with 'error:' and holds the words."""
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in errors[0]


def found(result: Result) -> list[tuple[int, str]]:
    """(sample, class) of the JSON lines on stdout, without BD, which fires at every click."""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return [(round(line["time"] * RATE), line["class"]) for line in lines if line["class"] != "BD"]


def expected(clicks: Clicks) -> list[tuple[int, str]]:
    codes = click_model.make_manifest().codes
    return [(place, codes[channel]) for place, channel in clicks.attacks]


# Output


def test_json_lines_on_a_pipe(go, click_wav: Path, clicks: Clicks) -> None:
    result = go(click_wav)
    assert result.exit_code == 0
    assert found(result) == expected(clicks)
    n = 2 * len(clicks.attacks)
    assert result.stderr.startswith(f"{n} hits (BD {len(clicks.attacks)}, ")
    assert "in 6.0 s of audio; took " in result.stderr
    assert "times real time; total latency 250 ms; click (float32) on onnxruntime" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("ending", ["mid", "jsonl", "csv", "labels", "txt"])
def test_the_ending_chooses_the_format(ending: str, go, click_wav: Path, clicks: Clicks, tmp_path: Path) -> None:
    out = tmp_path / f"out.{ending}"
    result = go(click_wav, "-o", out)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"written to {out}" in result.stderr
    if ending == "mid":
        assert sum(m.type == "note_on" for m in mido.MidiFile(out)) == 2 * len(clicks.attacks)
    else:
        assert len(out.read_text().splitlines()) == 2 * len(clicks.attacks) + (ending == "csv")


def test_format_overrides_the_ending_and_works_on_stdout(go, click_wav: Path, tmp_path: Path) -> None:
    assert go(click_wav, "-o", tmp_path / "out.dat", "--format", "csv").exit_code == 0
    on_stdout = go(click_wav, "--format", "csv")
    assert (tmp_path / "out.dat").read_bytes() == on_stdout.stdout_bytes
    assert go(click_wav, "--format", "midi").stdout_bytes.startswith(b"MThd")


def test_latency(go, click_wav: Path, clicks: Clicks) -> None:
    result = go(click_wav, "--latency-ms", 100)
    assert "total latency 100 ms" in result.stderr
    assert found(result) == expected(clicks)


def test_threads(go, click_wav: Path) -> None:
    assert "CPU, 2 thread(s)" in go(click_wav, "--threads", 2).stderr


def test_library_gives_the_same(go, click_wav: Path, click_path: Path) -> None:
    hits = [hit for hit in transcribe_file(click_wav, open_engine(click_path)) if hit.code != "BD"]
    assert [(round(hit.time_s * RATE), hit.code) for hit in hits] == found(go(click_wav))


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("ghostnote ")
    result = run("--help")
    assert result.exit_code == 0
    assert "INPUT" in result.stdout


def test_names_of_formats_are_those_of_the_modules() -> None:
    assert [str(name) for name in output_options.FormatName] == list(writers.FORMATS)
    assert [str(name) for name in raw_options.RawName] == list(pcm.RAW_FORMATS)


def test_terminal_gets_a_list(click_wav: Path, start: Start, clicks: Clicks) -> None:
    leader, follower = pty.openpty()
    process = start(click_wav, stdout=follower, stderr=follower)
    os.close(follower)
    text = _shown(leader)
    process.communicate()
    assert process.returncode == 0
    lines = text.decode().splitlines()
    assert "time" in lines[0]
    assert "SD" in lines[2]
    assert "snare drum" in lines[2]
    assert len(lines) == 2 + 2 * len(clicks.attacks)
    assert "hits (BD" in lines[-1]


def test_terminal_without_unicode_gets_plain_bars(click_wav: Path, start: Start, clicks: Clicks) -> None:
    leader, follower = pty.openpty()
    process = start(click_wav, stdout=follower, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    os.close(follower)
    text = _shown(leader)
    process.communicate()
    assert process.returncode == 0
    assert text.count(b"#\x1b") == 2 * len(clicks.attacks)
    assert text.isascii()


def _shown(leader: int) -> bytes:
    """All that is written to a terminal, which is closed afterwards."""
    text = b""
    while chunk := _read_terminal(leader):
        text += chunk
    os.close(leader)
    return text


def _read_terminal(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # Linux says so when the other end closes
        return b""


def test_progress_on_a_terminal_only(click_wav: Path, start: Start, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    process = start(click_wav, "-o", tmp_path / "a.mid", stderr=follower)
    os.close(follower)
    text = _shown(leader)
    process.communicate()
    assert b" / 6 s" in text
    assert text.decode().rstrip().endswith("a.mid")


# Standard input


def test_wav_on_standard_input(go, click_wav: Path, clicks: Clicks) -> None:
    assert found(go("-", stdin=click_wav.read_bytes())) == expected(clicks)


def test_raw_on_standard_input(go, clicks: Clicks) -> None:
    stereo = np.repeat(clicks.pcm, 2).astype("<f4").tobytes()
    result = go("-", "--raw-format", "f32le", "--rate", RATE, "--channels", 2, stdin=stereo)
    assert found(result) == expected(clicks)


def test_hits_of_a_live_pipe_come_before_it_ends(start: Start) -> None:
    process = start("-", "--raw-format", "f32le", "--rate", RATE, "--latency-ms", 40)
    assert process.stdin
    assert process.stdout
    audio = np.zeros(RATE // 2, np.float32)
    audio[1000] = 0.95
    process.stdin.write(audio.tobytes())
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["class"] == "BD"
    process.stdin.close()
    assert process.wait(timeout=20) == 0


# Bad input


def test_missing_file(go, tmp_path: Path) -> None:
    assert_failed(go(tmp_path / "absent.wav"), 5, "absent.wav", "no such file")


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "empty"), (b"no audio " * 99, "not audio"), ("zero", "no audio samples")]
)
def test_not_audio(data: bytes | str, words: str, go, tmp_path: Path) -> None:
    path, out = tmp_path / "bad.wav", tmp_path / "out.mid"
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        soundfile.write(path, np.zeros(0), RATE)
    assert_failed(go(path, "-o", out), 5, "bad.wav", words)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.wav"]


def test_empty_standard_input(go, tmp_path: Path) -> None:
    assert_failed(go("-", stdin=b""), 5, "standard input", "empty")
    result = go("-", "--raw-format", "s16le", "--rate", 8000, "-o", tmp_path / "a.mid", stdin=b"")
    assert_failed(result, 5, "no audio samples; nothing is written")
    assert list(tmp_path.iterdir()) == []


def test_truncated_wav_is_transcribed_and_said_so(go, click_wav: Path, clicks: Clicks) -> None:
    data = click_wav.read_bytes()
    click_wav.write_bytes(data[: len(data) // 2])
    result = go(click_wav)
    assert result.exit_code == 0
    assert found(result) == [entry for entry in expected(clicks) if entry[0] < 3 * RATE]
    assert "warning: " in result.stderr
    assert "truncated: 6.00 s announced, 3.00 s found" in result.stderr


def test_damaged_file_keeps_what_was_found(go, clicks: Clicks, tmp_path: Path) -> None:
    path, out = tmp_path / "a.flac", tmp_path / "a.txt"
    soundfile.write(path, clicks.pcm + np.random.default_rng(0).normal(0, 1e-3, len(clicks.pcm)), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert_failed(go(path, "-o", out), 5, "damaged after", "the hits up to there are written")
    times = [float(line.split()[0]) for line in out.read_text().splitlines() if "\tBD\t" in line]
    places = [place for place, _ in clicks.attacks if place < 3.5 * RATE]
    assert [round(t * RATE) for t in times][: len(places)] == pytest.approx(places, abs=1)


def test_non_finite_samples_are_counted(go, click_wav: Path, clicks: Clicks, tmp_path: Path) -> None:
    bad = clicks.pcm.copy()
    bad[np.flatnonzero(bad == 0)[:7]] = np.nan
    soundfile.write(tmp_path / "nan.wav", bad, RATE, subtype="FLOAT")
    result = go(tmp_path / "nan.wav")
    assert result.exit_code == 0
    assert "warning: 7 sample(s) were NaN, infinite or absurdly large" in result.stderr
    assert found(result) == found(go(click_wav))


def test_silence(go, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    result = go(tmp_path / "a.wav", "-o", tmp_path / "a.mid")
    assert result.exit_code == 0
    assert result.stderr.startswith("0 hits in 1.0 s")
    assert mido.MidiFile(tmp_path / "a.mid").length == 0


def test_unwritable_output_is_known_before_the_work(go, click_wav: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(OnnxRuntimeEngine, "step", lambda *_: pytest.fail("transcribed first"))
    assert_failed(go(click_wav, "-o", tmp_path / "absent" / "a.mid"), 6, "cannot be written")
    assert_failed(go(click_wav, "-o", tmp_path, "--format", "midi"), 6, "is a folder")


@pytest.mark.parametrize(
    ("option", "code"), [("INPUT", 5), ("--follow", 5), ("--engine", 7), ("-o", 6), ("--report", 6)]
)
@pytest.mark.parametrize("reason", ["File name too long", "Permission denied"])
def test_a_file_that_cannot_even_be_looked_at(
    option: str, code: int, reason: str, go, click_wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Path.exists() and its like raise then, unlike for a file that is not there."""
    name = tmp_path / ("x" * 300 if reason == "File name too long" else "closed") / "a.mid"
    if reason == "Permission denied":  # as root, tests may look everywhere
        for module, call in (("os", "stat"), ("io", "open"), ("os", "open")):
            monkeypatch.setattr(f"{module}.{call}", _refusing(getattr(sys.modules[module], call), name.parent))
    args = {
        "INPUT": [name],
        "--follow": [name, "--follow"],
        "--engine": [click_wav, "--engine", name],
        "-o": [click_wav, "-o", name],
        "--report": [click_wav, "--report", name.with_suffix(".html")],
    }
    result = go(*args[option])
    assert_failed(result, code, str(name.with_suffix("")))
    assert reason.lower() in result.stderr.lower()


def _refusing(call: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """The system's call as it is where one has no permission to search the folder."""

    def refuse(path: Any, *args: Any, **named: Any) -> Any:
        if not isinstance(path, int) and str(path).startswith(str(folder)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return call(path, *args, **named)

    return refuse


def test_bad_models(click_wav: Path, tmp_path: Path) -> None:
    foreign = click_model.build(tmp_path / "foreign.onnx", metadata=None)
    newer = click_model.build(tmp_path / "newer.onnx", metadata='{"schema_version": 2}')
    (tmp_path / "text.onnx").write_text("no model")
    assert_failed(run("--engine", foreign, click_wav), 7, "foreign.onnx", "not a ghostnote model")
    assert_failed(run("--engine", newer, click_wav), 7, "newer.onnx", "newer version; upgrade")
    assert_failed(run("--engine", tmp_path / "text.onnx", click_wav), 7, "text.onnx")
    assert_failed(run("--engine", tmp_path / "absent.onnx", click_wav), 7, "no such model file")


def test_failing_engine_keeps_what_was_found(go, click_wav: Path, monkeypatch, tmp_path: Path) -> None:
    step, calls = OnnxRuntimeEngine.step, []

    def failing(self, audio, delay, state):
        calls.append(1)
        return step(self, audio, delay if len(calls) < 4 else delay + 99, state)

    monkeypatch.setattr(OnnxRuntimeEngine, "step", failing)
    assert_failed(go(click_wav, "-o", tmp_path / "a.txt"), 7, "onnxruntime failed", "hits up to there are written")
    assert len((tmp_path / "a.txt").read_text().splitlines()) > 10


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-o", "a.pdf"], ".mid"),
        (["--latency-ms", "10"], "available: 40, 60, 80, 100, 150, 250 ms"),
        (["--rate", "8000"], "--raw-format"),
        (["--raw-format", "s16le"], "--rate"),
        (["--live"], "leave out INPUT"),
        (["--input-device", "3"], "belong to --live"),
        (["--block-ms", "20"], "belong to --live"),
        (["--follow", "--follow-timeout", "nan"], "--follow-timeout nan: expected a finite number"),
        (["--follow-timeout", "3"], "belongs to --follow"),
        (["--osc", "host"], "expected HOST:PORT"),
    ],
)
def test_bad_command_lines(args: list[str], words: str, go, click_wav: Path) -> None:
    assert_failed(go(click_wav, *args), 2, words)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "name an audio file, - for standard input, or give --live"),
        (["--follow"], "no input"),
        (["-", "--follow"], "needs a file"),
        (["--live", "--input-channels", "0"], "expected numbers from 1"),
        (["--live", "--input-channels", "9" * 5000], "expected numbers from 1"),
        (["--live", "--raw-format", "s16le", "--rate", "44100"], "describe INPUT, and --live has none"),
        (["--live", "--rate", "44100"], "describe INPUT, and --live has none"),
        (["--live", "--channels", "2"], "describe INPUT, and --live has none"),
    ],
)
def test_inputs_that_make_no_sense(args: list[str], words: str, go) -> None:
    assert_failed(go(*args), 2, words)


def test_a_live_output_that_cannot_be_opened_is_known_before_the_work(go, click_wav: Path, tmp_path: Path) -> None:
    assert_failed(go(click_wav, "-o", tmp_path / "a.mid", "--osc", "nowhere.invalid:9"), 6, "nowhere.invalid")
    assert [p.name for p in tmp_path.iterdir()] == ["clicks.wav"]


@pytest.mark.parametrize(
    "args",
    [["--format", "pdf"], ["--threads", "0"], ["--threads", "257"], ["--raw-format", "mp3"], ["--nonsense"]],
)
def test_command_lines_that_typer_refuses(args: list[str], go, click_wav: Path) -> None:
    assert go(click_wav, *args).exit_code == 2
