"""The engine's figures and the whole report, with the tiny model on drum-like sounds."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import write_tiny_checkpoint

from ghostnote.export.signals import drum_like
from ghostnote.models.evaluation import class_names, renders
from ghostnote.models.evaluation.analysis import Rules, Track, analyse, gap, groups_for, listen
from ghostnote.models.evaluation.command import evaluate
from ghostnote.models.evaluation.hearing import PIECE_S, at_threshold, hear, notes_at, stream
from ghostnote.models.evaluation.notes import Note, in_order, labels_of, note_of
from ghostnote.models.torch_engine import TorchEngine
from ghostnote.runtime.errors import InputError, UsageError
from ghostnote.runtime.job import transcribe_file

pytest.importorskip("mir_eval")
pytest.importorskip("matplotlib")

DELAY = 3
PCM = drum_like(1, 2.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`audio` of two recordings, `labels` of fine classes with velocities, `other` and `coarse` estimates, a model."""
    folder = tmp_path_factory.mktemp("evaluation")
    for name in ("audio", "labels", "other", "coarse"):
        (folder / name).mkdir()
    for seed, name in enumerate(("one", "two")):
        soundfile.write(folder / "audio" / f"{name}.wav", drum_like(seed, 1.5), 44100)
        (folder / "labels" / f"{name}.txt").write_text("0.1\tBD\t.5\n0.5\tSD\t.4\n0.7\tCHH\t.9\n1.0\tCRC\t.8\n")
        (folder / "other" / f"{name}.txt").write_text("0.11\t36\n0.7\t42\n")
        (folder / "coarse" / f"{name}.txt").write_text("0.7\tHH\n")
    write_tiny_checkpoint(folder / "tiny.pt")
    return folder


# What an engine hears


def test_notes_are_what_a_user_gets(tiny_torch: TorchEngine, folder: Path) -> None:
    recording = folder / "audio" / "one.wav"
    manifest = tiny_torch.manifest
    hits = transcribe_file(recording, tiny_torch, DELAY)
    found = notes_at(hear(tiny_torch, recording, DELAY), manifest, DELAY)
    assert found == in_order(note_of(hit) for hit in hits)
    assert len(found) > 3


def test_a_threshold_for_everything(tiny_torch: TorchEngine) -> None:
    """The tiny model has one threshold: decoding at that one changes nothing, at a higher one something."""
    heard = hear(tiny_torch, PCM, DELAY)
    same, higher, none = (
        notes_at(heard, at_threshold(tiny_torch.manifest, t), DELAY)
        for t in (tiny_torch.manifest.decoder.thresholds[DELAY][0], 0.6, 1.0)
    )
    assert same == notes_at(heard, tiny_torch.manifest, DELAY)
    assert len(higher) < len(same)
    assert none == []


def test_live_reports_are_the_same_hits_in_time(tiny_torch: TorchEngine) -> None:
    live = stream(tiny_torch, PCM, DELAY)
    whole = notes_at(hear(tiny_torch, PCM, DELAY), tiny_torch.manifest, DELAY)
    assert [(n.label, round(n.time_s, 4)) for n in live] == [(n.label, round(n.time_s, 4)) for n in whole]
    latency_s = tiny_torch.manifest.total_latency_ms(DELAY) / 1000
    for note in live:
        assert note.reported_s is not None
        assert 0 < note.reported_s - note.time_s <= latency_s + 1e-5
        assert note.reported_s / PIECE_S == pytest.approx(round(note.reported_s / PIECE_S))


def test_listening_agrees_with_the_scores(tiny_torch: TorchEngine) -> None:
    whole = notes_at(hear(tiny_torch, PCM, DELAY), tiny_torch.manifest, DELAY)
    track = Track("t", PCM, whole[::2])
    rules = Rules(("five", "all"))
    found = listen(tiny_torch, [track], DELAY, rules, thorough=True)
    analysis = analyse(found.estimates, found.references, rules)
    result = analysis["scores"]["five"][0]
    assert found.estimates["t"] == whole
    for name, row in found.figures["curves"]["five"]["classes"].items():
        expected = result["micro"] if name == "pooled" else result["classes"][name]
        assert row["operating_point"] == pytest.approx({key: expected[key] for key in "PRF"})
    rows = found.figures["delays"]["rows"]
    assert [row["total_latency_ms"] for row in rows] == [40, 60, 80, 100, 150, 250]
    assert rows[DELAY]["windows"][0]["F"] == result["micro"]["F"]
    best, limited = (found.figures["delays"][key]["windows"][0]["F"] for key in ("best", "best_within_limit"))
    assert best == max(row["windows"][0]["F"] for row in rows) >= limited
    emission = found.figures["emission"]
    assert emission["from_reference"]["n"] == result["micro"]["tp"]
    assert emission["from_report"]["n"] == len(whole)
    assert emission["from_report"]["late"] == 0


