"""Passages of whole recordings without drums: imported, drawn, and heard in the band."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ghostnote.cli import app
from ghostnote.models.data.dataset import Sources
from ghostnote.models.data.music import backing
from ghostnote.models.data.music.backing import BackingShelf
from ghostnote.models.data.music.passages import SPEED, Passages, passage_rows
from ghostnote.models.data.store import _contents
from ghostnote.runtime.errors import InputError

RATE = 44100
LOW_HZ, HIGH_HZ = 300, 3000


def tone(path: Path, pitch_hz: float, seconds: float, level: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, level * np.sin(2 * np.pi * pitch_hz * np.arange(int(seconds * RATE)) / RATE), RATE)


def import_sounds(source: Path, out: Path, name: str) -> str:
    told = CliRunner().invoke(app, ["import-sounds", str(source), str(out), "--name", name, "--licence", "CC0"])
    assert told.exit_code == 0, told.output
    return told.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backing of two sources: a low speaker of three recordings, in folders, and a high one of one."""
    root = tmp_path_factory.mktemp("passages")
    for name, seconds in (("a/one", 0.4), ("b/one", 0.3), ("b/two", 0.2)):
        tone(root / "low" / f"{name}.wav", LOW_HZ, seconds)
    tone(root / "low" / "nothing.wav", LOW_HZ, 0.2, level=0)
    (root / "low" / "words.txt").write_text("no recording")
    tone(root / "high" / "song.ogg", HIGH_HZ, 3)
    assert "3 recordings without drums" in import_sounds(root / "low", root / "data", "low")
    assert "1 recordings without drums" in import_sounds(root / "high", root / "data", "high")
    return root / "data" / "backing"


def strongest_hz(wave: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(wave)).argmax() * RATE / len(wave))


def test_recordings_are_kept_with_source_and_licence(folder: Path) -> None:
    assert [row["path"] for row in passage_rows(folder)] == [
        "low/a_one_wav.flac", "low/b_one_wav.flac", "low/b_two_wav.flac", "high/song_ogg.flac"
    ]  # fmt: skip
    with (folder / "passages.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {(row["source"], row["license"]) for row in rows} == {("low", "CC0"), ("high", "CC0")}


def test_names_that_look_alike_as_paths_are_kept_apart(tmp_path: Path) -> None:
    for number, name in enumerate(["vocals (1).wav", "vocals-1.wav", "Песня.wav", "Голос.wav"]):
        tone(tmp_path / "source" / name, LOW_HZ * (number + 1), 0.1)
    assert "4 recordings" in import_sounds(tmp_path / "source", tmp_path / "data", "v")
    rows = passage_rows(tmp_path / "data" / "backing")
    assert len({row["path"] for row in rows}) == 4
    again = import_sounds(tmp_path / "source", tmp_path / "data", "v")
    assert "4 recordings" in again
    assert passage_rows(tmp_path / "data" / "backing") == rows


def test_one_source_is_heard_in_a_passage_and_long_ones_more_often(folder: Path) -> None:
    shelf = Passages(folder, None)
    heard = []
    for seed in range(60):
        wave = shelf.play(np.random.default_rng(seed), 2 * RATE)
        pitch = strongest_hz(wave)
        low = SPEED[0] * LOW_HZ - 2 < pitch < SPEED[1] * LOW_HZ + 2
        assert low or SPEED[0] * HIGH_HZ - 2 < pitch < SPEED[1] * HIGH_HZ + 2
        spectrum = np.abs(np.fft.rfft(wave))
        split = int(1000 * len(wave) / RATE)
        mine, others = (spectrum[:split], spectrum[split:]) if low else (spectrum[split:], spectrum[:split])
        assert others.max() < 0.05 * mine.max()
        heard.append(low)
    assert 0.08 < np.mean(heard) < 0.45  # .9 s of 3.9


def test_a_recording_that_ends_is_followed_by_others(folder: Path) -> None:
    shelf = Passages(folder, None)
    for seed in range(30):
        wave = shelf.play(np.random.default_rng(seed), 12 * RATE)
        assert np.abs(wave[-4 * RATE :]).max() > 1000  # int16's scale
        assert np.abs(np.diff(wave)).max() < 32768 * 0.9 * 2 * np.pi * HIGH_HZ * SPEED[1] / RATE * 1.2  # no clicks


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n_samples=st.integers(1, 3 * RATE))
def test_any_passage_is_what_its_seed_says(folder: Path, seed: int, n_samples: int) -> None:
    shelf = Passages(folder, None)
    waves = [shelf.play(np.random.default_rng(seed), n_samples) for _ in range(2)]
    assert waves[0].shape == (n_samples,)
    assert waves[0].dtype == np.float32
    np.testing.assert_array_equal(*waves)


@pytest.mark.usefixtures("small_pool")
def test_the_band_has_them_as_a_part_or_instead(folder: Path) -> None:
    """A folder of passages alone is a backing folder: the other parts are synthesised."""
    shelf, without = BackingShelf(folder), BackingShelf(None)
    drawn = [shelf._drawn_parts(np.random.default_rng(seed)) for seed in range(400)]
    withs = [parts for parts in drawn if backing.PASSAGE in parts]
    assert 0.2 < len(withs) / len(drawn) < 0.4
    assert 0.1 < np.mean([len(parts) == 1 for parts in withs]) < 0.4
    assert not any(backing.PASSAGE in without._drawn_parts(np.random.default_rng(seed)) for seed in range(50))
    for seed in range(10):
        wave = shelf.play(np.random.default_rng(seed), [], 2 * RATE)
        assert np.isfinite(wave).all()
        assert wave.any()


def test_kept_renders_know_the_passages(folder: Path, tmp_path: Path) -> None:
    """A store of renders is made anew when a passage is added."""
    tone(tmp_path / "more" / "talk.wav", LOW_HZ, 0.2)
    before = _contents(Sources(backing=folder))
    assert before == _contents(Sources(backing=folder))
    import_sounds(tmp_path / "more", folder.parent, "more")
    assert before != _contents(Sources(backing=folder))


def test_a_folder_that_holds_no_sound(tmp_path: Path) -> None:
    told = CliRunner().invoke(
        app, ["import-sounds", str(tmp_path), str(tmp_path / "out"), "--name", "x", "--licence", "y"]
    )
    assert isinstance(told.exception, InputError) or "neither a drum kit" in told.output


def test_a_table_that_lacks_a_column(tmp_path: Path) -> None:
    (tmp_path / "passages.csv").write_text("path\nx.flac\n")
    with pytest.raises(InputError, match=r"passages\.csv: no column source"):
        Passages(tmp_path, None)
