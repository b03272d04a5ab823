"""The whole-file baseline is scored like an engine, without the figures that need a latency."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ghostnote.export.signals import drum_like
from ghostnote.models import checkpoint as checkpoints
from ghostnote.models.baselines import onsets_and_frames as oaf
from ghostnote.models.checkpoint import Checkpoint
from ghostnote.models.evaluation.channels import Channel
from ghostnote.models.evaluation.command import evaluate
from ghostnote.models.evaluation.hearing import WholeFile, hear, notes_at
from ghostnote.models.evaluation.notes import in_order, note_of
from ghostnote.models.evaluation.opening import engine_for
from ghostnote.models.evaluation.robustness_command import robustness
from ghostnote.models.whole_file import whole_outputs
from ghostnote.runtime.decoder import decode
from ghostnote.runtime.errors import UsageError
from ghostnote.runtime.input.audio import AudioReader

pytest.importorskip("mir_eval")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def baseline() -> Checkpoint:
    """Random weights, scaled so that they answer what they hear."""
    torch.manual_seed(0)
    model = oaf.OnsetsAndFrames(oaf.PRESETS["tiny"])
    with torch.no_grad():
        model.onset_head.weight.mul_(8)
        model.onset_head.bias.fill_(-1)
    return Checkpoint(model.config, model.state_dict())


@pytest.fixture(scope="module")
def folder(baseline: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`audio` with two recordings (one at another rate), their `labels`, and `baseline.pt`."""
    folder = tmp_path_factory.mktemp("whole_file")
    for name in ("audio", "labels"):
        (folder / name).mkdir()
    for seed, (name, rate) in enumerate((("one", 44100), ("two", 22050))):
        soundfile.write(folder / "audio" / f"{name}.wav", drum_like(seed, 1.5), rate)
        (folder / "labels" / f"{name}.txt").write_text("0.1\tBD\n0.5\tSD\n0.7\tCHH\n1.0\tCRC\n")
    checkpoints.save(folder / "baseline.pt", baseline)
    return folder


def test_its_hits_are_those_of_the_whole_recording(folder: Path, baseline: Checkpoint) -> None:
    engine = engine_for(folder / "baseline.pt")
    assert isinstance(engine, WholeFile)
    for name in ("one", "two"):
        path = folder / "audio" / f"{name}.wav"
        with AudioReader(path, 44100) as reader:
            pcm = np.concatenate(list(reader))
        (outputs,) = whole_outputs(baseline.model(), torch.from_numpy(pcm)[None], 0)
        hits = decode(*outputs, engine.manifest, 0, len(pcm) / 44100)
        wanted = in_order(note_of(hit) for hit in hits)
        assert wanted
        for source in (path, pcm):
            assert notes_at(hear(engine, source, 0), engine.manifest, 0) == wanted


def test_it_is_scored_without_a_latency(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = tmp_path / "n.json", tmp_path / "r.html"
    settings = {"engine": folder / "baseline.pt", "json_file": out}
    evaluate(folder / "audio", folder / "labels", **settings, report=report, estimates=tmp_path / "estimates")
    assert "onsets-and-frames tiny (float32) on PyTorch" in (shown := capsys.readouterr().out)
    assert ", whole file" in shown
    numbers = json.loads(out.read_text())
    assert numbers["total_latency_ms"] is None
    assert numbers["results"][0]["micro"]["tp"] > 0
    pooled = numbers["recordings"]["curves"]["five"]["classes"]["pooled"]
    assert pooled["operating_point"]["F"] == pytest.approx(numbers["results"][0]["micro"]["F"])
    assert not {"delays", "emission"} & set(numbers["recordings"])
    text = report.read_text(encoding="utf-8")
    assert ", whole file, weights" in text
    assert "Precision and recall" in text
    assert "F against latency" not in text
    assert "total latency" not in text
    evaluate(tmp_path / "estimates", folder / "labels", json_file=out)
    assert json.loads(out.read_text())["results"] == numbers["results"]


def test_it_has_no_latency_to_choose(folder: Path) -> None:
    with pytest.raises(UsageError, match="hears the whole file and has no latency"):
        evaluate(folder / "audio", folder / "labels", engine=folder / "baseline.pt", latency_ms=100)


def test_it_goes_through_channels_and_has_no_views(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = Channel("clean", "untouched", lambda audio, _: audio)
    monkeypatch.setattr("ghostnote.models.evaluation.channels.channels", lambda *_: [clean])
    robustness(folder / "audio", folder / "labels", engine=folder / "baseline.pt", out=tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text())
    assert document["total_latency_ms"] is None
    assert ["not_available" in row for row in document["rows"]] == [False, True, True, True]
    assert ", whole file, ±50 ms" in capsys.readouterr().out
