"""Scores agree with the shared scorer to the last digit, and the grouping of labels is what scores.py states."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from ghostnote.models import evaluation
from ghostnote.runtime.vocabulary import CODES

pytest.importorskip("mir_eval")

GOLDENS = Path(__file__).parent / "goldens"
LABELS = GOLDENS / "labels"
CASES = json.loads((GOLDENS / "scores.json").read_text())


def score_folders(estimates: Path, references: Path, golden: dict) -> dict:
    """Our score of two folders for the window and offset of a golden."""
    return evaluation.score(
        evaluation.read_folder(estimates),
        evaluation.read_folder(references),
        window_s=golden["window_s"],
        offset_s=golden["offset_s"],
    )


@pytest.mark.parametrize("golden", CASES, ids=lambda g: f"{g['window_s']}{g['offset_s']:+}")
def test_agrees_with_goldens_to_the_last_digit(golden: dict) -> None:
    assert score_folders(LABELS / "estimates", LABELS / "references", golden) == golden


@pytest.mark.data
def test_agrees_with_the_shared_scorer_itself(shared: Path) -> None:
    scorer = runpy.run_path(str(shared / "tools" / "score.py"))["score"]
    real = shared / "data" / "mdb-dev"
    folders = [(LABELS / "estimates", LABELS / "references"), (LABELS / "references", LABELS / "references")]
    folders += [(real / "peer_adtof" / source, real / "annotations") for source in ("drums", "mix") if real.is_dir()]
    for estimates, references in folders:
        for window_s in (0.05, 0.025):
            expected = scorer(estimates, references, window_s, 0.0, None)
            assert score_folders(estimates, references, expected) == expected


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
    references = evaluation.read_folder(LABELS / "references")
    for group in ("five", "five-adtof", "three"):
        assert evaluation.pooled_f(references, references, window_s=0.001, group=group) == 1.0


def test_read_folder_takes_only_the_named_tracks(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("0.5\t36\n\nlonely\n")
    assert evaluation.read_folder(tmp_path, ["b"]) == {"b": [(0.5, "36")]}


@pytest.mark.parametrize("content", [b"one\t36\n", b"\xff\xfe\x00\x01"])
def test_a_file_that_holds_no_labels_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(evaluation.LabelError, match=r"bad\.txt"):
        evaluation.read_folder(tmp_path)
