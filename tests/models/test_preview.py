"""What `preview-data` writes is what training would see, and can be read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("matplotlib")

from ghostnote.models.config import PRESETS
from ghostnote.models.data import preview, preview_command
from ghostnote.models.data.dataset import RenderedBatches, Sources
from ghostnote.models.evaluation.scores import read_labels
from ghostnote.runtime.errors import InputError, OutputError, UsageError
from ghostnote.runtime.vocabulary import CODES

RATE = 44100


def example(times, classes, ignored=None, seconds=1.0):
    n = len(times)
    return preview.Example(
        audio=np.zeros(int(seconds * RATE), np.float32),
        times_s=np.array(times, float),
        classes=np.array(classes, int),
        velocities=np.linspace(0.1, 1, n) if n else np.zeros(0),
        ignored=np.zeros(n, bool) if ignored is None else np.array(ignored),
        unlabelled=(),
    )


@pytest.fixture
def batches() -> RenderedBatches:
    return RenderedBatches(PRESETS["tiny"], Sources(), clips=2, tokens=50)


def test_a_sine_shows_in_its_band_at_the_same_level_in_low_and_high_bands():
    edges = np.geomspace(preview.LOWEST_HZ, preview.HIGHEST_HZ, preview.BANDS + 2)[1:-1]
    peaks = []
    for hz in (120.0, 1000.0, 6000.0):
        level = preview.spectrogram(np.sin(2 * np.pi * hz * np.arange(RATE) / RATE).astype(np.float32)).mean(1)
        found = edges[int(level.argmax())]
        assert abs(np.log2(found / hz)) < 0.35
        peaks.append(level.max())
    assert max(peaks) - min(peaks) < 6


@pytest.mark.parametrize("sample", [4000, 20000, 40000])
def test_a_click_shows_where_it_is(sample):
    audio = np.zeros(RATE, np.float32)
    audio[sample] = 1
    high = preview.spectrogram(audio)[-40:].sum(0)
    assert abs(int(high.argmax()) * preview.HOP - sample) <= preview.HOP


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.floats(0, 600, allow_nan=False), st.integers(0, len(CODES) - 1), st.floats(0, 1), st.booleans()),
        max_size=20,
    )
)
def test_the_label_file_holds_every_hit_that_counts(tmp_path_factory, hits):
    times, classes, velocities, ignored = ([row[i] for row in hits] for i in range(4))
    shown = preview.Example(
        np.zeros(0, np.float32),
        np.array(times),
        np.array(classes, int),
        np.array(velocities),
        np.array(ignored, bool),
        (),
    )
    path = tmp_path_factory.mktemp("labels") / "clip.txt"
    path.write_text("\n".join(shown.label_lines()))
    kept = [(t, CODES[c]) for t, c, _, faint in hits if not faint]
    read = read_labels(path)
    assert [code for _, code in read] == [code for _, code in kept]
    assert [t for t, _ in read] == pytest.approx([t for t, _ in kept], abs=1e-6)


def test_examples_are_the_clips_of_the_batches_in_order(batches):
    shown = list(preview.examples(batches, 3))
    assert len(shown) == 3
    second = batches[1]
    assert np.array_equal(shown[2].audio, second["audio"][0].numpy())
    assert len(shown[2].times_s) == int((second["classes"][0] >= 0).sum())


def test_a_picture_differs_where_a_hit_is_ignored(tmp_path):
    pictures = []
    for ignored in (False, True):
        path = tmp_path / f"{ignored}.png"
        preview.draw(example([0.5], [4], [ignored]), path, "clip")
        pictures.append(path.read_bytes())
    assert pictures[0] != pictures[1]
    assert all(data.startswith(b"\x89PNG") for data in pictures)


def test_a_clip_without_hits_can_be_drawn(tmp_path):
    preview.write(example([], []), tmp_path, "empty")
    assert (tmp_path / "empty.txt").read_text() == ""
    assert (tmp_path / "empty.png").stat().st_size > 1000


def test_the_summary_says_what_teaches_nothing():
    shown = example([0.1, 0.2], [0, 4], [False, True])
    assert preview._summary(shown) == "1 hits, 1 ignored (too faint)"


def test_rendering_speed_counts_audio_against_the_clock(batches):
    speed = preview.rendering_speed(batches, first=1, seconds=0)
    assert speed.clips == 2
    assert speed.per_minute > 0
    assert speed.per_cpu_minute > 0


def test_the_command_writes_clips_and_the_rate(batches, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(preview_command, "_batches", lambda *_: batches)
    monkeypatch.setattr(preview_command, "TIMED_SECONDS", 0)
    preview_command.preview_data(tmp_path / "out", clips=3)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"clip-{i:03d}.{kind}" for i in range(3) for kind in ("flac", "png", "txt")]
    audio, rate = soundfile.read(tmp_path / "out" / "clip-000.flac", dtype="float32")
    assert rate == RATE
    assert np.abs(audio - batches[0]["audio"][0].numpy()).max() <= 2 / 32768
    assert "hours of audio per minute" in capsys.readouterr().out.splitlines()[-1]


def test_a_place_that_cannot_be_written_is_known_before_anything_is_rendered(batches, tmp_path, monkeypatch):
    monkeypatch.setattr(preview_command, "_batches", lambda *_: batches)
    monkeypatch.setattr(preview, "examples", lambda *_: pytest.fail("rendered"))
    (tmp_path / "clip-000.txt").mkdir()
    with pytest.raises(OutputError, match=r"clip-000\.txt: cannot be written"):
        preview_command.preview_data(tmp_path, clips=1)


def test_sound_that_cannot_be_written_is_an_error_of_one_line(batches, tmp_path, monkeypatch):
    monkeypatch.setattr(preview_command, "_batches", lambda *_: batches)
    (tmp_path / "clip-000.flac").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        preview_command.preview_data(tmp_path, clips=1)


def test_what_cannot_be_is_refused(tmp_path, batches, monkeypatch):
    with pytest.raises(UsageError, match="train or validation"):
        preview_command.preview_data(tmp_path, split="test")
    for device in ("tpu-v9", "meta", *([] if torch.cuda.is_available() else ["cuda"])):
        with pytest.raises(UsageError, match=f"--device {device}: no such device here"):
            preview_command.preview_data(tmp_path, device=device)
    with pytest.raises(InputError, match="kits"):
        preview_command.preview_data(tmp_path, kits=tmp_path)
    monkeypatch.setattr(preview_command, "_batches", lambda *_: batches)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made a folder"):
        preview_command.preview_data(tmp_path / "file" / "out", clips=1)
