"""Clips of recordings: reproducible crops at the right place, and what the labels of a corpus may teach."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from corpus_folders import MAKERS

from ghostnote.models.config import PRESETS
from ghostnote.models.corpora import Label, Recording, Source, open_corpus
from ghostnote.models.corpora.audio import load_audio
from ghostnote.models.corpora.recording import covering
from ghostnote.models.data.recipe import RenderRecipe
from ghostnote.models.data.recorded import MixedBatches, RecordedClips
from ghostnote.models.training.loss import make_targets
from ghostnote.runtime.errors import InputError, UsageError
from ghostnote.runtime.vocabulary import CODES, index_of

CONFIG = PRESETS["tiny"]
TOKENS = CONFIG.layers * CONFIG.window_tokens + 8
CLIP_S = TOKENS / CONFIG.tokens_per_second


def clicks(path: Path, times_s: list[float], seconds: float, rate: int = 44100) -> Path:
    """A file with one-sample clicks at these times."""
    audio = np.zeros(round(seconds * rate), np.float32)
    for time_s in times_s:
        audio[round(time_s * rate)] = 0.9
    soundfile.write(path, audio, rate, subtype="FLOAT")
    return path


def recording(path: Path, labels: list[Label], labelled: frozenset[str], tolerance_s: float = 0.01) -> Recording:
    return Recording("track", {"drums": (Source(path),)}, partial(list, labels), labelled, tolerance_s, "none")


def targets_at(batch: dict[str, torch.Tensor], time_s: float, delay_ms: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Onset targets and weights [C] of the first clip at the frame of `time_s`, heard with the shortest delay."""
    batch = {**batch, "delay": torch.zeros_like(batch["delay"])}
    frames = TOKENS * CONFIG.frames_per_token
    targets = make_targets(batch, CONFIG, frames)
    frame = int((time_s * 1000 + CONFIG.delays_ms[0] + delay_ms) / CONFIG.frame_ms)
    return targets.onset[0, frame], targets.weight[0, frame]


@pytest.mark.parametrize("rate", [44100, 48000, 16000, 22050])
def test_crops_lie_where_they_say_at_every_rate(tmp_path: Path, rate: int) -> None:
    path = clicks(tmp_path / "x.wav", [1.0, 1.5], 2.0, rate)
    whole = load_audio([Source(path)], 44100, 0, 2 * 44100)
    for second in (1.0, 1.5):
        peak = round(second * 44100) - 400 + int(np.argmax(np.abs(whole[round(second * 44100) - 400 :][:800])))
        assert abs(peak - second * 44100) <= 1
    for start in (0, 1, 12345, 40000):
        piece = load_audio([Source(path, 0.5)], 44100, start, 30000)
        np.testing.assert_allclose(piece, 0.5 * whole[start : start + 30000], atol=2e-3)
    after = load_audio([Source(path)], 44100, 2 * 44100 - 100, 1000)
    assert after.shape == (1000,)
    assert not after[300:].any()


@pytest.mark.parametrize("late_s", [0.0, 0.01, -0.01])
def test_crops_begin_before_attacks_where_the_recipe_says_so(tmp_path: Path, late_s: float) -> None:
    """Labels may lie beside their attacks, as much as the corpus says: no attack is cut off."""
    times, tolerance_s = [0.11 + 0.25 * k for k in range(40)], abs(late_s)
    path = clicks(tmp_path / "x.wav", times, 10.1)
    track = recording(path, [Label(t + late_s, "SD", 0.5) for t in times], covering(*CODES), tolerance_s)
    stages = {"beginning": {"share": 1.0, "latest_s": 0.5, "lead_ms": [0, 3]}}
    batch = RecordedClips(CONFIG, [track], clips=4, tokens=TOKENS, recipe=RenderRecipe("beginning", stages))[0]
    assert batch["audio"].shape == (4, TOKENS * CONFIG.samples_per_token)
    for audio, t, c, ignored in zip(*(batch[k] for k in ("audio", "times", "classes", "ignored")), strict=True):
        struck = t[(c == index_of("SD")) & ~ignored]
        heard = torch.nonzero(audio > 0.5)[:, 0] / 44100
        inside = min(len(struck), len(heard))  # one of the last pair may lie behind the end
        assert inside > 0
        torch.testing.assert_close(struck[:inside], heard[:inside].float() + late_s, atol=1e-4, rtol=0)
        assert 0 <= struck.min() <= tolerance_s + 0.003 + 1e-4
        assert (t[c >= 0] >= 0).all()


