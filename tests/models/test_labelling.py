"""A model's labels: drums brought forward without being moved, labels beside recordings, and what of them is learnt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from corpus_folders import MAKERS, write_audio, write_text
from tiny import tiny_checkpoint, tokens_of_audio, write_tiny_checkpoint
from typer.testing import CliRunner

from ghostnote import cli
from ghostnote.models.config import PRESETS
from ghostnote.models.corpora import Label, open_corpus
from ghostnote.models.data.recipe import RenderRecipe
from ghostnote.models.data.recorded import RecordedClips
from ghostnote.models.evaluation.corpus_tracks import corpus_tracks
from ghostnote.models.labelling import teacher
from ghostnote.models.labelling.percussive import FLOOR, percussive
from ghostnote.models.training.loss import make_targets
from ghostnote.runtime.errors import InputError, OutputError, UsageError
from ghostnote.runtime.vocabulary import index_of

RATE = 44100
CONFIG = PRESETS["tiny"]
TOKENS = CONFIG.layers * CONFIG.window_tokens + 8


def tone(seconds: float) -> torch.Tensor:
    return 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(round(seconds * RATE)) / RATE)


def strokes(times_s: list[float], seconds: float) -> torch.Tensor:
    noise = torch.randn(round(0.03 * RATE), generator=torch.Generator().manual_seed(1)) * 0.3
    audio = torch.zeros(round(seconds * RATE))
    for time_s in times_s:
        start = round(time_s * RATE)
        audio[start : start + len(noise)] += noise
    return audio


def level_db(audio: torch.Tensor) -> float:
    return float(10 * audio.square().mean().log10())


def test_what_sustains_is_softer_and_strokes_are_not() -> None:
    middle = slice(RATE, 2 * RATE)
    softer = level_db(percussive(tone(3.0))[middle]) - level_db(tone(3.0)[middle])
    assert softer == pytest.approx(20 * np.log10(FLOOR), abs=2)
    struck = strokes([1.2, 1.5, 1.8], 3.0)
    assert abs(level_db(percussive(struck)[middle]) - level_db(struck[middle])) < 2


def test_nothing_is_moved() -> None:
    struck = strokes([1.5], 3.0)
    changed = percussive(struck + tone(3.0))
    lags = np.correlate(changed[RATE : 2 * RATE].numpy(), struck[RATE + 200 : 2 * RATE - 200].numpy(), "valid")
    assert int(np.argmax(lags)) == 200


@pytest.mark.parametrize("samples", [0, 1, 500, 2048, 5000])
def test_any_length(samples: int) -> None:
    assert percussive(torch.ones(samples)).shape == (samples,)


def test_the_command_labels_what_has_no_labels(tmp_path: Path) -> None:
    model, folder = write_tiny_checkpoint(tmp_path / "teacher.pt"), tmp_path / "music"
    folder.mkdir()
    for name in ("one", "two"):
        soundfile.write(folder / f"{name}.wav", tokens_of_audio(100)[0], RATE)
    write_text(folder / "two.csv", "time,class,note,velocity,confidence\n")
    given = ["label-recordings", str(model), str(folder), "--licence", "CC0"]
    result = CliRunner().invoke(cli.app, given)
    assert result.exit_code == 0, result.output
    assert "one: " in result.output
    assert "two: " not in result.output
    assert json.loads((folder / "heard.json").read_text())["licence"] == "CC0"
    one, two = open_corpus("heard", folder)
    assert (one.licence, len(two.labels)) == ("CC0", 0)
    assert any(not label.certain for label in one.labels)
    written = (folder / "one.csv").read_bytes()
    assert CliRunner().invoke(cli.app, given).exit_code == 0
    assert (folder / "one.csv").read_bytes() == written
    given[-1] = "MIT"
    refused = CliRunner().invoke(cli.app, given)
    assert isinstance(refused.exception, UsageError)
    assert json.loads((folder / "heard.json").read_text())["licence"] == "CC0"


def test_a_fainter_peak_hides_no_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tiny_checkpoint()
    delay = checkpoint.config.delay_frames(len(checkpoint.config.delays_ms) - 1)
    logits = np.full((300, len(checkpoint.config.classes)), -9.0, np.float32)
    for frame, probability in (
        (delay + 100, 0.2),
        (delay + 102, 0.95),
        (delay + 150, 0.3),
        (delay + 152, 0.6),
    ):
        logits[frame, index_of("SD")] = np.log(probability / (1 - probability))
    outputs = (logits, np.full_like(logits, 0.5), np.zeros_like(logits))
    monkeypatch.setattr(teacher, "whole_outputs", lambda *_: [outputs])
    hits = teacher.Teacher(checkpoint).hits(np.zeros(3 * RATE, np.float32))
    assert [(round(hit.time_s, 3), round(hit.confidence, 2)) for hit in hits] == [
        (1.005, 0.2),
        (1.025, 0.95),
        (1.505, 0.3),
        (1.525, 0.6),
    ]


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    model = write_tiny_checkpoint(tmp_path / "teacher.pt")
    (tmp_path / "empty").mkdir()
    given = ["label-recordings", str(model), str(tmp_path / "empty"), "--licence", "CC0"]
    result = CliRunner().invoke(cli.app, given)
    assert isinstance(result.exception, InputError)
    assert "holds no recordings" in str(result.exception)


def test_certain_hits_are_learnt_and_doubtful_ones_are_not(tmp_path: Path) -> None:
    (recording,) = open_corpus("heard", MAKERS["heard"](tmp_path))
    certain = [(label.time_s, label.name) for label in recording.labels if label.certain]
    assert certain == [(0.05, "BD"), (0.15, "OHH")]
    assert Label(0.1, "OHH", certain=False) in recording.labels
    batch = {**RecordedClips(CONFIG, [recording], clips=1, tokens=TOKENS)[0]}
    batch["delay"] = torch.zeros_like(batch["delay"])
    targets = make_targets(batch, CONFIG, TOKENS * CONFIG.frames_per_token)
    frame = {t: int((1000 * t + CONFIG.delays_ms[0]) / CONFIG.frame_ms) for t in (0.05, 0.1, 0.15)}
    opened, closed, kick = (index_of(code) for code in ("OHH", "CHH", "BD"))
    assert targets.onset[0, frame[0.15], opened] == 1
    assert targets.weight[0, frame[0.15], opened] > 0
    assert targets.weight[0, frame[0.15], closed] == 0
    assert targets.onset[0, frame[0.1]].sum() == 0
    assert targets.weight[0, frame[0.1], opened] == targets.weight[0, frame[0.1], closed] == 0
    assert targets.weight[0, frame[0.1], kick] > 0


def test_doubtful_hits_are_no_references(tmp_path: Path) -> None:
    found = corpus_tracks(f"heard={MAKERS['heard'](tmp_path)}", kind="mix")
    assert [(note.time_s, note.label, note.reported_s) for note in found.references["one"]] == [
        (0.05, "BD", None),
        (0.15, "OHH", None),
    ]
    (tmp_path / "one.csv").unlink()
    with pytest.raises(InputError, match=r"expected NAME\.csv beside"):
        open_corpus("heard", tmp_path)


def test_labels_that_cannot_be_read(tmp_path: Path) -> None:
    folder = MAKERS["heard"](tmp_path)
    write_text(folder / "one.csv", "time,class\n1.0,BD\n")
    with pytest.raises(InputError, match=r"one\.csv: not hits"):
        open_corpus("heard", folder)[0].labels  # noqa: B018 - read when first asked for
    write_text(folder / "heard.json", "[]")
    with pytest.raises(InputError, match=r"heard\.json: not what"):
        open_corpus("heard", folder)


def test_recordings_are_heard_differently_and_their_labels_move_along(tmp_path: Path) -> None:
    (recording,) = open_corpus("heard", MAKERS["heard"](tmp_path))
    recipe = RenderRecipe.load("production")
    plain = RecordedClips(CONFIG, [recording], clips=8, tokens=TOKENS)[0]
    changed = RecordedClips(CONFIG, [recording], clips=8, tokens=TOKENS, recipe=recipe)[0]
    assert changed["audio"].shape == plain["audio"].shape
    assert not torch.equal(changed["audio"], plain["audio"])
    kicks = [batch["times"][batch["classes"] == index_of("BD")] for batch in (plain, changed)]
    assert torch.allclose(kicks[0], torch.tensor(0.05), atol=0.03)
    slowest = recipe["reuse"]["slowest"]
    assert (kicks[1] <= 0.08 * slowest).all()
    assert (kicks[1] >= 0).all()


def test_facts_that_cannot_be_read_or_written_are_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher.Teacher, "hits", lambda *_: pytest.fail("heard"))
    write_audio(tmp_path / "music" / "a.flac")
    model = write_tiny_checkpoint(tmp_path / "teacher.pt")
    given = ["label-recordings", str(model), str(tmp_path / "music"), "--licence", "CC0"]
    (tmp_path / "music" / "heard.json").write_bytes(b"\xff\xfe")
    assert isinstance(CliRunner().invoke(cli.app, given).exception, UsageError)
    (tmp_path / "music" / "heard.json").unlink()
    (tmp_path / "music" / "heard.json").symlink_to(tmp_path / "absent" / "heard.json")
    assert isinstance(CliRunner().invoke(cli.app, given).exception, OutputError)
