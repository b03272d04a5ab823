"""What a training step computes: teachers moved to the student's delay, ablation switches, mixed precision."""

from dataclasses import replace

import pytest
import torch
from bursts import make_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostnote.models.config import PRESETS, VIEWS, ModelConfig
from ghostnote.models.training.loss import make_targets
from ghostnote.models.training.steps import Recipe, TrainingStep, distillation_loss, shifted
from ghostnote.models.transformer import DrumTransformer, Outputs

TINY = PRESETS["tiny"]
RECIPE = Recipe()
FRAMES = 60


class KnowsEverything(torch.nn.Module):
    """A teacher that is sure of every hit of a batch at its own largest delay, and of nothing else."""

    def __init__(self, batch):
        super().__init__()
        self.config, self.batch = TINY, batch

    def whole(self, audio, delay):
        frames = audio.shape[1] // TINY.samples_per_frame
        onset = make_targets({**self.batch, "delay": torch.full((len(audio), 1), delay)}, TINY, frames).onset
        logits = 40 * onset - 20
        return Outputs(logits, torch.zeros_like(logits), torch.zeros_like(logits))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 1000))
def test_a_teacher_is_moved_to_the_students_delay(teacher, student, seed):
    batch = make_batch(seed=seed)
    at = {index: make_targets({**batch, "delay": torch.full((2, 1), index)}, TINY, FRAMES) for index in range(6)}
    delays = torch.full((2,), TINY.delay_frames(student))
    moved, known = shifted(at[teacher].onset, TINY.delay_frames(teacher), delays)
    assert torch.equal(moved[known], at[student].onset[known])
    gap = max(0, TINY.delay_frames(teacher) - TINY.delay_frames(student))
    assert known.sum(1).tolist() == [FRAMES - TINY.delay_frames(student) - gap] * 2


def test_who_says_what_the_teacher_says_has_no_distillation_loss():
    batch = make_batch(delay=2)
    teacher = KnowsEverything(batch)
    truth = 40 * make_targets(batch, TINY, FRAMES).onset - 20
    heard = Outputs(truth, truth, truth)
    assert float(distillation_loss(heard, batch, TINY, teacher)) < 1e-5
    late = Outputs(truth.roll(1, dims=1), truth, truth)
    assert float(distillation_loss(late, batch, TINY, teacher)) > 10


def test_a_student_learns_from_its_teacher():
    torch.manual_seed(0)
    batch = make_batch()
    step = TrainingStep(TINY, replace(RECIPE, distillation_weight=3.0), KnowsEverything(batch))
    optimizer = torch.optim.AdamW(step.parameters(), 3e-3)
    losses = []
    for _ in range(20):
        parts = step(batch)
        losses.append(float(parts["distillation"].detach()))
        parts["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.8 * losses[0]


def test_a_teacher_is_neither_trained_nor_saved():
    teacher = DrumTransformer(TINY)
    step = TrainingStep(TINY, RECIPE, teacher)
    step(make_batch())["loss"].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert step.state_dict().keys() == TrainingStep(TINY, RECIPE).state_dict().keys()


@pytest.mark.parametrize("view", VIEWS)
def test_a_single_view_is_never_dropped_and_has_nothing_to_align(view):
    config = replace(TINY, views=(view,))
    torch.manual_seed(0)
    step = TrainingStep(config, RECIPE)
    assert list(step.model.views) == [view]
    with torch.no_grad():
        heard, dropped = (step(make_batch(dropped=number)) for number in (-1, VIEWS.index(view)))
    assert "alignment" not in heard
    assert torch.equal(heard["loss"], dropped["loss"])


def test_view_dropout_can_be_switched_off():
    torch.manual_seed(0)
    step = TrainingStep(TINY, RECIPE)
    with torch.no_grad():
        whole, dropped = (float(step(make_batch(dropped=number))["onset"]) for number in (-1, 0))
        step.recipe = replace(RECIPE, view_dropout=False)
        kept = float(step(make_batch(dropped=0))["onset"])
    assert dropped != whole == kept


def test_concatenated_views_have_neither_attention_nor_gate():
    model = DrumTransformer(replace(TINY, fusion="concatenation"))
    assert [name for name, _ in model.fusion.named_parameters()] == ["project.weight", "project.bias"]
    assert model.whole(torch.zeros(1, 8820), 0).onset_logits.shape == (1, 20, 18)


def test_without_the_subframe_head_hits_lie_at_the_centre_of_their_frame():
    config = replace(TINY, subframe=False)
    step = TrainingStep(config, RECIPE)
    assert not step.model.whole(torch.randn(1, 8820), 0).offset.any()
    assert "offset" not in step(make_batch())


@pytest.mark.parametrize("change", [{"views": ()}, {"views": ("wave", "tone")}, {"fusion": "sum"}])
def test_impossible_switches_are_refused(change):
    with pytest.raises(ValueError, match="must be"):
        ModelConfig(**change)


def test_half_precision_leaves_frontend_and_loss_in_float32():
    torch.manual_seed(0)
    step = TrainingStep(TINY, RECIPE)
    seen = {}
    step.model.encoders["tone"].register_forward_hook(lambda module, inputs, out: seen.update(latent=out.dtype))
    step.model.head.register_forward_hook(lambda module, inputs, out: seen.update(head=out.dtype))
    with torch.no_grad():
        exact = step(make_batch())
        with torch.autocast("cpu", torch.bfloat16):
            half = step(make_batch())
    assert seen == {"latent": torch.float32, "head": torch.bfloat16}
    assert half["loss"].dtype == torch.float32
    assert float(half["loss"]) == pytest.approx(float(exact["loss"]), rel=0.02)
