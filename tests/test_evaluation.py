"""Scores agree with the shared scorer to the last digit, and the grouping of labels is what scores.py states."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from evaluation_examples import as_ours

from ghostnote.models import evaluation
from ghostnote.models.evaluation.notes import labels_of, read_note_folder
from ghostnote.runtime.vocabulary import CODES

pytest.importorskip("mir_eval")

GOLDENS = Path(__file__).parent / "goldens"
LABELS = GOLDENS / "labels"
CASES = json.loads((GOLDENS / "scores.json").read_text())


def read_folder(folder: Path, offset_s: float = 0.0) -> dict:
    """The labels of every track in a folder, moved."""
    tracks = read_note_folder(folder).items()
    return {name: [(time_s + offset_s, label) for time_s, label in labels_of(notes)] for name, notes in tracks}


def score_folders(estimates: Path, references: Path, golden: dict) -> dict:
    """Our score of two folders for the window and offset of a golden."""
    moved = read_folder(estimates, golden["offset_s"])
    return evaluation.score(moved, read_folder(references), window_s=golden["window_s"])


@pytest.mark.parametrize("golden", CASES, ids=lambda g: f"{g['window_s']}{g['offset_s']:+}")
def test_agrees_with_goldens_to_the_last_digit(golden: dict) -> None:
    assert score_folders(LABELS / "estimates", LABELS / "references", golden) == as_ours(golden)


@pytest.mark.data
def test_agrees_with_the_shared_scorer_itself(shared: Path) -> None:
    scorer = runpy.run_path(str(shared / "tools" / "score.py"))["score"]
    real = shared / "data" / "mdb-dev"
    folders = [(LABELS / "estimates", LABELS / "references"), (LABELS / "references", LABELS / "references")]
    folders += [(real / "peer_adtof" / source, real / "annotations") for source in ("drums", "mix") if real.is_dir()]
    for estimates, references in folders:
        for window_s in (0.05, 0.025):
            expected = scorer(estimates, references, window_s, 0.0, None)
            assert score_folders(estimates, references, expected) == as_ours(expected)


@pytest.mark.parametrize(
    ("label", "five", "adtof", "three", "fine"),
    [
        ("36", "BD", "BD", "BD", "BD"),
        ("KD", "BD", "BD", "BD", "BD"),
        ("SDG", "SD", "SD", "SD", "SD"),
        ("SS", None, "SD", None, "SS"),
        ("39", None, "SD", None, "CLP"),
        ("LFT", "TT", "TT", None, "LT"),
        ("22", "HH", "HH", "HH", "CHH"),
        ("rb", "CY", "CY", None, "RB"),
        ("OT", None, None, None, None),
        ("60", None, None, None, None),
        ("CL", None, None, None, "CL"),
    ],
)
def test_a_label_belongs_to(label: str, five: str | None, adtof: str | None, three: str | None, fine: str) -> None:
    groups = ("five", "five-adtof", "three", "all")
    assert tuple(evaluation.reduce_label(label, group) for group in groups) == (five, adtof, three, fine)


def test_every_code_is_its_own_class_of_all() -> None:
    assert [evaluation.reduce_label(code, "all") for code in CODES] == list(CODES)


@pytest.mark.parametrize("label", ["TT", "HH", "CY"])
def test_coarse_labels_cannot_be_scored_as_18_classes(label: str) -> None:
    assert evaluation.reduce_label(label, "five") == label
    with pytest.raises(evaluation.LabelError, match="too coarse"):
        evaluation.reduce_label(label, "all")


@pytest.mark.parametrize("label", ["XX", "nan", "inf", ""])
def test_unknown_labels_are_refused(label: str) -> None:
    with pytest.raises(evaluation.LabelError, match="unknown label"):
        evaluation.reduce_label(label, "five")


def test_missing_estimates_and_references_are_named() -> None:
    with pytest.raises(evaluation.LabelError, match="no estimate for: a, b"):
        evaluation.score({}, {"a": [], "b": []})
    with pytest.raises(evaluation.LabelError, match="no reference"):
        evaluation.score({}, {})


def test_duplicates_count_once_and_each_reference_is_matched_once() -> None:
    reference = {"t": [(1.0, "BD"), (1.0, "KD"), (2.0, "38")]}
    micro = evaluation.score({"t": [(1.01, "36"), (1.01, "35"), (1.02, "BD"), (3.0, "SD")]}, reference)["micro"]
    assert (micro["tp"], micro["fp"], micro["fn"]) == (1, 2, 1)
    assert micro["mean_abs_ms"] == pytest.approx(10) or micro["mean_abs_ms"] == pytest.approx(20)


def test_perfect_scores_for_the_references_themselves() -> None:
    references = read_folder(LABELS / "references")
    for group in ("five", "five-adtof", "three"):
        assert evaluation.score(references, references, window_s=0.001, group=group)["micro"]["F"] == 1.0


def test_lines_without_a_label_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0.5\t36\n\nlonely\n")
    assert read_folder(tmp_path) == {"a": [(0.5, "36")]}


def test_a_track_without_hits_is_no_part_of_the_mean() -> None:
    """Rightly silent is neither a failure nor a success; a false hit there is a failure."""
    references = {"played": [(1.0, "BD")], "silent": []}
    assert evaluation.score(references, references)["mean_track_F"] == 1.0
    wrong = {**references, "silent": [(1.0, "SD")]}
    assert evaluation.score(wrong, references)["mean_track_F"] == 0.5
    assert evaluation.score({"silent": []}, {"silent": []})["mean_track_F"] == 0.0


@pytest.mark.parametrize("content", [b"one\t36\n", b"\xff\xfe\x00\x01"])
def test_a_file_that_holds_no_labels_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(evaluation.LabelError, match=r"bad\.txt"):
        read_folder(tmp_path)
