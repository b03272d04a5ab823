"""Targets and losses on hand-made cases."""

import pytest
import torch
from bursts import make_batch

from ghostnote.models.config import PRESETS
from ghostnote.models.training.loss import (
    CLASS_WEIGHTS,
    EARLY_WEIGHT,
    LATE_WEIGHT,
    PLAIN,
    WEIGHTED,
    alignment_loss,
    make_targets,
    transcription_losses,
)
from ghostnote.models.transformer import StepOutput
from ghostnote.runtime.vocabulary import index_of

CONFIG = PRESETS["tiny"]
SNARE, RIDE, CRASH = index_of("SD"), index_of("RD"), index_of("CRC")


def targets_of(time_s, code=SNARE, delay=0, frames=40, ignored=False, labelled=True, exact=True, margin_ms=0.0):
    batch = {
        "times": torch.tensor([[time_s]]),
        "classes": torch.tensor([[code]]),
        "velocities": torch.tensor([[0.7]]),
        "ignored": torch.tensor([[ignored]]),
        "labelled": torch.full((1, len(CONFIG.classes)), labelled),
        "exact": torch.tensor([exact]),
        "delay": torch.tensor([[delay]]),
    }
    return make_targets(batch, CONFIG, frames, margin_ms=margin_ms)


def output_of(logits, offset=0.0, velocity=0.7):
    like = torch.ones_like(logits)
    return StepOutput(logits, velocity * like, offset * like, ())


def test_an_attack_belongs_to_the_frame_that_covers_it_after_the_delay():
    # 104 ms heard with a delay of 10 ms: frame 11 covers 110..120 ms of output time, its centre is 115.
    targets = targets_of(0.104)
    assert torch.nonzero(targets.onset).tolist() == [[0, 11, SNARE]]
    assert targets.fraction.item() == pytest.approx(-0.1, abs=1e-4)


@pytest.mark.parametrize(("time_s", "frame", "fraction"), [(0.1005, 10, 0.55), (0.1025, 11, -0.25), (0.0995, 10, 0.45)])
def test_a_margin_gives_attacks_just_after_a_boundary_to_the_frame_before(time_s, frame, fraction):
    targets = targets_of(time_s, margin_ms=1.5)
    assert torch.nonzero(targets.onset).tolist() == [[0, frame, SNARE]]
    assert targets.fraction.item() == pytest.approx(fraction, abs=1e-4)


def test_the_frame_before_is_forgiven_more_than_the_one_after():
    weight = targets_of(0.104).weight[0, :, SNARE]
    assert weight[10] == pytest.approx(EARLY_WEIGHT)
    assert weight[12] == pytest.approx(LATE_WEIGHT)
    assert EARLY_WEIGHT < LATE_WEIGHT <= 1


def test_plain_weights_are_all_alike_where_frames_count():
    batch = make_batch(delay=3)
    weight = make_targets(batch, CONFIG, 60, PLAIN).weight
    assert weight.unique().tolist() == [0.0, 1.0]
    assert torch.equal(weight > 0, make_targets(batch, CONFIG, 60).weight > 0)


def test_frames_about_the_time_before_the_stream_cost_nothing():
    weight = targets_of(0.104, delay=3).weight  # 70 ms: frames 0..6
    assert weight[0, :7].abs().sum() == 0
    assert (weight[0, 7:] > 0).all()
    late = targets_of(0.104, delay=3, margin_ms=1.5).weight  # an attack at 1 ms belongs to frame 6
    assert late[0, :6].abs().sum() == 0
    assert (late[0, 6:] > 0).all()


def test_an_ignored_hit_costs_nothing_found_or_not():
    targets = targets_of(0.104, ignored=True)
    assert targets.onset.sum() == 0
    assert len(targets.velocity) == 0
    assert targets.weight[0, 10:13, SNARE].abs().sum() == 0
    assert (targets.weight[0, [9, 13], SNARE] == 1).all()
    quiet = torch.full((1, 40, 18), -12.0)
    found = quiet.clone()
    found[0, 11, SNARE] = 12.0
    costs = [transcription_losses(output_of(x), targets, CONFIG) for x in (quiet, found)]
    assert float(costs[0].onset) == pytest.approx(float(costs[1].onset), abs=1e-4)


