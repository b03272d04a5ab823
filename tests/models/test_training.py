"""The loop learns, resumes exactly, and tells what it learnt from."""

import json
import math
import sys
from dataclasses import replace

import pytest
import torch
from corpus_folders import MAKERS
from torch.nn import functional
from training_runs import RECIPE, trainer

from ghostnote import cli
from ghostnote.models import checkpoint as checkpoints
from ghostnote.models.config import PRESETS
from ghostnote.models.corpora import open_corpus
from ghostnote.models.data.dataset import RenderedBatches, Sources
from ghostnote.models.training.command import provenance
from ghostnote.models.training.steps import TrainingStep
from ghostnote.models.training.trainer import Trainer, TrainingError
from ghostnote.runtime.errors import InputError, UsageError


class Dropout(TrainingStep):
    """A module that draws random numbers in training."""

    def outputs(self, batch):
        heard, parts = super().outputs(batch)
        return heard._replace(onset_logits=functional.dropout(heard.onset_logits, 0.5, self.training)), parts


def test_training_writes_what_it_promises(tmp_path):
    best = trainer(tmp_path).run()
    loaded = checkpoints.load(best)
    assert loaded.provenance["recipe"]["steps"] == 6
    assert loaded.training == {}
    assert loaded.model().config == PRESETS["tiny"]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "validation"] == [3, 6]


