"""The whole-file baseline runs in the same loop, on the same frames, and is never taken for the streaming model."""

import numpy as np
import pytest
import torch
from bursts import make_batch

from ghostnote.models import checkpoint as checkpoints
from ghostnote.models.baselines import onsets_and_frames as oaf
from ghostnote.models.checkpoint import Checkpoint
from ghostnote.models.config import PRESETS
from ghostnote.models.data.dataset import Sources
from ghostnote.models.training.steps import Recipe
from ghostnote.models.training.trainer import Trainer
from ghostnote.models.whole_file import whole_outputs
from ghostnote.runtime.decoder import decode
from ghostnote.runtime.errors import InputError, UsageError

TINY = oaf.PRESETS["tiny"]
RECIPE = Recipe(steps=3, clips=2, tokens=24, warmup_steps=2, validation_every=2, validation_batches=1)


@pytest.fixture
def model() -> oaf.OnsetsAndFrames:
    torch.manual_seed(0)
    return oaf.OnsetsAndFrames(TINY).eval()


def test_its_frames_are_the_streaming_models(model):
    audio = torch.zeros(2, 30 * TINY.samples_per_token)
    outputs = model.whole(audio, 0)
    wanted = (2, 30 * PRESETS["tiny"].frames_per_token, 18)
    assert [tuple(value.shape) for value in outputs] == [wanted] * 3


def test_a_window_lies_about_the_centre_of_its_frame(model):
    audio = torch.zeros(1, 40 * TINY.samples_per_frame)
    audio[0, 20 * TINY.samples_per_frame + TINY.samples_per_frame // 2] = 1.0
    level = model._spectrogram(model._padded(audio)).mean(2)[0]
    assert int(level.argmax()) == 20
    assert torch.allclose(level[20 - 2 : 20], level[20 + 1 : 20 + 3].flip(0), atol=1e-2)


def test_a_file_read_in_pieces_is_the_file(model):
    padded = model._padded(torch.randn(1, 100 * TINY.samples_per_frame))
    with torch.no_grad():
        whole, pieces = model._outputs(padded, 1000), model._outputs(padded, 17)
    for a, b in zip(whole, pieces, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_it_hears_the_end_before_it_answers(model):
    audio = torch.zeros(1, 12 * TINY.samples_per_frame)
    later = audio.clone()
    later[0, -441:] = torch.randn(441)
    with torch.no_grad():
        difference = (model.whole(audio, 0).onset_logits - model.whole(later, 0).onset_logits).abs()
    assert float(difference[0, 0].max()) > 0


def test_published_size():
    parameters = {name: sum(p.numel() for p in oaf.OnsetsAndFrames(c).parameters()) for name, c in oaf.PRESETS.items()}
    assert round(parameters["base"] / 1e6, 2) == 1.20
    assert round(parameters["large"] / 1e6, 2) == 3.58


def test_it_learns():
    torch.manual_seed(0)
    step = oaf.OnsetsAndFramesStep(TINY, Recipe())
    batch = make_batch(delay=0)
    optimizer = torch.optim.AdamW(step.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        parts = step(batch)
        losses.append(float(parts["loss"].detach()))
        parts["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert set(parts) == {"loss", "onset", "parent", "velocity"}
    assert losses[-1] < 0.8 * losses[0]


def test_the_loop_trains_and_resumes_it_and_its_checkpoint_says_what_it_is(tmp_path):
    def trainer(name):
        return Trainer(TINY, RECIPE, Sources(), tmp_path / name, {})

    trainer("whole").run()
    trainer("halves").run(max_minutes=1e-6)
    trainer("halves").run()
    a, b = (checkpoints.load(tmp_path / name / "last.pt", kind=None) for name in ("whole", "halves"))
    assert all(torch.equal(value, b.weights[name]) for name, value in a.weights.items())
    assert isinstance(a.model(), oaf.OnsetsAndFrames)
    assert a.config == TINY
    with pytest.raises(UsageError, match="another model shape"):
        Trainer(PRESETS["tiny"], RECIPE, Sources(), tmp_path / "whole", {})
    with pytest.raises(UsageError, match="kind onsets-and-frames"):
        Trainer(PRESETS["tiny"], RECIPE, Sources(), tmp_path / "other", {}, a)


def test_where_a_streaming_model_is_expected_it_is_refused(tmp_path):
    from ghostnote.export.command import export

    path = tmp_path / "baseline.pt"
    checkpoints.save(path, Checkpoint(TINY, oaf.OnsetsAndFrames(TINY).state_dict()))
    for refuses in (checkpoints.load, export):
        with pytest.raises(InputError, match="holds a model of kind onsets-and-frames, expected drum-transformer"):
            refuses(path)
    assert not path.with_suffix(".onnx").exists()


def test_hits_of_a_whole_file(model):
    with torch.no_grad():
        model.onset_head.weight.mul_(8)
        model.onset_head.bias.fill_(-1)
    checkpoint = Checkpoint(TINY, model.state_dict())
    audio = make_batch(clips=1)["audio"][0].numpy()
    (outputs,) = whole_outputs(checkpoint.model(), torch.from_numpy(audio)[None], 0)
    hits = decode(*outputs, checkpoint.manifest(), 0, len(audio) / 44100)
    assert hits == sorted(hits, key=lambda hit: hit.time_s)
    assert hits
    assert all(0 <= hit.time_s < len(audio) / 44100 for hit in hits)
    # Without an offset head, every hit lies at the centre of a frame.
    assert np.allclose([(hit.time_s * 100) % 1 for hit in hits], 0.5, atol=1e-6)
    assert checkpoint.manifest().notes
