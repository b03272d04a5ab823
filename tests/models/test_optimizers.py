"""Every parameter is moved by one optimiser, and the right one."""

import pytest
import torch

from ghostnote.models.kinds import KINDS
from ghostnote.models.training.optimizers import Float32Muon, optimizers, orthogonal
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


@pytest.mark.parametrize("shape", [(24, 24), (24, 60), (60, 24)])
def test_muon_on_a_cpu_moves_matrices_as_torch_does(shape):
    """Three steps: within what bfloat16, which torch computes in, rounds; and either goes on from the other's state."""
    grads = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    start = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    settings = {"lr": 0.01, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    moved = []
    for kinds in ((Float32Muon,) * 3, (torch.optim.Muon,) * 3, (torch.optim.Muon, Float32Muon, torch.optim.Muon)):
        parameter, state = torch.nn.Parameter(start.clone()), None
        for kind, grad in zip(kinds, grads, strict=True):
            optimizer = kind([parameter], **settings)
            if state is not None:
                optimizer.load_state_dict(state)
            parameter.grad = grad.clone()
            optimizer.step()
            state = optimizer.state_dict()
        moved.append(parameter.detach() - start)
    for other in moved[1:]:
        assert (moved[0] - other).norm() < 0.03 * other.norm()


def test_orthogonal_moves_singular_values_to_about_one():
    for shape in ((8, 8), (8, 40), (40, 8)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 100
        values = torch.linalg.svdvals(orthogonal(matrix, (3.4445, -4.775, 2.0315), 5))
        assert values.min() > 0.4
        assert values.max() < 1.3
    assert not orthogonal(torch.zeros(3, 4), (3.4445, -4.775, 2.0315), 5).any()