def test_a_hit_beside_an_ignored_one_counts_whatever_the_weights():
    batch = {
        "times": torch.tensor([[0.104, 0.114]]),
        "classes": torch.tensor([[SNARE, SNARE]]),
        "velocities": torch.tensor([[0.7, 0.2]]),
        "ignored": torch.tensor([[False, True]]),
        "labelled": torch.ones(1, len(CONFIG.classes), dtype=torch.bool),
        "exact": torch.tensor([True]),
        "delay": torch.tensor([[0]]),
    }
    for weights, expected in ((WEIGHTED, CLASS_WEIGHTS["SD"]), (PLAIN, 1.0)):
        targets = make_targets(batch, CONFIG, 40, weights)
        assert torch.nonzero(targets.onset).tolist() == [[0, 11, SNARE]]
        assert float(targets.weight[0, 11, SNARE]) == pytest.approx(expected)
        assert (targets.weight[0, 12:14, SNARE] == 0).all()


def test_a_class_that_a_clip_does_not_label_costs_nothing():
    targets = targets_of(0.104, labelled=False)
    loud = torch.full((1, 40, 18), 12.0)
    losses = transcription_losses(output_of(loud), targets, CONFIG)
    assert float(losses.onset) == 0
    assert float(losses.parent) == 0


def test_hits_outside_the_frames_and_padding_are_left_out():
    assert len(targets_of(10.0).velocity) == 0
    assert len(targets_of(0.1, code=-1).velocity) == 0


def test_a_right_answer_costs_little_and_each_mistake_more():
    targets = targets_of(0.104)
    right = torch.full((1, 40, 18), -12.0)
    right[0, 11, SNARE] = 12.0
    late, missing, doubled = right.clone(), right.clone(), right.clone()
    late[0, 11, SNARE], late[0, 12, SNARE] = -12.0, 12.0
    missing[0, 11, SNARE] = -12.0
    doubled[0, 20, SNARE] = 12.0
    costs = [
        float(transcription_losses(output_of(x, -0.1), targets, CONFIG).onset) for x in (right, doubled, missing, late)
    ]
    assert costs[0] < 0.1
    assert costs == sorted(costs)


def test_offset_is_supervised_at_the_picked_frame():
    targets = targets_of(0.104)
    early = torch.full((1, 40, 18), -5.0)
    early[0, 10, SNARE] = 5.0
    # Picked one frame early, the right offset is one frame more: -0.1 + 1.
    assert float(transcription_losses(output_of(early, 0.9), targets, CONFIG).offset) == pytest.approx(0, abs=1e-6)
    assert float(transcription_losses(output_of(early, -0.1), targets, CONFIG).offset) > 0.1


def test_labels_that_are_not_exact_teach_everything_but_the_offset():
    logits = torch.zeros(1, 40, 18)
    exact, rough = (
        transcription_losses(output_of(logits, 0.4), targets_of(0.104, exact=e), CONFIG) for e in (True, False)
    )
    assert float(exact.offset) > 0.1
    assert float(rough.offset) == 0
    assert (exact.onset, exact.parent, exact.velocity) == (rough.onset, rough.parent, rough.velocity)


def test_confusing_two_cymbals_costs_the_parent_nothing():
    targets = targets_of(0.104, code=RIDE)
    logits = torch.full((1, 40, 18), -12.0)
    crash, silent = logits.clone(), logits.clone()
    crash[0, 11, CRASH] = 12.0
    parents = [float(transcription_losses(output_of(x), targets, CONFIG).parent) for x in (crash, silent)]
    assert parents[0] < 0.01 < parents[1]


def test_losses_are_finite_at_extreme_logits():
    targets = targets_of(0.104)
    for value in (-200.0, 200.0):
        logits = torch.full((1, 40, 18), value, requires_grad=True)
        losses = transcription_losses(output_of(logits), targets, CONFIG)
        sum(losses).backward()
        assert torch.isfinite(logits.grad).all()


def test_equal_views_are_aligned_and_shuffled_ones_are_not():
    torch.manual_seed(0)
    one = torch.randn(2, 20, 1, 32)
    same = one.expand(-1, -1, 3, -1)
    other = torch.cat([one, one.roll(1, 1), one.roll(2, 1)], dim=2)
    assert alignment_loss(same) < 0.1 < alignment_loss(other)
