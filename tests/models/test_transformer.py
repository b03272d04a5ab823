"""The network: shapes, budgets, what depends on what. The streaming laws are in tests/test_laws.py."""

import math
from dataclasses import replace

import pytest
import torch

from ghostnote.models.arithmetic import gflop_per_second
from ghostnote.models.config import PRESETS, ModelConfig
from ghostnote.models.frontend import (
    LEVEL_SCALE,
    AttackView,
    ToneView,
    WaveView,
    faded_sums,
    frames,
    tail_samples,
)
from ghostnote.models.transformer import VIEWS, DrumTransformer, state_shapes


@pytest.fixture(scope="module")
def model() -> DrumTransformer:
    torch.manual_seed(0)
    return DrumTransformer(PRESETS["tiny"]).eval()


def test_presets_differ_in_width_and_depth_only():
    shape = {"name", "width", "layers", "heads", "view_width"}
    common = [{k: v for k, v in PRESETS[n].to_dict().items() if k not in shape} for n in ("small", "base", "large")]
    assert common[0] == common[1] == common[2]


def test_config_survives_plain_data():
    assert ModelConfig.from_dict(PRESETS["base"].to_dict()) == PRESETS["base"]


@pytest.mark.parametrize(
    "change", [{"width": 33}, {"attack_hop": 300}, {"delays_ms": (15,)}], ids=["heads", "hop", "delay"]
)
def test_impossible_shapes_are_refused(change):
    with pytest.raises(ValueError, match=r"not a multiple|whole frames"):
        ModelConfig(**change)


@pytest.mark.parametrize(("preset", "budget"), [("small", 0.25), ("base", 0.5)])
def test_arithmetic_is_within_budget(preset, budget):
    parts = gflop_per_second(PRESETS[preset])
    assert parts["total"] <= budget
    assert sum(parts[f"view {name}"] for name in VIEWS) <= 0.15
    assert parts["total"] == pytest.approx(sum(value for name, value in parts.items() if name != "total"))


def test_frames_are_the_windows_they_say():
    x = torch.arange(100.0)[None]
    cut = frames(x, 16, 7, skip=3)
    assert torch.equal(cut, x[:, 3:].unfold(1, 16, 7))


def test_state_names_can_be_paired_by_sorted_order():
    # A serving runtime pairs inputs and outputs by sorted name, and matches kinds by prefix.
    names = list(state_shapes(PRESETS["tiny"]))
    assert [name.removesuffix("_out") for name in sorted(f"{name}_out" for name in names)] == sorted(names)
    assert not any(a != b and b.startswith(a) for a in names for b in names)


@pytest.mark.parametrize("view", [ToneView, AttackView, WaveView])
def test_a_view_hears_its_own_token_and_no_later_one(view):
    config = PRESETS["tiny"]
    layer = view(config)
    silence = torch.zeros(1, tail_samples(config) + 3 * config.samples_per_token)
    changed = silence.clone()
    changed[0, -2 * config.samples_per_token + 400] = 1.0  # in token 1 of 0..2
    state = [torch.zeros(1, 2, config.attack_bands)] if view is AttackView else []
    quiet, struck = (layer(audio, *state) for audio in (silence, changed))
    if state:
        (quiet, _), (struck, _) = quiet, struck
    moved = (struck - quiet).abs().amax(2)[0] > 1e-4
    assert moved.tolist()[:2] == [False, True]


def test_faded_sums_are_those_of_a_loop():
    x = torch.rand(2, 9, 3)
    expected = [x[:, 0]]
    for t in range(1, 9):
        expected.append(x[:, t] + 0.8 * expected[-1])
    assert torch.allclose(faded_sums(x, 0.8), torch.stack(expected, 1), atol=1e-6)
    # Long past where powers of the fading could be divided by.
    assert faded_sums(torch.ones(1, 3000, 1), 0.8)[0, -1] == pytest.approx(5)


def attack_levels(softening: float, audio: torch.Tensor) -> torch.Tensor:
    """Levels of the attack view from silence on, scaled as they enter the network: [T, windows, bands]."""
    config = replace(PRESETS["tiny"], softening=softening)
    layer = AttackView(config)
    heard = torch.nn.functional.pad(audio, (tail_samples(config), 0))[None]
    features, _ = layer(heard, torch.zeros(1, 2, config.attack_bands))
    return features[0].unflatten(1, (layer.per_token, 2, -1))[:, :, 0]


