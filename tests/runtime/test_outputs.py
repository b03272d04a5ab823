"""Several outputs in one run, and what is left when one of them fails."""

from __future__ import annotations

import io
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import mido
import pytest
from click_model import RATE, Clicks
from typer.testing import CliRunner, Result

from ghostnote.runtime import command

Go = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def go(click_path: Path) -> Go:
    """The command inside this process, with the click model."""
    return lambda *args: CliRunner().invoke(command.app, ["--engine", str(click_path), *map(str, args)])


def error_of(result: Result, code: int) -> str:
    assert result.exit_code == code, result.output
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return error


# The command


def test_all_formats_in_one_run(go: Go, click_wav: Path, clicks: Clicks, tmp_path: Path) -> None:
    names = ["a.mid", "b.csv", "c.jsonl", "d.musicxml", "r.html"]
    outputs = [word for name in names[:-1] for word in ("-o", tmp_path / name)]
    (tmp_path / "notes").write_text("SD 40\n")
    extras = ("--tempo", 120, "--quantize", "1/32", "--note-map", tmp_path / "notes", "--midi-tracks", "drums")
    result = go(click_wav, *outputs, "--report", tmp_path / "r.html", *extras)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"written to {', '.join(str(tmp_path / name) for name in names)}" in result.stderr
    lines = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * len(clicks.attacks)
    assert {line["note"] for line in lines if line["class"] == "SD"} == {40}
    assert ",SD,40," in (tmp_path / "b.csv").read_text()
    tracks = mido.MidiFile(tmp_path / "a.mid").tracks
    assert {m.note for track in tracks if track.name == "snare drum" for m in track if m.type == "note_on"} == {40}
    assert len(tracks) == 19
    assert ElementTree.parse(tmp_path / "d.musicxml").findall("part/measure/note/unpitched")
    assert "/*DATA*/null" not in (tmp_path / "r.html").read_text()


