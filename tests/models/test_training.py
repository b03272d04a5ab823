"""The loop learns, resumes exactly, and shares its batch between processes without changing a gradient."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from bursts import make_batch
from corpus_folders import MAKERS
from tiny import tiny_checkpoint
from torch.nn import functional

from ghostnote import cli
from ghostnote.models import checkpoint as checkpoints
from ghostnote.models.config import PRESETS
from ghostnote.models.corpora import open_corpus
from ghostnote.models.data.dataset import RenderedBatches, Sources
from ghostnote.models.training import trainer as trainer_module
from ghostnote.models.training.command import provenance
from ghostnote.models.training.steps import TrainingStep
from ghostnote.models.training.trainer import Recipe, Trainer, TrainingError
from ghostnote.runtime.errors import InputError, UsageError

RECIPE = Recipe(steps=6, clips=2, tokens=48, warmup_steps=2, validation_every=3, validation_batches=1)


def trainer(folder, recipe=RECIPE, preset="tiny", parent=None, **options):
    return Trainer(PRESETS[preset], recipe, Sources(), folder, {"recipe_of": "a test"}, parent, **options)


@pytest.fixture
def own_accelerator():
    """Accelerate keeps one precision per process; these tests need another."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def unrendered(monkeypatch):
    """Training on noise with bursts, for what does not depend on how clips sound."""
    batches = [make_batch(seed=seed) for seed in range(RECIPE.steps)]
    monkeypatch.setattr(Trainer, "_dataset", lambda *_: batches)


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
    with pytest.raises(TrainingError, match="no weights are worth keeping"):
        trainer(tmp_path).run()


def test_no_minutes_are_one_step(tmp_path):
    stopped = trainer(tmp_path)
    stopped.run(max_minutes=0)
    assert stopped.step == 1


def test_a_run_of_an_earlier_version_is_not_resumed_by_guesswork(tmp_path):
    trainer(tmp_path).run(max_minutes=1e-6)
    last = checkpoints.load(tmp_path / "last.pt")
    states = last.training.pop("optimizers")
    last.training["optimizer"] = states[0]
    checkpoints.save(tmp_path / "last.pt", last)
    with pytest.raises(UsageError, match="earlier version"):
        trainer(tmp_path)


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


def test_renders_made_ahead_are_those_that_training_takes(tmp_path, monkeypatch, capsys):
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


def test_bf16_trains(tmp_path, own_accelerator):
    learner = trainer(tmp_path, replace(RECIPE, steps=1, precision="bf16"))
    batch = learner._dataset("train", 0)[0]
    learner._train_on(batch)
    assert learner.step == 1
    assert all(value.dtype == torch.float32 for value in learner.average.values())
    assert all(torch.isfinite(value).all() for value in learner.average.values())


@pytest.mark.parametrize(("kernels", "precision", "told"), [(False, "bf16", 1), (True, "bf16", 0), (False, "no", 0)])
def test_bfloat16_without_instructions_is_warned_of(
    tmp_path, own_accelerator, monkeypatch, recwarn, kernels, precision, told
):
    monkeypatch.setattr(trainer_module, "_computes_bfloat16", lambda: kernels)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    trainer(tmp_path, replace(RECIPE, precision=precision))
    assert sum("use --precision no" in str(warning.message) for warning in recwarn) == told


def test_a_precision_that_cannot_be_had_is_refused(tmp_path, own_accelerator):
    with pytest.raises(UsageError, match="expected one of no, bf16, fp16"):
        trainer(tmp_path, replace(RECIPE, precision="fp8"))
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="fp16 needs a GPU"):
            trainer(tmp_path, replace(RECIPE, precision="fp16"))


