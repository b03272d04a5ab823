"""Variants differ from the full model in what they say; their runner goes on where it stopped."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from bursts import make_batch
from tiny import tiny_checkpoint
from typer.testing import CliRunner

from ghostnote.cli import app
from ghostnote.models.config import PRESETS
from ghostnote.models.data.dataset import Sources, main_delay
from ghostnote.models.data.recipe import RenderRecipe
from ghostnote.models.evaluation.analysis import Track
from ghostnote.models.evaluation.notes import Note
from ghostnote.models.kinds import KINDS, STREAMING
from ghostnote.models.training import ablation
from ghostnote.models.training.ablation import VARIANTS, Ablations, applicable, config_of
from ghostnote.models.training.steps import Recipe
from ghostnote.runtime.errors import InputError, OutputError, UsageError
from ghostnote.runtime.vocabulary import CODES

COURSE = Recipe(steps=1, clips=1, tokens=24, warmup_steps=1, validation_every=1, validation_batches=1)


def track(number):
    row = make_batch(clips=1, seed=number)
    times, classes = row["times"][0].tolist(), row["classes"][0].tolist()
    return Track(
        f"t{number}", row["audio"][0].numpy(), [Note(t, CODES[c]) for t, c in zip(times, classes, strict=True)]
    )


TRACKS = [track(number) for number in range(4)]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_a_model_that_trains(name):
    variant = VARIANTS[name]
    config = config_of(variant, "tiny")
    step = KINDS[variant.kind].step(config, replace(COURSE, **variant.course))
    parts = step(make_batch(clips=1, delay=0, tokens=12))
    parts["loss"].backward()
    assert float(parts["loss"].detach()) > 0
    assert (
        variant.what == "everything" or variant.shape or variant.course or variant.without or variant.kind != STREAMING
    )


def test_stages_that_a_variant_switches_off_exist():
    RenderRecipe.load("production").without(*{stage for variant in VARIANTS.values() for stage in variant.without})
    assert applicable(RenderRecipe.load("production")) == list(VARIANTS)
    assert "no-demixing" not in applicable(RenderRecipe.load("production").without("demixing"))


def test_the_baseline_keeps_its_size_beside_every_preset():
    assert config_of(VARIANTS["onsets-and-frames"], "small") == KINDS["onsets-and-frames"].presets["base"]
    with pytest.raises(UsageError, match="unknown preset"):
        config_of(VARIANTS["full"], "huge")


def test_the_delay_that_scores_is_the_one_users_run_with():
    assert PRESETS["base"].delays_ms[main_delay(PRESETS["base"])] == 70
    assert main_delay(config_of(VARIANTS["no-delay"], "tiny")) == 0


def test_f_is_that_of_clips_that_did_not_choose_the_threshold():
    checkpoint = tiny_checkpoint()
    f, threshold = ablation.rendered_f(checkpoint, TRACKS, 3)
    assert threshold in ablation.GRID
    # The second half's references emptied: whatever the first half chose, nothing is right there.
    silent = [*TRACKS[:2], *(replace(track, references=[]) for track in TRACKS[2:])]
    assert ablation.rendered_f(checkpoint, silent, 3) == (0.0, threshold)
    assert 0 <= f <= 1


def test_interrupted_ablations_go_on_and_finished_ones_stand(tmp_path):
    def ablations():
        return Ablations(tmp_path, "tiny", COURSE, Sources(), {"renders": 4})

    done = []
    ablations().run(["full"], {}, TRACKS, {}, lambda name, row: done.append(name))
    first = json.loads((tmp_path / "ablations.json").read_text())["variants"]["full"]
    ablations().run(["full", "no-delay"], {}, TRACKS, {}, lambda name, row: done.append(name))
    assert done == ["full", "no-delay"]
    document = json.loads((tmp_path / "ablations.json").read_text())
    assert document["variants"]["full"] == first
    assert document["variants"]["no-delay"]["delay_ms"] == 0
    table = (tmp_path / "ablations.md").read_text()
    assert table.splitlines()[0] == "| variant | renders |"
    assert len(table.splitlines()) == 4
    with pytest.raises(UsageError, match="other settings"):
        Ablations(tmp_path, "tiny", replace(COURSE, steps=2), Sources(), {"renders": 4})
    (tmp_path / "ablations.json").write_text('{"settings": 1}')
    with pytest.raises(InputError, match="no document of ablations"):
        ablations()


def test_a_table_that_cannot_be_written_is_an_error_of_one_line(tmp_path):
    (tmp_path / "ablations.md").mkdir()
    with pytest.raises(OutputError, match=r"ablations\.md: cannot be written"):
        Ablations(tmp_path, "tiny", COURSE, Sources(), {})._write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ablations.json", "ablations.md"]


def test_a_table_names_the_differences_in_points():
    rows = {
        "full": {"what": "everything", "renders_f": 0.8, "recordings_f": 0.9},
        "less": {"what": "less", "renders_f": 0.755},
    }
    assert ablation.table(rows).splitlines()[2:] == [
        "| everything | 0.800 | 0.900 |",
        "| less | 0.755 (-4.5) | - |",
    ]


def test_unknown_variants_are_refused(tmp_path):
    ran = CliRunner().invoke(app, ["ablate", str(tmp_path), "--variants", "full,none"])
    assert isinstance(ran.exception, UsageError)
    assert "unknown variant none" in str(ran.exception)


def test_recordings_are_scored_leave_one_track_out():
    audio = make_batch(clips=1)["audio"][0]
    recordings = {name: (audio, [(0.1, "BD"), (0.3, "SD")]) for name in "ab"}
    row = ablation.scores(tiny_checkpoint(), TRACKS, recordings)
    assert row["delay_ms"] == 70
    assert 0 <= row["recordings_f"] <= 1
    assert np.isfinite(row["renders_f"])


def test_one_recording_is_too_few_to_score_on(tmp_path):
    for name in ("labels", "audio"):
        (tmp_path / name).mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0.5\tSD\n")
    soundfile.write(tmp_path / "audio" / "a.wav", np.zeros(4410), 44100)
    folders = ["--audio", str(tmp_path / "audio"), "--labels", str(tmp_path / "labels")]
    ran = CliRunner().invoke(app, ["ablate", str(tmp_path / "runs"), *folders])
    assert isinstance(ran.exception, UsageError)
    assert "two recordings or more" in str(ran.exception)
