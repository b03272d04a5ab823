"""A checkpoint file is read whole and sound, or refused in one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny import write_tiny_checkpoint

from ghostnote.models import checkpoint as checkpoints
from ghostnote.models.baselines import onsets_and_frames as oaf
from ghostnote.runtime.errors import InputError, OutputError, UsageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_tiny_checkpoint(tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt"


def damage(path: Path, **changes: Any) -> None:
    """Write the document again with other values; None: without that one."""
    document = torch.load(path, weights_only=True) | changes
    torch.save({name: value for name, value in document.items() if value is not None}, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None}, "weights"),
        ({"weights": {}}, "damaged checkpoint"),
        ({"weights": {"head.bias": torch.zeros(1)}}, "damaged checkpoint"),
        ({"weights": [1]}, "weights is a list"),
        ({"weights": {"head.bias": 1}}, "head.bias are no named tensors"),
        ({"config": {"width": 33, "heads": 2}}, "not a multiple of heads"),
        ({"config": {"depth": 3}}, "depth"),
        ({"provenance": "mine"}, "provenance is a str"),
        ({"more": 1}, "more"),
        ({"weights": {1: torch.zeros(1)}}, "weights 1 are no named tensors"),
        ({"config": {"heads": 0}}, "damaged checkpoint"),
        ({"config": {"classes": ["BD", "XX"]}}, "unknown classes XX"),
        ({"config": {"frames_per_token": 0}}, "damaged checkpoint"),
        ({"provenance": {"parent": {"step": 1}}}, "damaged checkpoint"),
        ({"provenance": {"ancestors": [1]}}, "damaged checkpoint"),
        ({"kind": []}, "newer version"),
        ({"format": "x"}, "newer version"),
        ({"format": checkpoints.FORMAT + 1}, "newer version"),
    ],
)
def test_a_damaged_document_is_refused(path: Path, changes: dict[str, Any], message: str) -> None:
    damage(path, **changes)
    with pytest.raises(InputError, match=message) as refused:
        checkpoints.load(path)
    assert "\n" not in str(refused.value)


def test_a_recording_is_no_checkpoint(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.pt", np.zeros(1000), 44100, format="WAV")
    with pytest.raises(InputError, match="not a ghostnote checkpoint"):
        checkpoints.load(tmp_path / "a.pt")


def test_reading_changes_nothing_that_is_drawn_afterwards(path: Path) -> None:
    torch.manual_seed(1)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    checkpoints.load(path)
    assert torch.equal(torch.rand(3), drawn)


def test_a_place_is_checked_before_the_work(tmp_path: Path) -> None:
    checkpoints.check_place(tmp_path / "new.pt")
    with pytest.raises(OutputError, match="is a folder"):
        checkpoints.check_place(tmp_path)
    with pytest.raises(OutputError, match="no folder"):
        checkpoints.check_place(tmp_path / "absent" / "new.pt")


def test_what_streams_is_asked_for_its_stream(path: Path) -> None:
    loaded = checkpoints.load(path)
    assert loaded.streaming_model().config is loaded.config
    config = oaf.PRESETS["tiny"]
    whole = checkpoints.Checkpoint(config, oaf.OnsetsAndFrames(config).state_dict())
    with pytest.raises(UsageError, match="a model of kind onsets-and-frames does not stream"):
        whole.streaming_model()


def test_half_the_size_and_the_model_that_was_measured(path: Path, tmp_path: Path) -> None:
    halved = checkpoints.load(path).halved()
    checkpoints.save(tmp_path / "half.pt", halved)
    again = checkpoints.load(tmp_path / "half.pt")
    assert (tmp_path / "half.pt").stat().st_size < 0.7 * path.stat().st_size
    assert {value.dtype for value in again.weights.values()} == {torch.float32}
    assert again.weights_sha256() == halved.weights_sha256()
    measured, shipped = halved.model().state_dict(), again.model().state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in measured.items())