def test_what_sustains_is_softened_in_the_attack_view_and_strokes_are_not():
    t = torch.arange(60 * 882) / 44100
    tone = 0.3 * torch.sin(2 * torch.pi * 1000 * t)
    stroke = torch.zeros_like(tone)
    stroke[50 * 882 + 300 : 50 * 882 + 700] = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 0.3
    for audio, least_db, most_db in ((tone, 3.3, 4.2), (stroke, -0.1, 0.1)):
        plain, softened = (attack_levels(softening, audio)[50].max() for softening in (1.0, 0.3))
        assert least_db < (plain - softened) / LEVEL_SCALE * 10 / math.log(10) < most_db


def test_a_model_that_was_trained_without_softening_hears_as_it_did():
    older = {key: value for key, value in PRESETS["tiny"].to_dict().items() if key != "softening"}
    assert ModelConfig.from_dict(older).softening == 1.0
    with pytest.raises(ValueError, match="softening 0 must be above 0"):
        replace(PRESETS["tiny"], softening=0)


def test_tone_view_finds_the_frequency():
    config = PRESETS["tiny"]
    layer = ToneView(config)
    t = torch.arange(tail_samples(config) + config.samples_per_token) / config.sample_rate
    bands = layer.features // (2 * layer.per_token)
    peaks = [layer(torch.sin(2 * torch.pi * f * t)[None])[0, -1, :bands].argmax().item() for f in (60.0, 200.0, 400.0)]
    assert peaks == [round(f / (4900 / 256)) - 1 for f in (60.0, 200.0, 400.0)]


def test_decimation_keeps_out_what_would_alias():
    config = PRESETS["tiny"]
    layer = ToneView(config)
    t = torch.arange(tail_samples(config) + config.samples_per_token) / config.sample_rate
    bands = layer.features // (2 * layer.per_token)
    level = {f: layer(torch.sin(2 * torch.pi * f * t)[None])[0, -1, :bands].max().item() for f in (500.0, 5300.0)}
    assert level[500.0] - level[5300.0] > 0.2 * 2.302 * 4  # 40 dB


def test_offsets_and_velocities_stay_in_range(model):
    audio = torch.randn(2, 20 * 882) * 3
    output = model(audio, torch.tensor([[0], [5]]), *model.zero_state(2))
    assert output.onset_logits.shape == output.velocity.shape == output.offset.shape == (2, 40, 18)
    assert output.velocity.min() >= 0
    assert output.velocity.max() <= 1
    assert output.offset.min() >= -0.5
    assert output.offset.max() <= 1.5


def test_the_delay_matters(model):
    audio = torch.randn(1, 20 * 882) * 0.1
    a, b = (model(audio, torch.tensor([[d]]), *model.zero_state(1)).onset_logits for d in (0, 4))
    assert not torch.allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("view", range(3))
def test_every_view_matters(model, view):
    audio = torch.randn(1, 10 * 882) * 0.1
    state_audio, state_attack, *others = model.zero_state(1)
    latents, *_ = model.encode(audio, state_audio, state_attack)
    kept = torch.ones(1, 1, 3, 1)
    kept[0, 0, view] = 0
    full, without = (model.read(x, torch.tensor([[3]]), *others) for x in (latents, latents * kept))
    assert not torch.allclose(full.onset_logits, without.onset_logits, atol=1e-4)


def test_a_clip_read_in_windows_gives_the_numbers_of_a_stream(model):
    """Training reads whole clips window by window; users stream."""
    config = model.config
    tokens = 3 * config.window_tokens
    latents = torch.randn(2, tokens, len(VIEWS), config.view_width)
    delay, state = torch.tensor([[0], [1]]), model.zero_state(2)[2:]
    with torch.inference_mode():
        whole = model.read(latents, delay, *state, in_windows=True)
        outputs = []
        for chunk in latents.split([1, 7, config.window_tokens, tokens - config.window_tokens - 8], dim=1):
            step = model.read(chunk, delay, *state)
            state = step.states
            outputs.append(step.onset_logits)
    assert torch.allclose(whole.onset_logits, torch.cat(outputs, dim=1), atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(whole.states, state, strict=True))