def test_brief_listening_gives_the_same_hits(tiny_torch: TorchEngine) -> None:
    track, rules = Track("t", PCM, [Note(0.1, "BD")]), Rules()
    brief, thorough = (listen(tiny_torch, [track], DELAY, rules, thorough=t) for t in (False, True))
    assert brief.estimates == thorough.estimates
    assert brief.figures == {}


def test_ignored_hits_are_neither_missed_nor_falsely_found(tiny_torch: TorchEngine) -> None:
    whole = notes_at(hear(tiny_torch, PCM, DELAY), tiny_torch.manifest, DELAY)
    track = Track("t", PCM, whole[:2], ignored=whole[2:])
    rules = Rules(("all",))
    found = listen(tiny_torch, [track], DELAY, rules, thorough=False)
    counts = analyse(found.estimates, found.references, rules)["scores"]["all"][0]["micro"]
    assert (counts["tp"], counts["fp"], counts["fn"]) == (2, 0, 0)


# Rules


def test_classes_that_a_corpus_does_not_label_are_masked() -> None:
    assert class_names("five", ["BD", "SD", "CHH"]) == ("BD", "SD", "HH")
    assert class_names("all", ["BD", "HH"]) == ("BD", "CHH", "PHH", "OHH")
    assert class_names("all", ["BD", "HH", "CHH", "OHH"]) == ("BD", "CHH", "OHH"), "pedal strokes are filed elsewhere"
    assert class_names("five-adtof", ["SS"]) == ("SD",)
    with pytest.raises(UsageError, match="XX"):
        class_names("five", ["XX"])
    with pytest.raises(UsageError, match="nothing to score"):
        class_names("five", ["SS"])


def test_a_masked_class_counts_on_neither_side() -> None:
    references, estimates = {"t": [Note(1.0, "BD")]}, {"t": [Note(1.0, "BD"), Note(1.0, "CRC")]}
    f = [
        analyse(estimates, references, Rules(("five",), labelled=labelled))["scores"]["five"][0]["micro"]["F"]
        for labelled in ((), ("BD", "SD"))
    ]
    assert f == [pytest.approx(2 / 3), 1.0]


def test_all_classes_only_where_labels_are_fine() -> None:
    assert groups_for("five", {"t": [Note(1.0, "CHH")]}) == ("five", "all")
    assert groups_for("five", {"t": [Note(1.0, "HH")]}) == ("five",)
    assert groups_for("five", {"t": [Note(1.0, "CHH")]}, {"t": [Note(1.0, "HH")]}) == ("five",)
    coarse = analyse({"t": [Note(1.0, "CHH")]}, {"t": [Note(1.0, "HH")]}, Rules(("five",)))
    assert coarse["confusion"] is None
    assert coarse["frequent"] is None


def test_frequent_classes() -> None:
    references = {"t": [Note(i, "BD") for i in range(20)] + [Note(i, "SD") for i in range(19)]}
    frequent = analyse({"t": references["t"][:10]}, references, Rules(("five", "all")))["frequent"]
    assert frequent["classes"] == ["BD"]
    assert (frequent["tp"], frequent["fn"]) == (10, 10)


def test_the_gap_lines_up_what_both_sides_have() -> None:
    real, rendered = (
        analyse({"t": estimates}, {"t": [Note(1.0, "BD", 0.5), Note(2.0, "SD", 0.5)]}, Rules(("five", "all")))
        for estimates in ([Note(1.0, "BD", 0.5)], [Note(1.0, "BD", 0.5), Note(2.0, "SD", 0.7)])
    )
    rows = {row["figure"]: row for row in gap(real, rendered)}
    assert (rows["F of SD"]["recordings"], rows["F of SD"]["renders"]) == (0, 1)
    assert rows["velocity, mean absolute error"]["renders"] == pytest.approx(0.1)
    assert "velocity, r" not in rows


def test_the_gap_is_one_of_the_same_classes() -> None:
    notes = {"t": [Note(i, "BD") for i in range(20)]}
    more = {"t": notes["t"] + [Note(i, "SD") for i in range(20)]}
    real, rendered = (analyse(each, each, Rules(("five", "all"))) for each in (notes, more))
    assert "pooled F, frequent classes of 18" not in {row["figure"] for row in gap(real, rendered)}
    assert "pooled F, frequent classes of 18" in {row["figure"] for row in gap(real, real)}


def test_no_class_with_enough_hits_is_no_figure() -> None:
    notes = {"t": [Note(1.0, "BD")]}
    assert analyse(notes, notes, Rules(("five", "all")))["frequent"] is None


# The report