def test_no_crop_begins_behind_what_may_have_been_struck(tmp_path: Path) -> None:
    """A coarse label 30 ms before every attack: its sound would be cut off, and its ring learnt as silence."""
    times = [0.11 + 0.25 * k for k in range(40)]
    path = clicks(tmp_path / "x.wav", times, 10.1)
    labels = [Label(t - 0.03 * hat, "HH" if hat else "SD", 0.5) for t in times for hat in (True, False)]
    stages = {"beginning": {"share": 1.0, "latest_s": 0.5, "lead_ms": [0, 3]}}
    clips = RecordedClips(CONFIG, [recording(path, labels, covering(*CODES))], clips=16, tokens=TOKENS)
    clips.recipe = RenderRecipe("beginning", stages)
    for t, c, ignored in zip(*(clips[0][k] for k in ("times", "classes", "ignored")), strict=True):
        assert t[(c == index_of("SD")) & ~ignored].min() > 0.013  # else one begins at a snare


def test_labels_behind_the_end_of_a_short_recording_teach_nothing(tmp_path: Path) -> None:
    path = clicks(tmp_path / "x.wav", [0.2], 0.5)
    track = recording(path, [Label(0.2, "SD"), Label(0.8, "SD")], covering(*CODES))
    batch = RecordedClips(CONFIG, [track], clips=1, tokens=TOKENS)[0]
    assert batch["times"][0][(batch["classes"][0] >= 0) & ~batch["ignored"][0]].tolist() == pytest.approx([0.2])


