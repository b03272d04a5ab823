"""Published corpora in `ghostnote evaluate`: what is scored, and that classes without labels do not count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from corpus_folders import MAKERS, write_text

from ghostnote.models.evaluation.command import evaluate
from ghostnote.models.evaluation.corpus_tracks import corpus_tracks
from ghostnote.models.evaluation.notes import Note
from ghostnote.runtime.errors import InputError, UsageError


@pytest.fixture
def idmt(tmp_path: Path) -> Path:
    return MAKERS["idmt"](tmp_path / "idmt")


def test_tracks_have_references_recordings_and_a_mask(idmt: Path) -> None:
    found = corpus_tracks(f"idmt={idmt}")
    assert list(found.references) == list(found.audio) == ["RealDrum01_00", "WaveDrum02_60"]
    assert found.references["RealDrum01_00"] == [Note(0.0, "BD"), Note(0.1, "HH"), Note(0.1, "SD")]
    assert found.audio["RealDrum01_00"] == idmt / "audio" / "RealDrum01_00#MIX.wav"
    assert found.labelled == ("BD", "HH", "SD")
    assert not found.adtof
    assert list(corpus_tracks(f"idmt={idmt}", split="WaveDrum").references) == ["WaveDrum02_60"]
    assert list(corpus_tracks(f"idmt={idmt}", names=["RealDrum01_00"]).references) == ["RealDrum01_00"]


def test_mixes_of_several_files_are_samples(tmp_path: Path) -> None:
    found = corpus_tracks(f"enst={MAKERS['enst'](tmp_path)}", kind="mix")
    (samples,) = found.audio.values()
    assert isinstance(samples, np.ndarray)
    assert samples.shape == (8820,)
    assert samples.mean() == pytest.approx(0.25, abs=1e-3)


def test_a_mask_holds_what_all_tracks_label(tmp_path: Path) -> None:
    folder = MAKERS["mdb"](tmp_path)
    assert "SS" in corpus_tracks(f"mdb={folder}").labelled
    (folder / "MDB Drums/annotations/subclass/MusicDelta_Rock_subclass.txt").unlink()
    assert corpus_tracks(f"mdb={folder}").labelled == ("BD", "CY", "HH", "SD", "TT")


def test_what_is_not_there_is_said(idmt: Path) -> None:
    with pytest.raises(UsageError, match="KIND=FOLDER"):
        corpus_tracks("idmt")
    with pytest.raises(InputError, match=r"no recording has 'mix'; there is drums"):
        corpus_tracks(f"idmt={idmt}", kind="mix")
    with pytest.raises(InputError, match="no drums of Nobody"):
        corpus_tracks(f"idmt={idmt}", names=["Nobody"])


def write_estimates(folder: Path, labels: str) -> Path:
    for name in ("RealDrum01_00", "WaveDrum02_60"):
        write_text(folder / f"{name}.txt", labels)
    return folder


def test_coarse_labels_score_and_unlabelled_classes_do_not(idmt: Path, tmp_path: Path) -> None:
    pytest.importorskip("mir_eval")
    # An open hat is a hi-hat; the crash, the tom and the clap are of classes that the corpus does not label.
    estimates = write_estimates(tmp_path / "est", "0.0\tBD\n0.1\tSD\n0.1\tOHH\n0.15\tCRC\n0.15\tMT\n0.15\tCLP\n")
    out = tmp_path / "scores.json"
    evaluate(estimates, corpus=f"idmt={idmt}", json_file=out)
    scores = json.loads(out.read_text())
    first = scores["results"][0]
    assert first["micro"]["F"] == 1.0
    assert (first["micro"]["tp"], first["micro"]["fp"]) == (6, 0)
    assert set(first["classes"]) == {"BD", "SD", "HH"}


def test_adtof_is_scored_by_its_own_convention(tmp_path: Path) -> None:
    pytest.importorskip("mir_eval")
    folder, out = MAKERS["adtof"](tmp_path / "adtof"), tmp_path / "scores.json"
    write_text(tmp_path / "est" / "A - One.txt", "0.01\tBD\n0.02\tSS\n0.03\tPHH\n")
    evaluate(tmp_path / "est", corpus=f"adtof={folder}", sound="mix", json_file=out)
    scores = json.loads(out.read_text())
    assert scores["classes"] == "five-adtof"
    assert scores["results"][0]["micro"]["F"] == 1.0


def test_recordings_of_a_corpus_are_transcribed(idmt: Path, tmp_path: Path, tiny_onnx: Path) -> None:
    pytest.importorskip("mir_eval")
    out = tmp_path / "scores.json"
    evaluate(corpus=f"idmt={idmt}", split="RealDrum", engine=tiny_onnx, latency_ms=100, json_file=out)
    scores = json.loads(out.read_text())
    assert list(scores["results"][0]["tracks"]) == ["RealDrum01_00"]
    assert scores["total_latency_ms"] == 100
    assert scores["corpus"] == f"idmt={idmt}"


def test_a_corpus_takes_the_place_of_labels(idmt: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--corpus"):
        evaluate(tmp_path, tmp_path, corpus=f"idmt={idmt}")
    with pytest.raises(UsageError, match="--split"):
        evaluate(tmp_path, tmp_path, split="test")