def test_weights_and_biases_offline_needs_no_account(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in {
        "MODE": "offline",
        "SILENT": "true",
        "CONFIG_DIR": tmp_path / "c",
        "CACHE_DIR": tmp_path / "d",
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", str(value))
    learner = trainer(tmp_path / "run", replace(RECIPE, steps=2, validation_every=1), trackers=("wandb",))
    learner.run()
    (written,) = (tmp_path / "run").glob("wandb/offline-run-*/*.wandb")
    assert learner.run_id in written.name
    deadline = time.monotonic() + 30  # another process writes the file
    while b"validation/onset" not in written.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert b"validation/onset" in written.read_bytes()
    assert (tmp_path / "run" / "metrics.jsonl").exists()


def test_an_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown tracker 'paper'"):
        trainer(tmp_path, trackers=("paper",))


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"ghostnote\[wandb\]"):
        trainer(tmp_path, trackers=("wandb",))


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


def test_a_few_steps_on_one_batch_learn_it(tmp_path):
    learner = trainer(tmp_path, replace(RECIPE, steps=200, learning_rate=3e-3))
    batch = learner._dataset("train", 0)[0]
    before = float(learner.module(batch)["loss"].detach())
    for _ in range(25):
        learner._train_on(batch)
    assert float(learner.module(batch)["loss"].detach()) < 0.8 * before


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_gradients(folder: Path, processes: int) -> dict:
    """Gradients by `processes` processes, started the way torchrun and `accelerate launch` do it: by environment."""
    out = folder / f"gradients-{processes}.pt"
    command = [sys.executable, str(Path(__file__).with_name("gradients.py")), str(folder / "run"), str(out)]
    common = {
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    if processes > 1:
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
    ranks = [{"RANK": str(r), "LOCAL_RANK": str(r)} if processes > 1 else {} for r in range(processes)]
    running = [subprocess.Popen(command, env=os.environ | common | rank) for rank in ranks]
    try:
        assert [process.wait(timeout=120) for process in running] == [0] * processes
    finally:
        for process in running:
            process.kill()
    return torch.load(out, weights_only=True)


def test_two_processes_give_the_gradients_of_one_on_the_same_batch(tmp_path):
    one, two = run_gradients(tmp_path, 1), run_gradients(tmp_path, 2)
    assert (one["processes"], two["processes"]) == (1, 2)
    largest = max(float(g.abs().max()) for g in one["gradients"].values())
    for name, gradient in one["gradients"].items():
        assert torch.allclose(gradient, two["gradients"][name], atol=1e-5 * largest, rtol=1e-4), name


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


@pytest.mark.parametrize("command", ["train", "ablate"])
def test_a_place_where_no_folder_can_be(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setattr(sys, "argv", ["ghostnote", command, str(tmp_path / "taken" / "run"), "--steps", "1"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 6
    assert "run: cannot be made a folder" in capsys.readouterr().err


def unscale(learner, scaler, monkeypatch):
    """What Accelerate does on a GPU before it clips."""
    learner.accelerator.scaler = scaler
    monkeypatch.setattr(
        learner.accelerator, "unscale_gradients", lambda: [scaler.unscale_(o.optimizer) for o in learner.optimizers]
    )


def test_a_scaler_changes_no_optimisers_gradients(tmp_path, monkeypatch):
    """fp16 without a GPU: both optimisers keep the moments that unscaled gradients give."""
    plain, scaled = trainer(tmp_path / "plain"), trainer(tmp_path / "scaled")
    batch = make_batch()
    plain._train_on(batch)
    unscale(scaled, scaler := torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=1), monkeypatch)
    scaled._train_on(batch)
    assert scaler.get_scale() == 2.0**13  # told once
    for one, other in zip(plain.optimizers, scaled.optimizers, strict=True):
        moments, found = (optimizer.state_dict()["state"] for optimizer in (one, other))
        assert moments.keys() == found.keys() != set()
        for key, state in moments.items():
            for name, value in state.items():
                torch.testing.assert_close(found[key][name], value)


def test_an_overflow_moves_nothing(tmp_path, monkeypatch):
    learner = trainer(tmp_path)
    unscale(learner, scaler := torch.amp.GradScaler("cpu", init_scale=2.0**12), monkeypatch)
    before = {name: value.clone() for name, value in learner.module.state_dict().items()}
    (matrix, *_), (other, *_) = (optimizer.param_groups[0]["params"] for optimizer in learner.optimizers)
    matrix.register_hook(lambda gradient: gradient * float("nan"))
    learner._train_on(make_batch())
    assert other is not matrix
    assert all(torch.equal(value, before[name]) for name, value in learner.module.state_dict().items())
    assert scaler.get_scale() == 2.0**11
    assert learner.step == 1


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


def test_a_checkpoint_to_resume_from_of_another_shape_is_refused_as_well(tmp_path, unrendered):
    trainer(tmp_path / "one").run(max_minutes=0)
    parent = checkpoints.load(tmp_path / "one" / "last.pt")
    with pytest.raises(UsageError, match="view_width 16 instead of 64"):
        trainer(tmp_path / "two", preset="narrow", parent=parent)


@pytest.mark.parametrize("command", ["train", "ablate", "sweep", "preview-data", "render-data"])
def test_a_seed_is_a_whole_number_from_0(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ghostnote", command, str(tmp_path / "out"), "--seed=-1"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == UsageError.exit_code
    assert "--seed" in capsys.readouterr().err
