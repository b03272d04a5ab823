"""`ghostnote evaluate`: recordings or estimates in, tables and JSON out; what it writes scores the same again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import soundfile
from corpus_folders import MAKERS, write_midi
from evaluation_examples import as_ours
from tiny import write_tiny_checkpoint

from ghostnote.export.signals import drum_like
from ghostnote.models import evaluation
from ghostnote.models.evaluation import command
from ghostnote.models.evaluation.command import evaluate
from ghostnote.models.evaluation.inputs import read_references
from ghostnote.models.evaluation.opening import engine_for, estimate
from ghostnote.models.evaluation.scores import LabelError, reduce_label
from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine
from ghostnote.runtime.errors import InputError, OutputError, UsageError

pytest.importorskip("mir_eval")

LABELS = Path(__file__).parent / "goldens" / "labels"
ESTIMATES, REFERENCES = LABELS / "estimates", LABELS / "references"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder with two recordings, `one` and `two`; references of them in `labels` beside it."""
    folder = tmp_path / "audio"
    folder.mkdir()
    (tmp_path / "labels").mkdir()
    for seed, name in enumerate(("one", "two")):
        soundfile.write(folder / f"{name}.wav", drum_like(seed, 1.5), 44100)
        (tmp_path / "labels" / f"{name}.txt").write_text("0.1\tKD\n0.5\tSD\n1.0\tHH\n")
    return folder


def test_estimates_are_scored_as_the_goldens_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(ESTIMATES, REFERENCES, json_file=tmp_path / "out" / "scores.json", per_track=True)
    goldens = json.loads((LABELS.parent / "scores.json").read_text())
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written["results"] == [as_ours(golden) for golden in goldens[:2]]
    assert written["classes"] == "five"
    shown = capsys.readouterr().out
    assert f"{goldens[0]['micro']['F']:.3f}" in shown
    assert "charlie" in shown


def test_names_that_look_like_markup_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / name for name in ("found[b]", "wanted", "other[b]")]
    for folder in folders:
        folder.mkdir()
        (folder / "x[b].txt").write_text("1.0\tKD\n")
    evaluate(folders[0], folders[1], against=folders[2], per_track=True)
    shown = "".join(capsys.readouterr().out.split())
    assert f"estimatesin{folders[0]}" in shown
    assert "x[b]1.000" in shown
    assert "other[b],±" in shown


