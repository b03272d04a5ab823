"""Every parameter is moved by one optimiser, and the right one."""

import pytest
import torch

from ghostnote.models.kinds import KINDS
from ghostnote.models.training.optimizers import optimizers
from ghostnote.models.training.steps import Recipe


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_one_optimiser(kind):
    step = KINDS[kind].step(KINDS[kind].presets["tiny"], Recipe())
    moved = [p for optimizer in optimizers(step, Recipe()) for group in optimizer.param_groups for p in group["params"]]
    assert len(moved) == len({id(p) for p in moved})
    assert {id(p) for p in moved} == {id(p) for p in step.parameters()}


def test_muon_moves_the_matrices_of_the_blocks_and_nothing_else():
    kind = KINDS["drum-transformer"]
    step = kind.step(kind.presets["tiny"], Recipe())
    muon, adamw = optimizers(step, Recipe())
    assert isinstance(muon, torch.optim.Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    chosen = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in step.named_parameters() if id(p) in chosen}
    assert {"model.blocks.0.qkv.weight", "model.blocks.1.feed.2.weight", "model.encoders.tone.layers.0.weight"} <= names
    assert not {"model.head.weight", "model.bias", "model.views.wave.filters", "model.blocks.0.conv"} & names


def test_nothing_decays_that_is_no_matrix():
    kind = KINDS["drum-transformer"]
    for optimizer in optimizers(kind.step(kind.presets["tiny"], Recipe()), Recipe()):
        for group in optimizer.param_groups:
            assert group["weight_decay"] == 0 or all(p.ndim >= 2 for p in group["params"])
