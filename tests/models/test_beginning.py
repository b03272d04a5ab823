"""Clips that begin with an attack: audio and labels move together, and nothing that was cut off keeps its label."""

import pytest
import torch

from ghostnote.models.data.beginning import begun_at_attacks
from ghostnote.models.data.recipe import Draws
from ghostnote.models.data.renderer import Clips

RATE = 44100
SETTINGS = {"share": 1.0, "latest_s": 2.0, "lead_ms": [0, 3]}
TIMES = [0.4, 0.42, 1.0, 1.7, 2.5]  # .42 comes shortly after another one


def clips(count=16, ignored=()):
    """Clicks of heights of their own at the attacks."""
    audio = torch.zeros(count, 3 * RATE)
    for k, time_s in enumerate(TIMES):
        audio[:, round(time_s * RATE)] = k + 1.0
    times = torch.tensor([[*TIMES, 0.0]]).repeat(count, 1)
    classes = torch.tensor([[0, 1, 2, 3, 4, -1]]).repeat(count, 1)
    hidden = torch.zeros_like(classes, dtype=torch.bool)
    hidden[:, list(ignored)] = True
    return Clips(audio, times, classes, torch.full(times.shape, 0.5), hidden)


def draws(count=16):
    return [Draws(3, i) for i in range(count)]


def test_the_first_hit_lies_a_moment_after_the_start_and_all_others_moved_with_it():
    made = begun_at_attacks(clips(), draws(), SETTINGS)
    begun = set()
    for row in range(16):
        kept = made.classes[row] >= 0
        first = int(made.classes[row][kept][0])
        begun.add(first)
        assert 0 <= float(made.times[row][kept].min()) <= 0.003 + 1 / RATE
        for time_s, code in zip(made.times[row][kept].tolist(), made.classes[row][kept].tolist(), strict=True):
            assert made.audio[row, round(time_s * RATE)] == code + 1
        assert int((made.audio[row] != 0).sum()) == int(kept.sum()) == len(TIMES) - first
    assert begun == {0, 2, 3}  # not the one shortly after another, nor the one after the latest


def test_a_hit_that_cannot_be_heard_is_no_beginning():
    made = begun_at_attacks(clips(ignored=(0, 2)), draws(), SETTINGS)
    assert {int(row[row >= 0][0]) for row in made.classes} == {3}


@pytest.mark.parametrize("share", [0.0, 0.15])
def test_the_share_is_kept_and_the_rest_is_as_it_was(share):
    before = clips(400)
    made = begun_at_attacks(before, draws(400), SETTINGS | {"share": share})
    changed = (made.times != before.times).any(1)
    assert abs(float(changed.float().mean()) - share) < 0.05
    assert torch.equal(made.audio[~changed], before.audio[~changed])