def test_window_tracks_and_classes(tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    evaluate(ESTIMATES, REFERENCES, window=[0.01], tracks="alpha,delta", classes="three", json_file=out)
    (result,) = json.loads(out.read_text())["results"]
    assert result["window_s"] == 0.01
    assert list(result["tracks"]) == ["alpha", "delta"]
    assert list(result["classes"]) == ["BD", "SD", "HH"]


def test_adtof_counts_side_stick_as_snare(tmp_path: Path) -> None:
    for name, label in (("est", "37"), ("ref", "SS")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.txt").write_text(f"1.0\t{label}\n")
    found = []
    for adtof in (False, True):
        evaluate(tmp_path / "est", tmp_path / "ref", adtof=adtof, json_file=tmp_path / "s.json")
        found.append(json.loads((tmp_path / "s.json").read_text())["results"][0]["classes"]["SD"]["tp"])
    assert found == [0, 1]


def test_an_engine_is_scored_and_its_estimates_score_the_same(
    recordings: Path, tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, out = tmp_path / "labels", tmp_path / "estimates"
    evaluate(recordings, labels, engine=tiny_onnx, latency_ms=100, estimates=out, json_file=tmp_path / "a.json")
    assert "total latency 100 ms" in capsys.readouterr().out
    evaluate(out, labels, json_file=tmp_path / "b.json")
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert first["results"] == second["results"]
    assert first["total_latency_ms"] == 100
    assert len(first["weights_sha256"]) == 64
    assert first["results"][0]["micro"]["tp"] > 0


def test_a_checkpoint_is_an_engine_too(recordings: Path, tiny_engine: OnnxRuntimeEngine, tmp_path: Path) -> None:
    checkpoint = engine_for(write_tiny_checkpoint(tmp_path / "ckpt.pt"))
    ours, exported = (estimate(engine, recordings / "one.wav") for engine in (checkpoint, tiny_engine))
    assert [code for _, code in ours] == [code for _, code in exported]
    assert [time_s for time_s, _ in ours] == pytest.approx([time_s for time_s, _ in exported], abs=2e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": "seven"}, UsageError, "five, three or all"),
        ({"classes": "three", "adtof": True}, UsageError, "five classes only"),
        ({"tracks": "nobody"}, InputError, "nobody"),
        ({"latency_ms": 100}, UsageError, "holds estimates"),
        ({"classes": "all"}, InputError, "too coarse"),
        ({"labels_dir": Path("missing")}, InputError, "missing"),
        ({"audio_dir": Path("missing")}, InputError, "missing"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        evaluate(**{"audio_dir": ESTIMATES, "labels_dir": REFERENCES, **options})


def test_a_missing_recording_is_named(recordings: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    (recordings / "two.wav").unlink()
    with pytest.raises(InputError, match="no recordings of two"):
        evaluate(recordings, tmp_path / "labels", engine=tiny_onnx)


def test_a_recording_is_told_from_what_lies_beside_it(recordings: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    (recordings / "one.mid").write_bytes(b"labels, say")
    (recordings / "two.yaml").write_text("notes: none")
    out = tmp_path / "s.json"
    evaluate(recordings, tmp_path / "labels", engine=tiny_onnx, json_file=out)
    assert json.loads(out.read_text())["results"]
    soundfile.write(recordings / "one.flac", drum_like(3, 1.0), 44100)
    with pytest.raises(InputError, match=r"one\.flac and one\.wav are one track"):
        evaluate(recordings, tmp_path / "labels", engine=tiny_onnx)


@pytest.mark.parametrize("window", [0.0, -1.0, float("nan"), float("inf")])
def test_a_window_is_a_length(window: float) -> None:
    with pytest.raises(UsageError, match="expected seconds above 0"):
        evaluate(ESTIMATES, REFERENCES, window=[0.05, window])


def test_a_label_without_a_time_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0.5\tBD\nnan\tSD\n")
    with pytest.raises(InputError, match="nan is no time"):
        evaluate(tmp_path, tmp_path)


@pytest.mark.parametrize(("library", "report"), [("mir_eval", None), ("matplotlib", "page.html")])
def test_a_library_is_missed_before_the_work(
    recordings: Path, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, report: str | None
) -> None:
    monkeypatch.setattr(command, "listen", lambda *_, **__: pytest.fail("listened"))
    monkeypatch.setitem(sys.modules, library, None)
    place = tmp_path / report if report else None
    with pytest.raises(ModuleNotFoundError):
        evaluate(recordings, tmp_path / "labels", engine=tiny_onnx, report=place)


@pytest.mark.parametrize("result", ["json_file", "report", "estimates"])
def test_a_place_that_cannot_be_written_is_known_before_the_work(
    recordings: Path, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str
) -> None:
    monkeypatch.setattr(command, "listen", lambda *_, **__: pytest.fail("listened"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made a folder"):
        evaluate(recordings, tmp_path / "labels", engine=tiny_onnx, **{result: tmp_path / "file" / "result.html"})


def test_times_are_whole_microseconds(recordings: Path, tiny_engine: OnnxRuntimeEngine) -> None:
    found = estimate(tiny_engine, recordings / "one.wav")
    assert found == sorted(found)
    assert all(time_s == float(f"{time_s:.6f}") for time_s, _ in found)
    assert evaluation.classes_of(found, "all")


def test_coarse_estimates_are_scored_as_five_against_fine_references(tmp_path: Path) -> None:
    for name, labels in (("est", ("BD", "HH", "CY")), ("ref", ("BD", "OHH", "CRC"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.txt").write_text("".join(f"{i}.0\t{label}\n" for i, label in enumerate(labels)))
    out = tmp_path / "s.json"
    evaluate(tmp_path / "est", tmp_path / "ref", json_file=out)
    document = json.loads(out.read_text())
    assert document["results"][0]["micro"]["F"] == 1
    assert list(document["recordings"]["scores"]) == ["five"]
    with pytest.raises(InputError, match="too coarse"):
        evaluate(tmp_path / "est", tmp_path / "ref", classes="all")


@pytest.mark.parametrize(
    ("result", "name"),
    [("estimates", "labels"), ("json_file", "labels/one.txt"), ("json_file", "audio/one.wav"), ("report", "page.html")],
)
def test_no_result_replaces_what_is_read(
    result: str, name: str, recordings: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    (tmp_path / "page.html").symlink_to(tmp_path / "labels" / "two.txt")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(UsageError, match="would be replaced"):
        evaluate(recordings, tmp_path / "labels", engine=tiny_onnx, **{result: tmp_path / name})
    assert {path: path.read_bytes() for path in before} == before


def test_no_result_replaces_what_a_corpus_holds(tmp_path: Path) -> None:
    folder = MAKERS["heard"](tmp_path / "corpus")
    with pytest.raises(UsageError, match="would be replaced"):
        evaluate(corpus=f"heard={folder}", sound="mix", json_file=folder / "one.csv")


def test_results_are_files_with_fitting_names(recordings: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    for result in ({"json_file": Path("-")}, {"report": tmp_path / "page.txt"}):
        with pytest.raises(UsageError, match=r"names no file|expected a name in \.html"):
            evaluate(recordings, tmp_path / "labels", engine=tiny_onnx, **result)


@pytest.mark.parametrize("ending", [".midi", ".MID", ".TXT"])
def test_references_of_every_ending_are_found(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"one{ending}"
    if ending == ".TXT":
        path.write_bytes("\ufeff0.25\tSD\t0.5\n".encode())
    else:
        write_midi(path, [(0.25, 38, 64)])
    ((note,),) = read_references(tmp_path).values()
    assert (round(note.time_s, 2), reduce_label(note.label, "five"), round(note.velocity or 0, 1)) == (0.25, "SD", 0.5)


@pytest.mark.parametrize(("text", "message"), [("0.25,BD\n", "expected lines"), ("0.2\tfoo\n", "unknown label 'foo'")])
def test_labels_of_another_form_are_told_with_their_file_before_the_work(
    text: str, message: str, recordings: Path, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "listen", lambda *_, **__: pytest.fail("listened"))
    (tmp_path / "labels" / "one.txt").write_text(text)
    with pytest.raises(LabelError, match=rf"one\.txt: .*{message}"):
        evaluate(recordings, tmp_path / "labels", engine=tiny_onnx)


def test_a_velocity_is_each_lines_own(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("0.1\tSD\t64\n0.2\tSD\n0.3\tSD\t127\n")
    (notes,) = read_references(tmp_path).values()
    assert [note.velocity for note in notes] == [64 / 127, None, 1]
