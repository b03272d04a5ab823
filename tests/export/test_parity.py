"""Parity's own judgement: what counts as the same, as a tie, as different."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ghostnote.export import parity
from ghostnote.models.checkpoint import Checkpoint
from ghostnote.models.torch_engine import TorchEngine
from ghostnote.runtime.engines.plan_profile import PlanProfile
from ghostnote.runtime.events import Hit
from ghostnote.runtime.manifest import Manifest


@pytest.fixture(scope="module")
def manifest(tiny: Checkpoint) -> Manifest:
    return tiny.manifest()


class Altered:
    """An engine whose logits differ from another's by a constant."""

    def __init__(self, engine: TorchEngine, by: float) -> None:
        self.engine, self.by, self.manifest = engine, by, engine.manifest
        self.zero_state, self.describe = engine.zero_state, engine.describe

    def step(self, *arguments):
        output = self.engine.step(*arguments)
        return replace(output, onset_logits=output.onset_logits + np.float32(self.by))


def test_an_engine_agrees_with_itself(tiny_torch: TorchEngine) -> None:
    report = parity.check_parity(tiny_torch, tiny_torch)
    assert report.passed
    assert [row.max_abs for row in report.outputs] == [0] * (3 + len(tiny_torch.manifest.states))
    assert report.hits.same == report.hits.reference > 100
    assert report.chunks == 64


def test_a_small_shift_passes_with_its_ties_counted_and_a_large_one_fails(tiny_torch: TorchEngine) -> None:
    small, large = (parity.check_parity(tiny_torch, Altered(tiny_torch, by)) for by in (5e-5, 5e-2))
    assert small.passed
    assert not large.passed
    assert large.hits.unexplained > 0
    assert large.outputs[0].max_abs == pytest.approx(0.05, rel=1e-3)


def test_nan_never_passes() -> None:
    assert not parity.OutputDifference("velocity", float("nan"), float("nan"), 1e-4).passed


def test_hits_are_paired_by_class_and_time(manifest: Manifest) -> None:
    close = np.zeros((200, 18), bool)
    close[60, 1] = True  # SD near 0.6 s with 10 ms of delay
    ours = [Hit(0.5, "BD", 0.5, 0.9), Hit(0.6, "SD", 0.5, 0.9), Hit(0.6, "BD", 0.5, 0.9)]
    theirs = [Hit(0.5 + 1e-7, "BD", 0.5, 0.9), Hit(0.8, "CB", 0.5, 0.9)]
    assert parity.compare_hits(ours, theirs, close, manifest, 0) == parity.HitAgreement(3, 1, 1, 2)


def test_the_guide_tells_the_tolerances_of_the_code() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    section = guide.partition("| precision | logits may differ by")[2].partition("\n\n")[0]
    rows = {line.split()[1]: [cell.strip() for cell in line.split("|")[2:5]] for line in section.splitlines()[2:]}
    assert rows.keys() == parity.TOLERANCES.keys()
    for name, tolerance in parity.TOLERANCES.items():
        assert float(rows[name][0]) == tolerance.output
        assert float(rows[name][2]) == tolerance.velocity
        assert tolerance.hits_f == (1.0 if name == "float32" else float(rows[name][1]))


def test_small_calls_are_joined_for_an_engine_that_takes_larger_ones() -> None:
    """And those that are large enough stay as they are: a plan is tried in calls of many sizes."""
    trial = parity.Trial("any", np.zeros((3, 8), np.float32), (0, 1, 2), (1, 2, 3, 7, 1, 16))
    assert parity.fitted(trial, PlanProfile((1, 3), (1, 96))).plan == trial.plan
    joined = parity.fitted(trial, PlanProfile((1, 2), (3, 96)))
    assert (joined.plan, joined.delays, joined.audio.shape) == ((3, 3, 7, 17), (0, 1), (2, 8))
    assert parity.fitted(trial, PlanProfile((1, 1), (64, 96))).plan == ()
    assert parity.fitted(trial, PlanProfile((1, 1), (3, 3))).plan == (3, 3, 6, 18)
