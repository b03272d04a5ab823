"""Precisions, processes and trackers: none of them changes a gradient."""

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
from training_runs import RECIPE, trainer

from ghostnote.models.training import trainer as trainer_module
from ghostnote.runtime.errors import UsageError


@pytest.fixture
def own_accelerator():
    """Accelerate keeps one precision per process; these tests need another."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


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
