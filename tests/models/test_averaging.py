"""Averages of checkpoints: weight by weight, with a provenance that says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_checkpoint, write_tiny_checkpoint
from typer.testing import CliRunner

from ghostnote import cli
from ghostnote.models.averaging import averaged
from ghostnote.models.checkpoint import Checkpoint, load, save
from ghostnote.models.config import PRESETS
from ghostnote.models.transformer import DrumTransformer
from ghostnote.runtime.errors import OutputError, UsageError


def test_every_weight_is_the_mean_and_sources_are_told() -> None:
    one, other = tiny_checkpoint(1), tiny_checkpoint(2)
    mean = averaged([one, other])
    for name, value in mean.weights.items():
        torch.testing.assert_close(value, (one.weights[name] + other.weights[name]) / 2)
    sources = [mean.provenance["ancestors"][name] for name in mean.provenance["averaged_with"]]
    assert [source["seed"] for source in sources] == [1, 2]
    assert mean.provenance["seed"] == 2
    assert mean.thresholds != other.thresholds  # those of other weights say nothing about these
    mean.model()


def test_an_average_of_an_average_names_all_that_it_comes_from() -> None:
    a, b, c = (tiny_checkpoint(seed) for seed in (1, 2, 3))
    ab = averaged([a, b])
    names = {checkpoint.weights_sha256(): name for name, checkpoint in {"a": a, "b": b, "c": c, "ab": ab}.items()}
    for order, expected in (([c, ab], ["c", "ab"]), ([ab, c], ["ab", "c"]), ([ab, c, c], ["ab", "c", "c"])):
        told = averaged(order).provenance
        assert [names[name] for name in told["averaged_with"]] == expected
        ancestors = {names[name]: own for name, own in told["ancestors"].items()}
        assert ancestors.keys() == {"a", "b", "c", "ab"}
        assert [names[name] for name in ancestors["ab"]["averaged_with"]] == ["a", "b"]
        assert told["seed"] == order[-1].provenance["seed"]


def test_a_checkpoint_averaged_with_itself_is_itself() -> None:
    one = tiny_checkpoint()
    assert averaged([one, one]).weights_sha256() == replace(one).weights_sha256()


def test_what_has_no_average() -> None:
    one = tiny_checkpoint()
    small = PRESETS["small"]
    other = Checkpoint(small, DrumTransformer(small).state_dict())
    with pytest.raises(UsageError, match="two or more"):
        averaged([one])
    with pytest.raises(UsageError, match="different shapes"):
        averaged([one, other])


def test_the_command(tmp_path: Path) -> None:
    paths = [str(write_tiny_checkpoint(tmp_path / f"{seed}.pt", seed)) for seed in (1, 2)]
    result = CliRunner().invoke(cli.app, ["average", *paths, "-o", str(tmp_path / "mean.pt")])
    assert result.exit_code == 0, result.output
    assert load(tmp_path / "mean.pt").provenance["averaged_with"]


def test_a_save_that_fails_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_checkpoint(tmp_path / "a.pt")
    checkpoint, before = load(path), path.read_bytes()

    def full(_document: object, aside: Path) -> None:
        aside.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed\nand more")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"a\.pt: cannot be written \(PytorchStreamWriter .* failed\)$"):
        save(path, checkpoint)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["a.pt"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "a.pt")
    with pytest.raises(OutputError, match="absent: is no folder"):
        save(tmp_path / "absent" / "b.pt", load(path))
    (tmp_path / "taken.pt").mkdir()
    with pytest.raises(OutputError, match=r"taken\.pt: is a folder"):
        save(tmp_path / "taken.pt", load(path))
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.pt", "taken.pt"]
