"""Transcribers side by side: ours, and stand-ins for external ones."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner, Result

from ghostnote.benchmarks import peers
from ghostnote.benchmarks.peers import Peer, measure
from ghostnote.models.evaluation.inputs import references
from ghostnote.runtime import InputError, UsageError

COPY = "import shutil, sys; shutil.copy(sys.argv[1].replace('audio', 'labels').replace('.wav', '.txt'), sys.argv[2])"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    audio, labels = tmp_path / "audio", tmp_path / "labels"
    for folder in (audio, labels):
        folder.mkdir()
    for name in ("a", "b"):
        soundfile.write(audio / f"{name}.wav", np.zeros(22050, np.float32), 44100)
        (labels / f"{name}.txt").write_text("0.1\tBD\n0.2\tSD\n")
    return audio, labels


def command(script: str) -> str:
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(script)} {{audio}} {{out}}"


def invoked(*words: str) -> Result:
    app = typer.Typer()
    app.command()(peers.peers)
    return CliRunner().invoke(app, words)


def row(folders: tuple[Path, Path], peer: Peer) -> peers.Row:
    recordings = {path.stem: path for path in folders[0].iterdir()}
    return measure(peer, recordings, references(folders[1]), "five")


def test_a_perfect_peer_scores_one(folders: tuple[Path, Path]) -> None:
    guarded = f"if 'silence' in sys.argv[1]: sys.exit()\n{COPY}"
    found = row(folders, Peer("perfect", command("import sys\n" + guarded)))
    assert found.f == {"50": 1, "25": 1}
    assert found.mean_abs_ms == 0
    assert found.cpu_per_s > 0 < found.start_s
    assert found.gflop_equivalents > found.cpu_per_s
    assert "| perfect | whole file | 1.000 | 1.000 | 0.0 ms |" in peers.as_markdown([found])


def test_a_peer_that_writes_midi_late(folders: tuple[Path, Path], tmp_path: Path) -> None:
    midi = mido.MidiFile()
    track = mido.MidiTrack()
    midi.tracks.append(track)
    for ticks, note in ((125, 36), (96, 38)):  # .13 s and .23 s
        track.append(mido.Message("note_on", channel=9, note=note, velocity=90, time=ticks))
    midi.save(tmp_path / "late.mid")
    script = f"import shutil, sys; shutil.copy({str(tmp_path / 'late.mid')!r}, sys.argv[2])"
    found = row(folders, Peer("late", command(script), "mid"))
    assert found.f == {"50": 1, "25": 0}
    assert found.mean_abs_ms == pytest.approx(30, abs=1)


def test_a_peer_that_fails_is_named(folders: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"bad failed on .*silence\.wav with exit code 3: no model"):
        row(folders, Peer("bad", command("import sys; sys.stderr.write('no model'); sys.exit(3)")))


def test_a_peer_that_writes_nothing_is_not_one_without_hits(folders: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"quiet ended well and wrote no .*[ab]\.txt; check where"):
        row(folders, Peer("quiet", command("pass")))


def test_a_peer_that_says_much_ends(folders: tuple[Path, Path]) -> None:
    script = f"import sys; sys.stderr.write('x' * 200_000)\nif 'silence' in sys.argv[1]: sys.exit()\n{COPY}"
    assert row(folders, Peer("loud", command(script))).f["50"] == 1


def test_a_peer_that_fails_in_another_encoding(folders: tuple[Path, Path]) -> None:
    script = "import sys; sys.stderr.buffer.write(b'd\\xe9j\\xe0'); sys.exit(3)"
    with pytest.raises(InputError, match=r"exit code 3: d.j"):
        row(folders, Peer("bad", command(script)))


def test_a_script_that_does_not_say_what_runs_it(folders: tuple[Path, Path], tmp_path: Path) -> None:
    script = tmp_path / "peer"
    script.write_text("exit 0\n")
    script.chmod(0o755)
    with pytest.raises(InputError, match="bare cannot be started: Exec format error"):
        row(folders, Peer("bare", f"{script} {{audio}} {{out}}"))


def test_memory_is_measured_on_one_thread_like_the_cost(folders: tuple[Path, Path], tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = f"import os; open({str(seen)!r}, 'a').write(os.environ['OMP_NUM_THREADS'])\nimport sys\n"
    row(folders, Peer("told", command(f"{script}if 'silence' in sys.argv[1]: sys.exit()\n{COPY}")))
    assert seen.read_text() == "1111"  # silence, both recordings, memory


def test_hits_too_coarse_for_the_classes_are_named(folders: tuple[Path, Path]) -> None:
    peer = Peer("coarse", command("import sys; open(sys.argv[2], 'w').write('0.1\\tHH\\n')"))
    recordings = {path.stem: path for path in folders[0].iterdir()}
    with pytest.raises(InputError, match=r"hits of coarse, [ab]: label 'HH' is too coarse for 18 classes"):
        measure(peer, recordings, references(folders[1]), "all")


def test_ours_beside_theirs(folders: tuple[Path, Path], tiny_onnx: Path) -> None:
    silent = command("import sys; open(sys.argv[2], 'w')")
    words = [*map(str, folders), "--engine", str(tiny_onnx), "--peer", f"silent={silent}", "--latency-ms", "119"]
    ran = invoked(*words)
    assert ran.exit_code == 0, ran.output
    rows = json.loads(ran.output.splitlines()[-1])["rows"]
    assert [each["name"] for each in rows] == [f"ghostnote {tiny_onnx}", "silent"]
    assert rows[0]["latency_ms"] == 100
    assert rows[1]["f"]["50"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--peer", "nothing"], "'nothing': expected NAME=VALUE"),
        (["--peer", "x=no-such-command {audio} {out}"], "--peer x: no command no-such-command here"),
        (["--peer", "x=cat '{audio} {out}"], "--peer x: not a command line"),
        (["--peer", "x=cat {audio}"], "--peer x: expected a command with {audio} and {out}, found cat {audio}"),
        (["--peer", "x=cat {audio} {out}", "--ending", "y=mid"], "--ending y: no such --peer; expected one of x"),
        (["--peer", "x=cat {audio} {out}", "--peer", "x=cp {audio} {out}"], "--peer x is given twice"),
        (["--classes", "foo"], "cannot score classes 'foo'"),
        (["--latency-ms", "nan"], "--latency-ms nan: expected a finite number"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_work(
    folders: tuple[Path, Path], words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "measure", None)
    ran = invoked(*map(str, folders), *words)
    assert isinstance(ran.exception, UsageError)
    assert message in str(ran.exception)


def test_recordings_and_labels_that_do_not_do(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    audio, labels = folders
    monkeypatch.setattr(peers, "measure", None)
    (labels / "a.txt").write_text("0.1\tHH\n")
    ran = invoked(str(audio), str(labels), "--classes", "all")
    assert isinstance(ran.exception, InputError)
    assert "too coarse for 18 classes" in str(ran.exception)
    for path in audio.iterdir():
        path.unlink()
    ran = invoked(str(audio), str(labels))
    assert isinstance(ran.exception, InputError)
    assert f"{audio}: no recordings NAME.* of the labels in {labels}" in str(ran.exception)


def test_braces_of_the_command_stay() -> None:
    peer = Peer("x", "awk '{print} {audio}' {audio} {out}")
    assert peer.words(Path("a.wav"), Path("b.txt")) == ["awk", "{print} a.wav", "a.wav", "b.txt"]


def test_where_cpu_time_of_commands_is_not_told_that_is_said(folders: tuple[Path, Path]) -> None:
    """Windows has no module `resource`."""
    script = "import sys; sys.modules['resource'] = None; from ghostnote.benchmarks import peers; "
    script += "sys.platform = 'win32'; peers.main()"
    done = subprocess.run([sys.executable, "-c", script, *folders], capture_output=True, text=True, check=False)
    assert done.returncode == UsageError.exit_code
    assert (
        done.stderr
        == "error: peers needs the CPU time of other commands, which Windows does not tell; use Linux or macOS\n"
    )