def test_a_link_to_itself_is_replaced(go: Go, click_wav: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to("a.csv")
    assert go(click_wav, "-o", tmp_path / "a.csv").exit_code == 0
    assert (tmp_path / "a.csv").read_text().startswith("time,class")


def test_midi_on_standard_output_is_sorted(go: Go, click_wav: Path, clicks: Clicks, tmp_path: Path) -> None:
    """Hits are found out of order by up to two frames, and a MIDI file cannot go back."""
    go(click_wav, "-o", tmp_path / "a.mid")
    assert go(click_wav, "--format", "midi").stdout_bytes == (tmp_path / "a.mid").read_bytes()


def test_a_report_beside_standard_output(go: Go, click_wav: Path, clicks: Clicks, tmp_path: Path) -> None:
    result = go(click_wav, "--report", tmp_path / "r.html")
    assert len(result.stdout.splitlines()) == 2 * len(clicks.attacks)
    assert (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-o", "a.musicxml"], "MusicXML needs the beat and the finest note value: give --tempo"),
        (["-o", "a.musicxml", "--tempo", "120"], "--quantize (e.g. 1/16)"),
        (["-o", "a.mid", "--quantize", "1/16"], "--quantize needs --tempo"),
        (["-o", "a.mid", "--meter", "3/4"], "--meter needs --tempo"),
        (["-o", "a.mid", "--tempo", "120", "--quantize", "1/5"], "1/16"),
        (["-o", "a.csv", "--tempo", "120"], "--tempo is for MIDI and MusicXML"),
        (["-o", "a.csv", "--midi-tracks", "drums"], "--midi-tracks is for MIDI"),
        (["-o", "a.labels", "--note-map", "notes"], "--note-map is for MIDI, MusicXML, JSON lines, CSV, --midi-port"),
        (["--format", "txt", "--note-map", "notes"], "--note-map is for MIDI"),
        (["-o", "a.mid", "-o", "b.csv", "--format", "csv"], "--format names the format of one output"),
        (["-o", ""], "an output has an empty name"),
        (["--report", ""], "an output has an empty name"),
        (["-o", "-", "--format", "csv"], "-o - names no file: leave -o out"),
        (["-o", "a.mid", "-o", "./a.mid"], "the same file is named for two outputs"),
        (["-o", "a.html", "--format", "csv", "--report", "a.html"], "the same file"),
    ],
)
def test_options_that_contradict(
    args: list[str], words: str, go: Go, click_wav: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in error_of(go(click_wav, *args), 2)
    assert [path.name for path in tmp_path.iterdir()] == [click_wav.name]


@pytest.mark.parametrize(("option", "link"), [("--output", ""), ("--output", "link.wav"), ("--report", "link.html")])
def test_no_output_replaces_the_input(option: str, link: str, go: Go, click_wav: Path, tmp_path: Path) -> None:
    before, name = click_wav.read_bytes(), click_wav
    if link:
        name = tmp_path / link
        name.symlink_to(click_wav)
    wanted = go(click_wav, "--format", "csv", option, name) if option == "--output" else go(click_wav, option, name)
    assert "is the input, which would be replaced" in error_of(wanted, 2)
    assert click_wav.read_bytes() == before


@pytest.mark.parametrize("name", ["-", "hits.mid", "page"])
def test_a_report_is_a_page(name: str, go: Go, click_wav: Path) -> None:
    assert "expected a name in .html" in error_of(go(click_wav, "--report", name), 2)


def test_no_output_replaces_the_input_that_the_shell_opened(start: Start, click_wav: Path) -> None:
    before = click_wav.read_bytes()
    with click_wav.open("rb") as redirected:
        process = start("-", "--format", "csv", "-o", click_wav, stdin=redirected, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert b"is the input, which would be replaced" in errors
    assert click_wav.read_bytes() == before


@pytest.mark.parametrize(
    ("what", "args", "out"),
    [
        ("model", ["--engine", "mine.onnx"], "mine.onnx"),
        ("model", ["--engine", "mine.plan"], "mine.plan"),
        ("description of the model", ["--engine", "mine.plan"], "mine.plan.json"),
        ("tempo map", ["--tempo", "session.mid"], "session.mid"),
        ("note map", ["--note-map", "nm.txt"], "nm.txt"),
    ],
)
def test_no_output_replaces_another_file_that_is_read(
    what: str, args: list[str], out: str, go: Go, click_wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / args[1]).write_bytes(b"SD 40")
    (tmp_path / out).write_bytes(b"SD 40")
    wanted = go(click_wav, "--format", "midi", *args, "-o", f"./{out}")
    assert f"{out} is the {what}, which would be replaced" in error_of(wanted, 2)
    assert (tmp_path / out).read_bytes() == b"SD 40"


def test_a_number_is_no_file_of_tempi(go: Go, click_wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "120").write_bytes(b"old")
    assert go(click_wav, "--format", "midi", "--tempo", "120", "-o", "120").exit_code == 0
    assert (tmp_path / "120").read_bytes().startswith(b"MThd")


def test_bad_files_are_known_before_the_work(go: Go, click_wav: Path, tmp_path: Path) -> None:
    (tmp_path / "map").write_text("0,120\noops\n")
    (tmp_path / "notes").write_text("SDX 3\n")
    before = sorted(tmp_path.iterdir())
    assert "map line 2: found 'oops'" in error_of(
        go(click_wav, "-o", tmp_path / "a.mid", "--tempo", tmp_path / "map"), 5
    )
    noted = go(click_wav, "-o", tmp_path / "a.mid", "--note-map", tmp_path / "notes")
    assert "notes line 1: class 'SDX'" in error_of(noted, 5)
    unopened = go(click_wav, "-o", tmp_path / "a.mid", "--report", tmp_path / "absent" / "r.html")
    assert "absent/r.html: cannot be written" in error_of(unopened, 6)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_one_full_disk_does_not_lose_the_other_output(go: Go, click_wav: Path, clicks: Clicks, tmp_path: Path) -> None:
    out = tmp_path / "b.csv"
    error = error_of(go(click_wav, "--format", "csv", "-o", out, "--report", "/dev/full"), 6)
    assert error == "error: /dev/full: cannot be written (no space left on device); the other outputs are complete"
    assert len(out.read_text().splitlines()) == 1 + 2 * len(clicks.attacks)


_LIMITED = "import sys; from ghostnote.runtime.command import main; main()"


@pytest.mark.parametrize("limit", [0, 1000, 8000])
def test_a_disk_that_fills_leaves_nothing_half_written(
    limit: int, click_path: Path, click_wav: Path, tmp_path: Path
) -> None:
    """With so many bytes per file: what fits is whole, what does not leaves what was there before."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "c.jsonl").write_text("what was there before\n")
    names = ["a.mid", "b.labels", "c.jsonl", "r.html"]
    words = [sys.executable, "-c", _LIMITED, "--engine", click_path, click_wav, "--report", folder / "r.html"]
    words += [word for name in names[:-1] for word in ("-o", folder / name)]

    def few_bytes() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run([str(w) for w in words], preexec_fn=few_bytes, capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    *warnings, error = done.stderr.splitlines()
    assert all(line.startswith("warning: ") and line.endswith("; the other outputs go on") for line in warnings)
    assert error.startswith("error: ")
    assert "r.html: cannot be written (file too large)" in error
    whole = {path.name for path in folder.iterdir() if path.suffix != ".partial"} - {"c.jsonl"}
    assert whole == {0: set(), 1000: {"a.mid"}, 8000: {"a.mid", "b.labels"}}[limit]
    assert ((folder / "c.jsonl").read_text() == "what was there before\n") == (limit < 8000)
    if whole:
        assert error.endswith("; the other outputs are complete")
        mido.MidiFile(file=io.BytesIO((folder / "a.mid").read_bytes()))


def test_a_closed_pipe_does_not_lose_the_report(start: Start, click_wav: Path, tmp_path: Path) -> None:
    piped = start(click_wav, "--report", tmp_path / "r.html")
    assert piped.stdout
    piped.stdout.close()
    piped.stdout = None
    _, errors = piped.communicate(timeout=20)
    assert (piped.returncode, errors) == (0, b"")
    assert (tmp_path / "r.html").stat().st_size > 10_000


def test_the_documents_table_of_classes_is_the_code() -> None:
    from ghostnote.runtime.output.notation import look_of
    from ghostnote.runtime.vocabulary import CLASSES

    text = (Path(__file__).resolve().parents[2] / "docs" / "outputs.md").read_text()
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")
    ]
    rows = [row for row in rows if len(row) == 6]
    assert [row[:3] for row in rows] == [[c.code, c.name, str(c.note)] for c in CLASSES]
    assert [row[3] for row in rows] == [f"{look_of(c.code).step}{look_of(c.code).octave}" for c in CLASSES]
    assert [row[4].split()[0] for row in rows] == [look_of(c.code).notehead for c in CLASSES]


def test_a_report_of_raw_pcm_in_a_file_has_its_sound(go: Go, clicks: Clicks, tmp_path: Path) -> None:
    """And nothing is measured: it is a recording like any other."""
    (tmp_path / "a.pcm").write_bytes(clicks.pcm.astype("<f4").tobytes())
    options = ("--raw-format", "f32le", "--rate", RATE, "--report", tmp_path / "r.html")
    result = go(tmp_path / "a.pcm", *options)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2 * len(clicks.attacks)
    assert "measured" not in result.stderr
    assert '"audio_note": null' in (tmp_path / "r.html").read_text()


def test_a_report_of_a_pipe_says_that_there_is_no_sound(start: Start, click_wav: Path, tmp_path: Path) -> None:
    piped = start("-", "--report", tmp_path / "r.html")
    piped.communicate(click_wav.read_bytes(), timeout=20)
    assert piped.returncode == 0
    text = (tmp_path / "r.html").read_text()
    assert '"audio": null, "audio_note": "The sound is left out: it came live, from a pipe or a device."' in text
