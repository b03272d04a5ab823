"""What a run may begin with or go on from: checkpoints, teachers, its own last state."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_checkpoint
from training_runs import RECIPE, trainer

from ghostnote.models import checkpoint as checkpoints
from ghostnote.models.config import PRESETS
from ghostnote.models.data.dataset import Sources
from ghostnote.models.training.trainer import Trainer
from ghostnote.runtime.errors import InputError, UsageError


def test_a_distilled_run_resumes_with_its_teacher_only(tmp_path):
    teacher = tiny_checkpoint()
    trainer(tmp_path, teacher=teacher).run(max_minutes=1e-6)
    with pytest.raises(UsageError, match="another teacher"):
        trainer(tmp_path)
    resumed = trainer(tmp_path, teacher=teacher)
    assert resumed.step == 1
    assert resumed.provenance["teacher"] == teacher.weights_sha256()


def test_a_teacher_on_other_frames_is_refused(tmp_path):
    teacher = tiny_checkpoint()
    teacher.config = replace(teacher.config, classes=teacher.config.classes[1:])
    with pytest.raises(UsageError, match="other classes or frames"):
        trainer(tmp_path, teacher=teacher)


def test_another_shape_in_the_same_folder_is_refused(tmp_path):
    trainer(tmp_path).run(max_minutes=1e-6)
    with pytest.raises(UsageError, match="another model shape"):
        trainer(tmp_path, preset="small")


def test_a_run_starts_from_a_checkpoint_with_a_fresh_schedule(tmp_path):
    parent = checkpoints.load(trainer(tmp_path / "clean").run())
    tuned = trainer(tmp_path / "tuned", replace(RECIPE, seed=5), parent=parent)
    assert tuned.step == 0
    assert not any(optimizer.state_dict()["state"] for optimizer in tuned.optimizers)
    assert all(torch.equal(value, parent.weights[name]) for name, value in tuned.average.items())
    made = checkpoints.load(tuned.run()).provenance
    assert made["parent"] == parent.weights_sha256()
    assert made["ancestors"][made["parent"]]["step"] == parent.provenance["step"]
    resumed = trainer(tmp_path / "tuned", replace(RECIPE, seed=5))  # needs not be told again
    assert resumed.step == 6
    assert [resumed.provenance[key] for key in ("parent", "ancestors")] == [made["parent"], made["ancestors"]]


def test_alignment_layers_come_along_only_from_a_checkpoint_that_has_them(tmp_path):
    trainer(tmp_path / "clean").run()
    last, best = (checkpoints.load(tmp_path / "clean" / name) for name in ("last.pt", "best.pt"))
    states = [trainer(tmp_path / name, parent=parent).module for name, parent in (("a", last), ("b", best))]
    kept = last.training["module"]["align.0.weight"]
    assert torch.equal(states[0].align[0].weight, kept)
    assert not torch.equal(states[1].align[0].weight, kept)


def test_a_run_of_more_heads_starts_from_one_of_fewer(tmp_path, monkeypatch):
    parent = checkpoints.load(trainer(tmp_path / "narrow").run())
    monkeypatch.setitem(PRESETS, "wider", replace(PRESETS["tiny"], name="wider", width=64, heads=4))
    wider = trainer(tmp_path / "wide", preset="wider", parent=parent)
    assert torch.equal(wider.average["head.weight"][:, :32], parent.weights["head.weight"])
    made = checkpoints.load(wider.run())
    assert made.config.heads == 4
    assert made.provenance["parent"] == parent.weights_sha256()


def test_starting_from_another_shape_or_other_weights_is_refused(tmp_path):
    parent = checkpoints.load(trainer(tmp_path / "one").run(max_minutes=1e-6))
    with pytest.raises(UsageError, match="width 32 instead of 128"):
        trainer(tmp_path / "two", preset="small", parent=parent)
    with pytest.raises(UsageError, match="other weights"):
        trainer(tmp_path / "one", parent=parent)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None], ids=["empty", "text", "missing"])
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="checkpoint") as error:
        checkpoints.load(path)
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"format": 1, "config": {}, "weights": print}, path)
    with pytest.raises(InputError, match="checkpoint"):
        checkpoints.load(path)


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "newer.pt"
    torch.save({"format": 99, "config": {}}, path)
    with pytest.raises(InputError, match="upgrade"):
        checkpoints.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 9}, "seed 0 instead of 9"),
        ({"clips": 1, "margin_ms": 1.5}, r"clips 2 instead of 1, margin_ms 0\.0 instead of 1\.5"),
        ({"velocity_weight": 1.0}, "velocity_weight 40.0 instead of 1.0"),
    ],
)
def test_a_run_goes_on_as_it_began(tmp_path, unrendered, changes, message):
    trainer(tmp_path).run(max_minutes=0)
    with pytest.raises(UsageError, match=message):
        trainer(tmp_path, replace(RECIPE, **changes))
    longer = trainer(tmp_path, replace(RECIPE, steps=60, learning_rate=1e-4, warmup_steps=9, validation_every=7))
    assert longer.step == 1


def test_a_run_goes_on_with_the_same_data_and_render_recipe(tmp_path, unrendered):
    told = {"rendering": {"name": "solo", "stages": {}}, "data": {"kits": "CC0", "own": "ours"}, "distinct_batches": 3}

    def learner(**changes):
        return Trainer(PRESETS["tiny"], RECIPE, Sources(), tmp_path, {**told, **changes})

    learner().run(max_minutes=0)
    assert learner(distinct_batches=9, data={"kits": "its licences, told otherwise", "own": "ours"}).step == 1
    with pytest.raises(UsageError, match="another render recipe"):
        learner(rendering={"name": "solo", "stages": {"room": {}}})
    with pytest.raises(UsageError, match="data kits and own instead of own"):
        learner(data={"own": "ours"})


def test_a_checkpoint_to_resume_from_of_another_shape_is_refused_as_well(tmp_path, unrendered):
    trainer(tmp_path / "one").run(max_minutes=0)
    parent = checkpoints.load(tmp_path / "one" / "last.pt")
    with pytest.raises(UsageError, match="view_width 16 instead of 64"):
        trainer(tmp_path / "two", preset="narrow", parent=parent)


def test_a_run_of_an_earlier_version_is_not_resumed_by_guesswork(tmp_path):
    trainer(tmp_path).run(max_minutes=1e-6)
    last = checkpoints.load(tmp_path / "last.pt")
    states = last.training.pop("optimizers")
    last.training["optimizer"] = states[0]
    checkpoints.save(tmp_path / "last.pt", last)
    with pytest.raises(UsageError, match="earlier version"):
        trainer(tmp_path)
