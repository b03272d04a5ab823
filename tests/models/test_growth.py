"""A widened model does what the narrow one did, and can learn with all it has."""

from dataclasses import replace

import pytest
import torch

from ghostnote.models.config import PRESETS
from ghostnote.models.growth import can_widen, widened
from ghostnote.models.transformer import DrumTransformer

NARROW = PRESETS["tiny"]
WIDE = replace(NARROW, width=64, heads=4)
SECONDS_2 = 2 * 44100 // 882 * 882


def trained(config):
    """A model whose every tensor has been moved off its start."""
    torch.manual_seed(1)
    model = DrumTransformer(config)
    with torch.no_grad():
        for value in model.parameters():
            value += 0.1 * torch.randn_like(value)
    return model.eval()


def pair(narrow):
    wide = DrumTransformer(WIDE)
    wide.load_state_dict(widened(narrow.state_dict(), NARROW, WIDE))
    return wide.eval()


def outputs(model):
    audio = 0.1 * torch.randn(2, SECONDS_2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return [model.whole(audio, delay) for delay in range(len(NARROW.delays_ms))]


def test_without_convolutions_a_widened_model_is_the_same_function():
    narrow = trained(NARROW)
    with torch.no_grad():
        for block in narrow.blocks:
            block.conv.zero_()
    for ours, theirs in zip(outputs(pair(narrow)), outputs(narrow), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, atol=2e-4, rtol=0)


def test_with_them_it_stays_near():
    narrow = trained(NARROW)
    for ours, theirs in zip(outputs(pair(narrow)), outputs(narrow), strict=True):
        moved = (ours.onset_logits - theirs.onset_logits).abs().mean()
        assert moved < 0.1 * theirs.onset_logits.std()


def test_everything_new_has_a_gradient():
    narrow = trained(NARROW)
    wide = pair(narrow)
    for _ in range(2):  # what is written to new channels is read only once the weights that read it have moved
        wide.zero_grad()
        wide.whole(0.1 * torch.randn(1, SECONDS_2), 0).onset_logits.square().mean().backward()
        with torch.no_grad():
            for value in wide.parameters():
                value -= 0.01 * value.grad if value.grad is not None else 0
    before = narrow.state_dict()
    for name, value in wide.named_parameters():
        if value.shape != before[name].shape and not name.endswith("qkv.bias"):  # keys' biases move no softmax
            new = torch.ones_like(value, dtype=torch.bool)
            if name != "bias" and "qkv" not in name:
                new[tuple(slice(size) for size in before[name].shape)] = False
            assert (value.grad[new] != 0).any(), name


@pytest.mark.parametrize(
    "config",
    [NARROW, replace(WIDE, heads=2), replace(WIDE, layers=3), replace(NARROW, width=16, heads=1)],
    ids=["the same", "larger heads", "more layers", "fewer heads"],
)
def test_what_is_not_more_heads_is_refused(config):
    assert not can_widen(NARROW, config)
    with pytest.raises(ValueError, match="more heads"):
        widened(DrumTransformer(NARROW).state_dict(), NARROW, config)


def test_a_narrow_model_that_softens_less_is_widened_all_the_same():
    older = replace(NARROW, softening=1.0)
    assert can_widen(older, WIDE)
    weights = DrumTransformer(older).state_dict()
    assert widened(weights, older, WIDE).keys() == weights.keys()