class _Page(HTMLParser):
    """Ids, and whatever a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.pictures += tag == "svg"
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        links = [v for k, v in attrs if k in ("src", "href", "xlink:href") and v and not v.startswith("#")]
        self.loads += [tag] * (tag in ("script", "link", "img", "iframe")) + links


@pytest.fixture(scope="module")
def written(folder: Path) -> tuple[Path, Path]:
    """Report and JSON of a full evaluation."""
    report, numbers = folder / "out" / "report.html", folder / "out" / "numbers.json"
    evaluate(
        folder / "audio",
        folder / "labels",
        engine=folder / "tiny.pt",
        latency_ms=100,
        against=folder / "other",
        report=report,
        json_file=numbers,
    )
    return report, numbers


def test_the_report_is_one_page_with_all_pictures(written: tuple[Path, Path]) -> None:
    text = written[0].read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.loads == []
    assert page.pictures >= 7
    assert len(page.ids) == len(set(page.ids))
    titles = re.findall(r"<h[23]>([^<]+)<", text)
    expected = {"Scores", "F against latency", "Precision and recall", "Timing error", "Time until the report"}
    assert expected | {"Velocity", "Confusions", "Against a second system"} <= set(titles)


def test_the_json_holds_every_figure(written: tuple[Path, Path]) -> None:
    numbers = json.loads(written[1].read_text(), parse_constant=pytest.fail)  # no NaN
    assert {"scores", "curves", "delays", "emission", "timing", "velocity", "confusion"} <= set(numbers["recordings"])
    assert numbers["results"] == numbers["recordings"]["scores"]["five"]
    assert [row["window_s"] for row in numbers["against"]["results"]] == [0.05, 0.025]


def test_the_same_numbers_give_the_same_page(written: tuple[Path, Path]) -> None:
    from ghostnote.models.evaluation.report import page

    assert page(json.loads(written[1].read_text())) == written[0].read_text(encoding="utf-8")


def test_a_report_of_estimates_has_no_figures_of_the_engine(folder: Path, tmp_path: Path) -> None:
    evaluate(folder / "other", folder / "labels", report=tmp_path / "r.html", against=folder / "labels")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Timing error" in text
    assert "F against latency" not in text


def test_velocities_from_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for name in ("one", "two"):
        (tmp_path / "labels" / f"{name}.txt").write_text("0.1\tBD\n")
    out = tmp_path / "n.json"
    evaluate(folder / "labels", tmp_path / "labels", velocities=folder / "labels", json_file=out)
    rows = json.loads(out.read_text())["recordings"]["velocity"]["classes"]
    assert rows["pooled"]["mean_abs"] == 0
    assert rows["pooled"]["n"] == 8
    evaluate(folder / "labels", tmp_path / "labels", json_file=out)
    assert json.loads(out.read_text())["recordings"]["velocity"] is None


def test_renders_are_scored_like_recordings(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(renders, "TOKENS", 64)
    monkeypatch.setattr(renders, "CLIPS_PER_BATCH", 1)
    out = tmp_path / "n.json"
    evaluate(engine=folder / "tiny.pt", renders=1, json_file=out)
    numbers = json.loads(out.read_text())
    assert numbers["renders"]["tracks"] == 1
    assert set(numbers["renders"]["scores"]) == {"five", "all"}
    assert "1 renders" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, UsageError, "nothing to score"),
        ({"audio_dir": "audio"}, UsageError, "nothing to score"),
        ({"audio_dir": "other", "labels_dir": "labels", "renders": 4}, UsageError, "renders"),
        ({"audio_dir": "other", "labels_dir": "labels", "labelled": "BD,drum"}, UsageError, "drum"),
        ({"audio_dir": "other", "labels_dir": "labels", "against": "audio"}, InputError, "one, two"),
        ({"audio_dir": "other", "labels_dir": "labels", "velocities": "other"}, InputError, "other: no velocities"),
        (
            {"audio_dir": "audio", "labels_dir": "labels", "against": "coarse", "classes": "all"},
            InputError,
            "coarse, one: label 'HH' is too coarse for 18 classes",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, options: dict, error: type[Exception], message: str) -> None:
    paths = {
        key: folder / value if key in ("audio_dir", "labels_dir", "against", "velocities") else value
        for key, value in options.items()
    }
    with pytest.raises(error, match=message):
        evaluate(**paths)


def test_estimates_keep_their_velocity(folder: Path, tmp_path: Path) -> None:
    evaluate(folder / "labels", folder / "labels", estimates=tmp_path / "out")
    from ghostnote.models.evaluation.notes import read_note_folder

    again, before = read_note_folder(tmp_path / "out"), read_note_folder(folder / "labels")
    assert {t: labels_of(n) for t, n in again.items()} == {t: labels_of(n) for t, n in before.items()}
    assert np.allclose([n.velocity for n in again["one"]], [n.velocity for n in before["one"]])
