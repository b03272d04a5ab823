"""Each figure by itself: hand-made examples and the laws that hold for any hits."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from evaluation_examples import law, notes, tracks
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ghostnote.models.evaluation import class_names, pictures, score, track_counts
from ghostnote.models.evaluation.bootstrap import paired_bootstrap
from ghostnote.models.evaluation.confusion import FAMILIES, confusion
from ghostnote.models.evaluation.curves import THRESHOLDS, curve_of, rates_of
from ghostnote.models.evaluation.notes import Note, labels_of, matched
from ghostnote.models.evaluation.timing import emission_times, histogram, timing_errors
from ghostnote.models.evaluation.velocity import velocity_errors, velocity_f

pytest.importorskip("mir_eval")

NAMES = class_names("five")
DRAWS = 200


def labels(sets: dict) -> dict:
    return {track: labels_of(some) for track, some in sets.items()}


# Counts and curves


@law
@given(tracks, tracks)
def test_counts_are_those_of_the_score(references: dict, estimates: dict) -> None:
    result = score(labels(estimates), labels(references))
    counts = track_counts(labels(estimates), labels(references)).sum(0)
    expected = [[row[key] for key in "PRF"] for row in result["classes"].values()]
    assert rates_of(counts) == pytest.approx(np.array(expected))
    assert rates_of(counts.sum(0))[2] == pytest.approx(result["micro"]["F"])


def test_a_curve_with_its_points() -> None:
    counts = np.array([[[8, 16, 10]], [[6, 6, 10]], [[0, 0, 10]]])
    row = curve_of(counts, [0.1, 0.5, 0.9], ["BD"], counts[1])["classes"]["BD"]
    assert row["precision"] == [0.5, 1.0, None]
    assert row["recall"] == [0.8, 0.6, 0.0]
    assert row["operating_point"] == {"P": 1.0, "R": 0.6, "F": 0.75}
    assert row["best"] == {"threshold": 0.5, "F": 0.75}


def test_a_class_without_references_has_no_curve() -> None:
    counts = np.array([[[1, 1, 1], [0, 3, 0]]])
    assert list(curve_of(counts, [0.5], ["BD", "SD"], counts[0])["classes"]) == ["BD", "pooled"]


def test_thresholds_rise() -> None:
    assert list(THRESHOLDS) == sorted(set(THRESHOLDS))
    assert 0 < THRESHOLDS[0] < 0.05 < 0.95 < THRESHOLDS[-1] < 1


# Bootstrap

_counts = arrays.arrays(int, (6, 2, 3), elements=st.integers(0, 20)).map(
    lambda c: np.stack([np.minimum(c[..., 0], np.minimum(c[..., 1], c[..., 2])), c[..., 1], c[..., 2]], axis=-1)
)


@law
@given(_counts)
def test_a_system_does_not_differ_from_itself(counts: np.ndarray) -> None:
    for row in paired_bootstrap(counts, counts, ["BD", "SD"], draws=DRAWS)["classes"].values():
        assert (row["difference"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)


@law
@given(_counts, _counts)
def test_exchanging_the_systems_turns_the_sign(ours: np.ndarray, theirs: np.ndarray) -> None:
    references = ours[..., 2]  # the same for both
    theirs = np.stack([np.minimum(theirs[..., 0], references), theirs[..., 1], references], axis=-1)
    one, other = (paired_bootstrap(*pair, ["BD", "SD"], draws=DRAWS) for pair in ((ours, theirs), (theirs, ours)))
    for name, row in one["classes"].items():
        turned = other["classes"][name]
        assert row["difference"] == -turned["difference"]
        assert row["low"] == pytest.approx(-turned["high"])
        assert row["p"] == turned["p"]
        assert 0 < row["p"] <= 1


def test_better_on_every_track_is_better() -> None:
    references = np.arange(20, 32)
    ours = np.stack([references - 1, references, references], axis=-1)[:, None]
    theirs = np.stack([references - 8, references, references], axis=-1)[:, None]
    row = paired_bootstrap(ours, theirs, ["BD"])["classes"]["pooled"]
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert row["p"] < 0.001
    assert paired_bootstrap(ours, theirs, ["BD"])["classes"]["pooled"] == row  # seeded


@pytest.mark.parametrize("tracks", [2, 3, 4, 6, 14])
def test_few_tracks_prove_little(tracks: int) -> None:
    """Of systems that are alike one in twenty is told to differ, and no sooner than a test of signs could tell."""
    rng = np.random.default_rng(tracks)

    def some() -> np.ndarray:
        found = rng.integers(20, 81, (tracks, 1))
        return np.stack([found, np.full_like(found, 90), np.full_like(found, 90)], axis=-1)

    rows = [paired_bootstrap(some(), some(), ["BD"], draws=1024)["classes"]["pooled"] for _ in range(200)]
    assert np.mean([row["p"] < 0.05 for row in rows]) <= 0.1
    assert np.mean([row["low"] <= 0 <= row["high"] for row in rows]) >= 0.9
    assert min(row["p"] for row in rows) >= min(2.0 ** (1 - tracks), 1)
    ahead, behind = (np.full((tracks, 1, 3), 90) - [[[missed, 0, 0]]] for missed in (5, 30))
    assert paired_bootstrap(ahead, behind, ["BD"])["classes"]["pooled"]["p"] <= max(2.0 ** (1 - tracks), 0.001)


def test_one_track_tells_nothing_of_others() -> None:
    row = paired_bootstrap(np.array([[[9, 10, 10]]]), np.array([[[5, 10, 10]]]), ["BD"])["classes"]["pooled"]
    assert row["difference"] == pytest.approx(0.4)
    assert (row["low"], row["high"], row["p"]) == (None, None, None)


@law
@given(tracks, tracks, tracks)
def test_the_difference_is_that_of_the_scores(references: dict, ours: dict, theirs: dict) -> None:
    counts = [track_counts(labels(some), labels(references)) for some in (ours, theirs)]
    f = [score(labels(some), labels(references))["micro"]["F"] for some in (ours, theirs)]
    row = paired_bootstrap(*counts, NAMES, draws=DRAWS)["classes"]["pooled"]
    assert row["difference"] == pytest.approx(f[0] - f[1])


# Velocity


def pairs_of(values: list[tuple[float, float]], name: str = "BD") -> list[tuple[str, Note, Note]]:
    return [(name, Note(float(i), name, r), Note(float(i), name, e)) for i, (r, e) in enumerate(values)]


def test_velocity_of_a_hand_made_example() -> None:
    pairs = pairs_of([(0.2, 0.3), (0.4, 0.5), (0.8, 0.9)]) + pairs_of([(0.5, 0.4)], "SD")
    rows = velocity_errors(pairs, NAMES)["classes"]
    assert rows["BD"] == pytest.approx({"n": 3, "mean_abs": 0.1, "mean": 0.1, "r": 1.0})
    assert rows["SD"] == {"n": 1, "mean_abs": pytest.approx(0.1), "mean": pytest.approx(-0.1), "r": None}
    assert rows["pooled"]["n"] == 4
    assert "TT" not in rows


def test_a_rare_class_keeps_its_points_where_there_are_too_many() -> None:
    pytest.importorskip("matplotlib")
    found = velocity_errors(pairs_of([(0.5, 0.4)] * 3301) + pairs_of([(0.7, 0.6)], "CY"), NAMES)
    names = [name for name, *_ in found["points"]]
    assert (len(names), names.count("CY")) == (1652, 1)
    assert "CY: r -, n 1" in pictures.velocity(found)


@pytest.mark.parametrize("order", [1, -1])
def test_of_strokes_of_a_group_at_one_time_the_loudest_counts(order: int) -> None:
    toms = [Note(1.0, "HT", 0.2), Note(1.0, "LT", 0.9)][::order]
    others = [Note(1.5, "SD", 0.5), Note(2.0, "BD", 0.1)]
    heard = [Note(1.0, "HT", 0.9), *others]
    pairs = matched([*toms, *others], heard, ("BD", "SD", "TT"), "five", 0.05)
    assert velocity_errors(pairs, ("BD", "SD", "TT"))["classes"]["pooled"]["mean_abs"] == 0
    assert velocity_f({"a": heard}, {"a": [*toms, *others]}, ("BD", "SD", "TT"), "five")["F"] == 1


def test_velocities_that_are_not_known_do_not_count() -> None:
    pairs = [("BD", Note(0, "BD", None), Note(0, "BD", 0.5)), ("BD", Note(1, "BD", 0.5), Note(1, "BD", None))]
    assert velocity_errors(pairs, NAMES)["classes"] == {"pooled": {"n": 0, "mean_abs": None, "mean": None, "r": None}}


@law
@given(notes)
def test_velocities_in_proportion_are_right_for_mir_eval(reference: list[Note]) -> None:
    scaled = [note._replace(velocity=0.2 + 0.5 * note.velocity) for note in reference]
    counted = {(note.time_s, note.label) for note in reference}
    result = velocity_f({"t": scaled}, {"t": reference}, class_names("all"), "all")
    assert result["tp"] + result["fn"] == len(counted)
    near = [(a, b) for a, b in combinations(reference, 2) if a.label == b.label and abs(a.time_s - b.time_s) <= 0.1]
    if not near:  # of hits that may be taken for each other, which velocity meets which is open
        assert result["fp"] == result["fn"] == 0


@law
@given(tracks, tracks)
def test_f_with_velocity_is_at_most_f(references: dict, estimates: dict) -> None:
    onset = score(labels(estimates), labels(references))["micro"]
    result = velocity_f(estimates, references, NAMES, "five")
    assert result["tp"] <= onset["tp"]
    assert result["tp"] + result["fn"] == onset["tp"] + onset["fn"]
    assert result["tp"] + result["fp"] == onset["tp"] + onset["fp"]


# Timing and emission


@law
@given(st.lists(st.floats(-1e3, 1e3)), st.floats(-100, 0), st.floats(1, 100))
def test_a_histogram_holds_every_value(values: list[float], low: float, span: float) -> None:
    found = histogram(np.array(values, float), low, low + span, 2.0)
    assert sum(found["counts"]) == len(values)
    assert found["low"] + found["width"] * len(found["counts"]) >= low + span - 1e-6


def test_timing_of_a_hand_made_example() -> None:
    pairs = [("BD", Note(1.0, "BD"), Note(1.0 + ms / 1000, "BD")) for ms in (-10, 0, 4)]
    found = timing_errors(pairs, 0.05)
    assert (found["n"], found["mean_abs_ms"], found["median_ms"]) == (3, pytest.approx(14 / 3), pytest.approx(0))
    assert sum(found["histogram"]["counts"]) == 3
    assert timing_errors([], 0.05) == {"n": 0}


def test_late_hits_are_counted_from_both_times() -> None:
    heard = [(1.0, 1.01, 1.1), (2.0, 1.99, 2.101), (3.0, 3.0, 3.1)]  # attack, reported time, moment of the report
    pairs = [("BD", Note(a, "BD"), Note(t, "BD", None, at)) for a, t, at in heard]
    wrong = Note(5.0, "SD", None, 5.3)  # matches nothing, and is late all the same
    found = emission_times([*(e for *_, e in pairs), wrong], pairs, 100)
    assert (found["from_reference"]["late"], found["from_reference"]["n"]) == (1, 3)
    assert (found["from_report"]["late"], found["from_report"]["n"]) == (2, 4)
    assert found["from_reference"]["latest_ms"] == pytest.approx(101)
    assert emission_times([], [], 100)["from_report"]["late"] == 0


# Confusions


def test_confusion_of_a_hand_made_example() -> None:
    reference = [Note(1.0, "CHH"), Note(2.0, "OHH"), Note(3.0, "PHH"), Note(4.0, "SD")]
    estimate = [Note(1.01, "OHH"), Note(2.0, "OHH"), Note(5.0, "CHH"), Note(4.0, "CHH")]
    table = confusion({"t": estimate}, {"t": reference}, FAMILIES["hi-hat"])
    assert table["counts"] == [[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0], [2, 0, 0, 0]]


def test_two_cymbals_at_once_are_not_crossed() -> None:
    both = [Note(1.0, "RD"), Note(1.0, "CRC")]
    assert np.trace(confusion({"t": both}, {"t": both}, FAMILIES["cymbals"])["counts"]) == 2


@law
@given(tracks, tracks)
def test_a_confusion_table_counts_every_hit_once(references: dict, estimates: dict) -> None:
    classes = score(labels(estimates), labels(references), group="all")["classes"]
    for family in FAMILIES.values():
        counts = np.array(confusion(estimates, references, family)["counts"])
        for i, code in enumerate(family):
            row = classes[code]
            assert counts[i, i] == row["tp"]
            assert counts[i].sum() == row["tp"] + row["fn"]
            assert counts[:, i].sum() == row["tp"] + row["fp"]