def test_noise_is_as_loud_beside_a_quiet_recording_as_beside_a_loud_one(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", 0.5 * np.sin(np.arange(3 * 44100) * 0.05), 44100, subtype="FLOAT")
    quiet, _ = soundfile.read(tmp_path / "x.wav", dtype="float32")
    soundfile.write(tmp_path / "y.wav", quiet * 1e-2, 44100, subtype="FLOAT")
    heard = []
    for name in ("x.wav", "y.wav"):
        track = recording(tmp_path / name, [], covering(*CODES))
        recipe = RenderRecipe.load("production").without("reuse", "beginning")
        heard.append(RecordedClips(CONFIG, [track], clips=4, tokens=TOKENS, recipe=recipe)[0]["audio"])
    torch.testing.assert_close(*heard, atol=1e-3, rtol=1e-3)


def test_snares_of_adtof_are_no_negatives_of_what_it_files_with_them(tmp_path: Path) -> None:
    path = clicks(tmp_path / "x.wav", [0.3], 0.6)
    track = replace(recording(path, [Label(0.3, "SD")], covering("SD")), adtof=True)
    batch = RecordedClips(CONFIG, [track], clips=1, tokens=TOKENS)[0]
    onset, weight = targets_at(batch, 0.3)
    assert onset[index_of("SD")] == 1
    assert weight[[index_of("SS"), index_of("CLP")]].tolist() == [0, 0]


def test_labels_move_with_the_crop(tmp_path: Path) -> None:
    times = [0.11 + 0.25 * k for k in range(40)]
    path = clicks(tmp_path / "x.wav", times, 10.1)
    track = recording(path, [Label(t, "SD", 0.5) for t in times], covering(*CODES))
    data = RecordedClips(CONFIG, [track], clips=4, tokens=TOKENS)
    for index in range(3):
        batch = data[index]
        assert batch["audio"].shape == (4, TOKENS * CONFIG.samples_per_token)
        for audio, t, c, ignored in zip(*(batch[k] for k in ("audio", "times", "classes", "ignored")), strict=True):
            struck = t[(c == index_of("SD")) & ~ignored]
            heard = torch.nonzero(audio > 0.5)[:, 0] / 44100
            assert len(struck) >= int(CLIP_S / 0.25) - 1
            torch.testing.assert_close(struck, heard.float(), atol=1e-4, rtol=0)


def test_batches_repeat_and_shares_add_up(tmp_path: Path) -> None:
    tracks = open_corpus("enst", MAKERS["enst"](tmp_path))
    whole = RecordedClips(CONFIG, tracks, clips=4, tokens=TOKENS, seed=3)
    again = RecordedClips(CONFIG, tracks, clips=4, tokens=TOKENS, seed=3)
    _ = again[5]
    shares = [RecordedClips(CONFIG, tracks, clips=4, tokens=TOKENS, seed=3, rank=r, world=2)[2] for r in range(2)]
    for name, values in whole[2].items():
        torch.testing.assert_close(again[2][name], values, equal_nan=True)
        if name not in ("times", "classes", "velocities", "ignored"):  # as wide as the fullest clip of the share
            torch.testing.assert_close(torch.cat([share[name] for share in shares]), values)
    other = RecordedClips(CONFIG, tracks, clips=4, tokens=TOKENS, seed=4)
    assert any(not torch.equal(other[i]["delay"], whole[i]["delay"]) for i in range(5))


def test_the_form_is_that_of_rendered_batches(tmp_path: Path) -> None:
    from ghostnote.models.data.dataset import RenderedBatches, Sources

    rendered = RenderedBatches(CONFIG, Sources(), clips=1, tokens=TOKENS)[0]
    recorded = RecordedClips(CONFIG, open_corpus("gmd", MAKERS["gmd"](tmp_path)), clips=1, tokens=TOKENS)[0]
    assert recorded.keys() == rendered.keys()
    for name, values in recorded.items():
        assert (values.dtype, values.ndim) == (rendered[name].dtype, rendered[name].ndim), name
    assert rendered["exact"].all()
    assert not recorded["exact"].any()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_batches_is_recordings_in_every_process_alike(tmp_path: Path, share: float) -> None:
    tracks = open_corpus("idmt", MAKERS["idmt"](tmp_path))
    rendered = [{"from": "a render"}] * 2000  # stands for RenderedBatches
    ranks = [
        MixedBatches(rendered, RecordedClips(CONFIG, tracks, clips=2, tokens=TOKENS, seed=5, rank=r, world=2), share)
        for r in (0, 1)
    ]
    drawn = [[mixed.is_recorded(i) for i in range(2000)] for mixed in ranks]
    assert drawn[0] == drawn[1]
    assert sum(drawn[0]) / 2000 == pytest.approx(share, abs=0.04)
    for index in range(4):
        assert ("audio" in ranks[0][index]) == drawn[0][index]
    other = MixedBatches(rendered, RecordedClips(CONFIG, tracks, clips=2, tokens=TOKENS, seed=6), share)
    assert ([other.is_recorded(i) for i in range(2000)] == drawn[0]) == (share in (0, 1))


def test_coarse_labels_teach_silence_but_not_which_member(tmp_path: Path) -> None:
    path = clicks(tmp_path / "x.wav", [], CLIP_S)
    labels = [Label(0.3, "BD"), Label(0.5, "HH")]
    batch = RecordedClips(CONFIG, [recording(path, labels, covering("BD", "SD", "HH"), 0.02)], clips=1, tokens=TOKENS)[
        0
    ]
    hats = [index_of(code) for code in ("CHH", "PHH", "OHH")]
    onset, weight = targets_at(batch, 0.5)
    assert not onset[hats].any()
    assert not weight[hats].any()  # neither a positive nor a negative
    assert weight[index_of("SD")] > 0
    onset, weight = targets_at(batch, 0.3)
    assert onset[index_of("BD")] == 1
    assert (weight[hats] > 0).all()  # no hi-hat was struck here
    unlabelled = [index_of(code) for code in CODES if code not in ("BD", "SD", "CHH", "PHH", "OHH")]
    for time_s in (0.1, 0.3, 0.5):
        assert not targets_at(batch, time_s)[1][unlabelled].any()
    assert batch["velocities"][~batch["ignored"] & (batch["classes"] >= 0)].isnan().all()


def test_members_filed_under_another_code_are_in_doubt_at_its_hits(tmp_path: Path) -> None:
    path = clicks(tmp_path / "x.wav", [], CLIP_S)
    labelled = covering("CHH", "OHH", "HH")  # ENST: pedal strokes are among the closed ones
    batch = RecordedClips(CONFIG, [recording(path, [Label(0.5, "CHH")], labelled)], clips=1, tokens=TOKENS)[0]
    onset, weight = targets_at(batch, 0.5)
    assert onset[index_of("CHH")] == 1
    assert weight[index_of("PHH")] == 0
    assert weight[index_of("OHH")] > 0
    assert targets_at(batch, 0.2)[1][index_of("PHH")] > 0


@pytest.mark.parametrize(("tolerance_s", "free_frames"), [(0.01, 1), (0.02, 2), (0.04, 4)])
def test_frames_within_the_tolerance_are_free(tmp_path: Path, tolerance_s: float, free_frames: int) -> None:
    path = clicks(tmp_path / "x.wav", [], CLIP_S)
    track = recording(path, [Label(0.505, "SD", 0.8)], covering(*CODES), tolerance_s)
    batch = RecordedClips(CONFIG, [track], clips=1, tokens=TOKENS)[0]
    snare = index_of("SD")
    for step in range(-free_frames - 2, free_frames + 3):
        onset, weight = (values[snare] for values in targets_at(batch, 0.505, round(step * CONFIG.frame_ms)))
        assert onset == float(step == 0)
        assert (weight == 0) == (0 < abs(step) <= free_frames), step


def test_a_hit_just_outside_the_clip_is_ignored_inside(tmp_path: Path) -> None:
    path = clicks(tmp_path / "x.wav", [], CLIP_S)
    track = recording(path, [Label(CLIP_S + 0.01, "SD")], covering(*CODES), 0.02)
    batch = RecordedClips(CONFIG, [track], clips=1, tokens=TOKENS)[0]
    assert batch["ignored"].all()
    assert (batch["times"] < CLIP_S).all()
    assert batch["times"].max() > CLIP_S - 0.02


def test_recordings_shorter_than_a_clip_end_in_silence(tmp_path: Path) -> None:
    path = clicks(tmp_path / "x.wav", [0.1], 0.2)
    batch = RecordedClips(CONFIG, [recording(path, [], covering("BD"))], clips=1, tokens=TOKENS)[0]
    assert batch["audio"][0, 4410] > 0.8
    assert not batch["audio"][0, 8821:].any()
    assert (batch["classes"] == -1).all()


def test_mixes_are_added_up(tmp_path: Path) -> None:
    tracks = open_corpus("enst", MAKERS["enst"](tmp_path), "drummer_3")
    audio = RecordedClips(CONFIG, tracks, clips=1, tokens=TOKENS, kinds=("mix",))[0]["audio"]
    assert audio[0, :8000].mean() == pytest.approx(0.25, abs=1e-3)  # .6 and .4 of files at .25


def test_what_may_not_be_trained_on_is_refused(tmp_path: Path) -> None:
    tracks = open_corpus("mdb", MAKERS["mdb"](tmp_path))
    with pytest.raises(UsageError, match="evaluation only"):
        RecordedClips(CONFIG, tracks, clips=1, tokens=TOKENS)
    allowed = open_corpus("idmt", MAKERS["idmt"](tmp_path / "idmt"))
    with pytest.raises(UsageError, match="evaluation only"):
        RecordedClips(CONFIG, [*allowed, *tracks], clips=1, tokens=TOKENS)


def test_what_cannot_work_is_said_at_once(tmp_path: Path) -> None:
    tracks = open_corpus("idmt", MAKERS["idmt"](tmp_path))
    with pytest.raises(UsageError, match="multiple"):
        RecordedClips(CONFIG, tracks, clips=3, tokens=TOKENS, world=2)
    with pytest.raises(InputError, match="no recordings with mix"):
        RecordedClips(CONFIG, tracks, clips=1, tokens=TOKENS, kinds=("mix",))
    broken = replace(tracks[0], audio={"drums": (Source(tmp_path / "annotation_xml" / "RealDrum01_00#MIX.xml"),)})
    with pytest.raises(InputError, match="RealDrum01_00"):
        RecordedClips(CONFIG, [broken], clips=1, tokens=TOKENS)


def test_the_loss_of_a_recorded_batch_is_finite(tmp_path: Path) -> None:
    from ghostnote.models.training.loss import transcription_losses
    from ghostnote.models.transformer import StepOutput

    batch = RecordedClips(CONFIG, open_corpus("idmt", MAKERS["idmt"](tmp_path)), clips=2, tokens=TOKENS)[0]
    frames = TOKENS * CONFIG.frames_per_token
    outputs = [torch.zeros(2, frames, len(CODES), requires_grad=True) for _ in range(3)]
    losses = transcription_losses(StepOutput(*outputs, ()), make_targets(batch, CONFIG, frames), CONFIG)
    total = sum(losses)
    total.backward()
    assert math.isfinite(total.item())
    assert losses.offset == 0  # hand labels say nothing about the place inside a frame
    assert all(output.grad is None or output.grad.isfinite().all() for output in outputs)
