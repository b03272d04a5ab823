"""Thresholds are chosen where F is best, with the decoder that users run."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from tiny import tiny_checkpoint
from typer.testing import CliRunner

from ghostnote.cli import app
from ghostnote.models import checkpoint as checkpoints
from ghostnote.models import thresholds
from ghostnote.models.data.dataset import RenderedBatches, Sources
from ghostnote.models.torch_engine import TorchEngine
from ghostnote.models.whole_file import whole_outputs
from ghostnote.runtime.events import Hit
from ghostnote.runtime.streams.stream import StreamingTranscriber
from ghostnote.runtime.vocabulary import PARENTS

RATE = 44100


def test_one_threshold_is_best_for_all_and_a_parent_may_only_raise_it():
    counts = np.zeros((3, 4, 3), int)
    counts[:, 0] = [(50, 100, 80), (60, 80, 80), (30, 35, 80)]  # best: the second, as for all together
    counts[:, 1] = [(5, 5, 5), (2, 2, 5), (0, 0, 5)]  # best alone: the first, but of five hits
    counts[:, 2] = [(50, 60, 60), (40, 42, 60), (20, 20, 60)]  # best alone: the first, which is lower
    counts[:, 3] = [(40, 90, 45), (40, 70, 45), (39, 42, 45)]  # best alone: the third
    assert thresholds._best(counts).tolist() == [1, 1, 1, 2]


def test_an_estimate_at_a_hit_that_cannot_be_heard_is_no_mistake():
    snare = next(p for p, parent in enumerate(PARENTS) if parent == ("SD",))
    hits = [[Hit(t, "SD", 0.5, 0.9) for t in (1.0, 2.0, 3.0)]]
    counts = thresholds._counts(hits, [[(1.0, "SD")]], [[(2.01, "SD"), (3.2, "SD")]])
    assert counts[snare].tolist() == [1, 2, 1]


def test_leave_one_out_scores_a_track_at_the_others_choice():
    counts = np.zeros((2, 2, 1, 3), int)
    counts[0, :, 0] = [(10, 10, 10), (0, 10, 10)]  # the first threshold suits the first track only
    counts[1, :, 0] = [(0, 10, 10), (10, 10, 10)]  # and the second the second
    assert thresholds._leave_one_out(counts[None], np.array(["a", "b"]))[0, :, 0, 0].tolist() == [0, 0]


def test_all_delays_choose_one_threshold_together():
    counts = np.full((3, 2, 2, 1, 3), (5, 10, 10))
    counts[0, 0, :, 0] = counts[1:, 1, :, 0] = (9, 10, 10)  # one delay is best at the first, two at the second
    left_out = thresholds._leave_one_out(counts, np.array(["a", "b"]))
    assert left_out[:, :, 0, 0].tolist() == [[5, 5], [9, 9], [9, 9]]


def test_all_recordings_of_a_track_are_left_out_together():
    counts = np.zeros((2, 3, 1, 3), int)
    counts[0, :, 0] = [(10, 10, 10), (10, 10, 10), (0, 10, 10)]  # drums and mix of one track, drums of another
    counts[1, :, 0] = [(0, 10, 10), (0, 10, 10), (10, 10, 10)]
    left_out = thresholds._leave_one_out(counts[None], np.array(["a", "a", "b"]))
    assert left_out[0, :, 0, 0].tolist() == [0, 0, 0]


def test_outputs_are_those_of_the_stream():
    """Hits decoded from the whole-clip outputs are those of the streaming transcriber."""
    checkpoint = tiny_checkpoint()
    audio = RenderedBatches(checkpoint.config, Sources(), clips=1, tokens=100)[0]["audio"]
    manifest = checkpoint.manifest()
    outputs = whole_outputs(checkpoint.model(), audio, 3)[0]
    whole = thresholds.decode(*outputs, manifest, 3, audio.shape[1] / RATE)
    stream = StreamingTranscriber(TorchEngine.of(checkpoint), 3)
    hits = stream.feed(audio[0].numpy()) + stream.flush()
    assert len(whole) == len(hits) > 0
    assert np.allclose([h.time_s for h in whole], sorted(h.time_s for h in hits), atol=1e-4)


def test_renders_give_a_threshold_per_parent_and_delay():
    earlier = {"threshold_recordings": {}, "default_delay": 0, "velocity_r": 0.8}
    checkpoint = replace(tiny_checkpoint(), scores=earlier)
    batch = RenderedBatches(checkpoint.config, Sources(), clips=2, tokens=50, split="validation")[0]
    result = thresholds.calibrated(checkpoint, [batch])
    assert np.shape(result.thresholds) == (len(checkpoint.config.delays_ms), len(PARENTS))
    assert all(t in thresholds.GRID for row in result.thresholds for t in row)
    assert list(result.scores["validation_renders"]["pooled_f"]) == [f"{n} ms" for n in (40, 60, 80, 100, 150, 250)]
    assert set(result.scores) == {"validation_renders", "default_delay", "velocity_r"}  # none of other thresholds
    result.manifest()  # and the manifest takes them


def test_recordings_give_one_threshold_for_all_and_the_default_delay(tmp_path):
    batch = RenderedBatches(tiny_checkpoint().config, Sources(), clips=2, tokens=100, split="validation")[0]
    (tmp_path / "labels").mkdir()
    (tmp_path / "audio").mkdir()
    for i, name in enumerate("ab"):
        soundfile.write(
            tmp_path / "audio" / f"{name}.wav", batch["audio"][i, : 88000 - i].numpy(), RATE, subtype="FLOAT"
        )
        rows = [f"{t:.6f}\t36" for t, c in zip(batch["times"][i], batch["classes"][i], strict=True) if c >= 0]
        (tmp_path / "labels" / f"{name}.txt").write_text("\n".join(rows))
    checkpoints.save(tmp_path / "in.pt", tiny_checkpoint())
    command = ["calibrate", str(tmp_path / "in.pt"), "-o", str(tmp_path / "out.pt")]
    folders = ["--audio", str(tmp_path / "audio"), "--labels", str(tmp_path / "labels")]
    ran = CliRunner().invoke(app, [*command, *folders, "--licence", "CC0"], catch_exceptions=False)
    assert ran.exit_code == 0
    result = checkpoints.load(tmp_path / "out.pt")
    assert (tiny_checkpoint().manifest().licence, result.manifest().licence) == ("Apache-2.0", "CC0")
    assert len({threshold for row in result.thresholds for threshold in row}) == 1
    measured = result.scores["threshold_recordings"]
    assert measured["tracks"] == ["a", "b"]
    assert list(measured["by_folder"]) == ["audio, +-50 ms", "audio, +-25 ms"]
    scores = list(measured["pooled_f_leave_one_track_out"].values())
    assert list(measured["by_folder"]["audio, +-50 ms"].values()) == scores
    assert result.manifest().default_delay == int(np.argmax(scores))
    assert torch.equal(result.weights["head.bias"], tiny_checkpoint().weights["head.bias"])


def test_recordings_without_labels_are_refused(tmp_path):
    from ghostnote.models.calibration_command import calibrate
    from ghostnote.runtime.errors import UsageError

    with pytest.raises(UsageError, match="both --audio and --labels"):
        calibrate(tmp_path / "in.pt", tmp_path / "out.pt", audio=[tmp_path])


def test_recordings_that_cannot_be_calibrated_on(tmp_path):
    from ghostnote.models import checkpoint as checkpoints
    from ghostnote.models.calibration_command import calibrate
    from ghostnote.runtime.errors import InputError, OutputError, UsageError

    source, labels = tmp_path / "in.pt", tmp_path / "labels"
    checkpoints.save(source, tiny_checkpoint())
    for folder in ("labels", "audio", "more/audio"):
        (tmp_path / folder).mkdir(parents=True)
    (labels / "a.txt").write_text("0.5\tSD\n")
    with pytest.raises(InputError, match="audio: holds no recordings of a"):
        calibrate(source, tmp_path / "out.pt", audio=[tmp_path / "audio"], labels=labels)
    with pytest.raises(UsageError, match="two folders are called audio"):
        calibrate(source, tmp_path / "out.pt", audio=[tmp_path / "audio", tmp_path / "more/audio"], labels=labels)
    with pytest.raises(OutputError, match="no folder"):
        calibrate(source, tmp_path / "absent/out.pt", clips=8)


def test_a_single_track_has_no_score_of_others(monkeypatch):
    """Its threshold is its own best, and the figures say so; two takes of one track are one track."""
    counts = np.zeros((len(thresholds.GRID), 2, 2, 3), int)
    counts[:] = (10, 30, 10)
    counts[8] = (10, 10, 10)
    monkeypatch.setattr(thresholds, "_delay_counts", lambda *_: counts)
    recordings = {name: (torch.zeros(1), []) for name in ("drums/a", "mix/a")}
    result = thresholds.calibrated_on_recordings(tiny_checkpoint(), recordings)
    measured = result.scores["threshold_recordings"]
    assert "pooled_f_leave_one_track_out" not in measured
    assert set(measured["pooled_f_of_the_same_track"].values()) == {1.0}
    assert {threshold for row in result.thresholds for threshold in row} == {thresholds.GRID[8]}
    result.manifest()


def test_the_command_says_that_a_single_track_chose_for_itself(tmp_path):
    for name in ("labels", "audio"):
        (tmp_path / name).mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0.5\tSD\n")
    soundfile.write(tmp_path / "audio" / "a.wav", np.zeros(RATE), RATE)
    checkpoints.save(tmp_path / "in.pt", tiny_checkpoint())
    command = ["calibrate", str(tmp_path / "in.pt"), "-o", str(tmp_path / "out.pt")]
    folders = ["--audio", str(tmp_path / "audio"), "--labels", str(tmp_path / "labels")]
    ran = CliRunner().invoke(app, [*command, *folders], catch_exceptions=False)
    assert "that this one track chose" in ran.output
    assert "leave one track out" not in ran.output