def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path):
    whole = trainer(tmp_path / "whole")
    whole.run()
    first = trainer(tmp_path / "halves")
    first.run(max_minutes=1e-6)  # stops after its first step, as a user's limit would
    assert first.step == 1
    second = trainer(tmp_path / "halves")
    assert second.step == 1
    second.run()
    a, b = (checkpoints.load(tmp_path / name / "last.pt").training["module"] for name in ("whole", "halves"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_without_a_number_has_no_weights_to_keep(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_validate", lambda *_: {"onset": float("nan")})
    with pytest.raises(TrainingError, match="no number after step 3, and neither are some weights; nothing was saved"):
        trainer(tmp_path).run()
    assert not [*tmp_path.glob("*.pt")]


def test_weights_that_are_no_numbers_replace_none(tmp_path):
    told = []

    def spoil(step, losses):
        told.append(losses["onset"])
        if step == 3:
            next(diverging.module.parameters()).data.fill_(torch.nan)
            for value in diverging.average.values():
                value.fill_(torch.nan)

    diverging = trainer(tmp_path)
    with pytest.raises(TrainingError, match=r"no number after step 6.*last\.pt is as it was; go on from it"):
        diverging.run(on_validation=spoil)
    assert [math.isnan(loss) for loss in told] == [False, True]
    last = checkpoints.load(tmp_path / "last.pt").training
    assert last["step"] == 3
    assert all(value.isfinite().all() for value in last["module"].values())


def test_gradients_that_are_no_numbers_move_nothing(tmp_path, monkeypatch):
    learner = trainer(tmp_path)
    before = {name: value.clone() for name, value in learner.module.state_dict().items()}
    backward = learner.accelerator.backward
    monkeypatch.setattr(learner.accelerator, "backward", lambda loss: backward(loss * math.inf))
    learner.run(max_minutes=0)
    assert learner.step == 1
    assert all(torch.equal(before[name], value) for name, value in learner.module.state_dict().items())


def test_steps_that_are_done_again_are_logged_once(tmp_path):
    trainer(tmp_path).run()
    metrics = tmp_path / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text(whole + '{"step": 40, "kind": "train"}\n{"step": 41, "ki')  # killed after its last save
    trainer(tmp_path).run()
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == [3, 6]


def test_no_minutes_are_one_step(tmp_path):
    stopped = trainer(tmp_path)
    stopped.run(max_minutes=0)
    assert stopped.step == 1


def test_a_run_on_kept_renders_resumes_exactly_and_renders_each_once(tmp_path):
    def learner(name):
        sources = Sources(store=tmp_path / "store", distinct=2)
        return Trainer(PRESETS["tiny"], RECIPE, sources, tmp_path / name, {})

    whole = learner("whole")
    whole.run()
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.npz")}
    assert len(files) == 2 + RECIPE.validation_batches
    learner("halves").run(max_minutes=1e-6)
    learner("halves").run()
    a, b = (checkpoints.load(tmp_path / name / "last.pt").training["module"] for name in ("whole", "halves"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.npz")} == files


def test_a_run_on_recordings_resumes_exactly_and_says_what_it_learnt_from(tmp_path):
    corpora = {"idmt": open_corpus("idmt", MAKERS["idmt"](tmp_path / "idmt"))}

    def learner(name, share=0.5):
        return Trainer(PRESETS["tiny"], RECIPE, Sources(corpora=corpora, corpus_share=share), tmp_path / name, {})

    whole = learner("whole")
    kinds = [whole._dataset("train", RECIPE.seed)[i]["exact"].all().item() for i in range(RECIPE.steps)]
    assert set(kinds) == {True, False}
    assert whole._dataset("validation", 1)[0]["exact"].all()
    whole.run()
    learner("halves").run(max_minutes=1e-6)
    with pytest.raises(UsageError, match="other recordings, or another share"):
        learner("halves", share=0.4)
    learner("halves").run()
    a, b = (checkpoints.load(tmp_path / name / "last.pt") for name in ("whole", "halves"))
    assert all(torch.equal(value, b.training["module"][name]) for name, value in a.training["module"].items())
    idmt = {"recordings": 2, "licences": ["CC BY-NC-ND 4.0 (IDMT-SMT-Drums V2, Fraunhofer IDMT)"]}
    assert a.provenance["corpora"] == {"share": 0.5, "idmt": idmt}


def test_renders_made_ahead_are_those_that_training_takes(tmp_path, small_pool, monkeypatch, capsys):
    store = ["--store", str(tmp_path / "store")]
    monkeypatch.setattr(sys, "argv", ["ghostnote", "render-data", store[1], "--distinct=1", "--clips=2"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    assert "1 batches of 2 clips" in capsys.readouterr().out
    made = []
    monkeypatch.setattr("ghostnote.models.training.trainer.Trainer.run", lambda self, _: made.append(self))
    assert not train(tmp_path / "run", "--clips=2", "--distinct=1", *store, monkeypatch=monkeypatch)
    (kept,) = (tmp_path / "store").rglob("*.npz")
    monkeypatch.setattr(RenderedBatches, "render", lambda *_: pytest.fail("rendered a second time"))
    assert made[0]._dataset("train", 0)[0]["audio"].shape == (2, 384 * 882)
    assert made[0]._dataset("train", 0)._path(0) == kept


def train(*arguments, monkeypatch):
    """The exit code of `ghostnote train`."""
    monkeypatch.setattr(sys, "argv", ["ghostnote", "train", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def test_the_command_reads_the_split_that_is_for_training(tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr("ghostnote.models.training.trainer.Trainer.run", lambda self, _: made.append(self))
    gmd, idmt = (MAKERS[kind](tmp_path / kind) for kind in ("gmd", "idmt"))
    given = [f"--corpus=gmd={gmd}", f"--corpus=idmt={idmt}", "--corpus-share=0.25"]
    assert not train(tmp_path / "run", "--preset=small", *given, monkeypatch=monkeypatch)
    (learner,) = made
    corpora = learner.provenance["corpora"]
    assert (corpora["gmd"]["recordings"], corpora["idmt"]["recordings"], corpora["share"]) == (1, 2, 0.25)
    assert {recording.split for recording in learner.sources.corpora["gmd"]} == {"train"}


def test_a_corpus_that_may_not_be_trained_on_is_a_usage_error(tmp_path, monkeypatch, capsys):
    mdb = MAKERS["mdb"](tmp_path / "mdb")
    assert train(tmp_path / "run", "--corpus", f"mdb={mdb}", monkeypatch=monkeypatch) == UsageError.exit_code
    assert "evaluation only" in capsys.readouterr().err
    assert train(tmp_path / "run", "--corpus", "mdb", monkeypatch=monkeypatch) == UsageError.exit_code
    assert "KIND=FOLDER" in capsys.readouterr().err


def test_any_module_can_be_trained_and_what_it_draws_at_random_resumes_too(tmp_path):
    trainer(tmp_path / "whole", build=Dropout).run()
    trainer(tmp_path / "halves", build=Dropout).run(max_minutes=1e-6)
    trainer(tmp_path / "halves", build=Dropout).run()
    a, b = (checkpoints.load(tmp_path / name / "last.pt").weights for name in ("whole", "halves"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_few_steps_on_one_batch_learn_it(tmp_path):
    learner = trainer(tmp_path, replace(RECIPE, steps=200, learning_rate=3e-3))
    batch = learner._dataset("train", 0)[0]
    before = float(learner.module(batch)["loss"].detach())
    for _ in range(25):
        learner._train_on(batch)
    assert float(learner.module(batch)["loss"].detach()) < 0.8 * before


@pytest.mark.parametrize("command", ["train", "ablate"])
def test_a_place_where_no_folder_can_be(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setattr(sys, "argv", ["ghostnote", command, str(tmp_path / "taken" / "run"), "--steps", "1"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 6
    assert "run: cannot be made a folder" in capsys.readouterr().err


def test_a_stop_does_not_choose_the_best_weights(tmp_path, unrendered, monkeypatch):
    """Losses by step, the lowest at a step at which only a stopped run could look."""
    validated = []

    def onset(self, _):
        validated.append(self.step)
        if self.step < self.best:
            self.best = self.step
            checkpoints.save(self.folder / "best.pt", self._checkpoint(training={}))
        return {"onset": float(self.step)}

    monkeypatch.setattr(Trainer, "_validate", onset)
    trainer(tmp_path / "whole").run()
    trainer(tmp_path / "halves").run(max_minutes=0)
    early = checkpoints.load(tmp_path / "halves" / "best.pt")
    assert early.provenance["step"] == 1  # better than nothing
    trainer(tmp_path / "halves").run()
    assert validated == [3, 6] * 2
    a, b = (checkpoints.load(tmp_path / name / "best.pt") for name in ("whole", "halves"))
    assert (a.provenance["step"], a.weights_sha256()) == (b.provenance["step"], b.weights_sha256())


def test_what_validation_lacks_is_told_before_anything_is_trained(tmp_path, monkeypatch):
    (tmp_path / "kits").mkdir()
    table = "path,kit,class,articulation,velocity_rank,split\nk.flac,mine,BD,kick,1,train\n"
    (tmp_path / "kits" / "kits.csv").write_text(table)
    monkeypatch.setattr(Trainer, "_batches", lambda _: pytest.fail("began to train"))
    learner = Trainer(PRESETS["tiny"], RECIPE, Sources(tmp_path / "kits"), tmp_path / "run", {})
    with pytest.raises(InputError, match="no rows with split='validation'; training needs some of train and of"):
        learner.run()


def test_provenance_tells_the_licences_of_what_was_given(tmp_path):
    for name, header, rows in (
        ("kits/kits.csv", "path,kit,class,articulation,velocity_rank,split,license", ["a,k,BD,x,1,train,CC0 1.0"]),
        ("backing/passages.csv", "path,source,license", ["b,s,MIT", "c,s,"]),
        ("mine/groove.mid", "", []),
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("\n".join([header, *rows]))
    told = provenance(Sources(tmp_path / "kits", tmp_path / "mine", tmp_path / "backing"))["data"]
    assert told["kits"] == "drum sounds: CC0 1.0"
    assert told["grooves"] == "performances: a folder of MIDI files"
    assert told["backing"] == "other music: MIT, not said"
    assert set(provenance(Sources())["data"]) == {"own"}


def test_a_failure_in_a_worker_reaches_the_user_as_itself(tmp_path, monkeypatch):
    def broken(*_):
        raise InputError("x.txt: not an annotation; expected lines of seconds and label")

    monkeypatch.setattr(RenderedBatches, "__getitem__", broken)
    with pytest.raises(InputError, match=r"^x\.txt: not an annotation; expected lines of seconds and label$"):
        trainer(tmp_path).run()


@pytest.mark.parametrize("command", ["train", "ablate", "sweep", "preview-data", "render-data"])
def test_a_seed_is_a_whole_number_from_0(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ghostnote", command, str(tmp_path / "out"), "--seed=-1"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == UsageError.exit_code
    assert "--seed" in capsys.readouterr().err
