"""Channels keep the hits where they are and are the same every time; the table says what each costs."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import write_tiny_checkpoint

pytest.importorskip("mir_eval")

from ghostnote.export.signals import drum_like
from ghostnote.models.evaluation import channels as all_channels
from ghostnote.models.evaluation import robustness as measure
from ghostnote.models.evaluation.channels import Channel, Unavailable, aligned, channels, delay_of
from ghostnote.models.evaluation.notes import Note
from ghostnote.models.evaluation.robustness_command import robustness
from ghostnote.runtime.errors import InputError, UsageError

RATE = 44100
CHANNELS = channels()
NAMES = [channel.name for channel in CHANNELS]


def clicks(seconds: float = 2.0) -> np.ndarray:
    """Decaying noise bursts a quarter second apart, peak 0.5."""
    rng = np.random.default_rng(0)
    audio = np.zeros(int(seconds * RATE), np.float32)
    for start in range(RATE // 8, len(audio) - RATE // 8, RATE // 4):
        age = np.arange(RATE // 10)
        audio[start : start + len(age)] += rng.normal(0, 0.2, len(age)) * np.exp(-age / 800)
    return (0.5 * audio / np.abs(audio).max()).astype(np.float32)


def named(name: str) -> Channel:
    return CHANNELS[NAMES.index(name)]


def power_above(audio: np.ndarray, hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(audio)) ** 2
    return float(spectrum[np.fft.rfftfreq(len(audio), 1 / RATE) > hz].sum() / spectrum.sum())


@pytest.mark.parametrize("channel", CHANNELS, ids=NAMES)
def test_a_channel_is_repeatable_and_keeps_length_and_time(channel):
    audio = clicks()
    try:
        first = channel(audio, "track")
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert first.dtype == np.float32
    assert len(first) == len(audio)
    assert np.isfinite(first).all()
    assert np.abs(first).max() <= 1
    assert np.array_equal(first, channel(audio, "track"))
    assert abs(delay_of(audio, first)) <= RATE // 1000


@pytest.mark.parametrize("channel", CHANNELS, ids=NAMES)
def test_silence_stays_finite(channel):
    try:
        out = channel(np.zeros(RATE // 2, np.float32), "track")
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert np.isfinite(out).all()


def test_what_is_drawn_differs_from_track_to_track():
    audio = clicks()
    assert not np.array_equal(named("room")(audio, "one"), named("room")(audio, "two"))


def test_channels_do_what_they_say():
    audio = clicks()
    assert np.array_equal(named("clean")(audio, "t"), audio)
    assert power_above(audio, 9000) > 0.3
    assert power_above(named("band limit 8 kHz")(audio, "t"), 8200) < 1e-4
    assert power_above(named("band limit 4 kHz")(audio, "t"), 4200) < 1e-4
    assert power_above(named("codec holes")(audio, "t"), 10500) < 0.01
    assert np.abs(named("soft")(audio, "t")).max() == pytest.approx(10 ** (-30 / 20), abs=1 / 32768)
    assert (np.abs(named("clipped")(audio, "t")) == 1).sum() > 100
    quiet = slice(int(0.2 * RATE), int(0.36 * RATE))
    assert np.abs(named("room")(audio, "t")[quiet]).mean() > 2 * np.abs(audio[quiet]).mean()


@settings(max_examples=20)
@given(st.integers(-4000, 4000), st.floats(0.1, 2.0))
def test_a_delay_is_found_and_taken_out(delay, gain):
    audio = clicks(1.0)
    moved = gain * np.roll(np.pad(audio, 5000), delay)[5000:-5000]
    assert delay_of(audio, moved) == delay
    assert np.corrcoef(aligned(audio, moved), audio)[0, 1] > 0.95


def test_a_codec_that_libsndfile_lacks_is_a_row_without_figures(monkeypatch, tiny_engine):
    monkeypatch.setattr(all_channels.soundfile, "check_format", lambda *_: False)
    found = {"t": (clicks(), [Note(0.125, "SD")])}
    rows = measure.table(
        tiny_engine, {}, found, [named("clean"), named("MP3")], 0, window_s=0.05, group="five", watch=lambda _: None
    )
    assert "no MPEG_LAYER_III encoder" in rows[1]["not_available"]
    assert "n/a" in measure.markdown(rows).splitlines()[3]


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    audio, labels = tmp_path / "audio", tmp_path / "labels"
    audio.mkdir()
    labels.mkdir()
    monkeypatch.setattr(all_channels, "MUSIC_PIECES", 1)
    monkeypatch.setattr(all_channels, "MUSIC_S", 2.0)
    for seed, name in enumerate(("one", "two")):
        soundfile.write(audio / f"{name}.wav", drum_like(seed, 1.5), RATE)
        (labels / f"{name}.txt").write_text("0.1\tKD\n0.5\tSD\n1.0\tHH\n")
    return audio, labels


def test_the_table_of_a_checkpoint_has_every_channel_and_view(labelled, tmp_path, capsys):
    checkpoint = write_tiny_checkpoint(tmp_path / "tiny.pt")
    robustness(*labelled, engine=checkpoint, latency_ms=100, out=tmp_path / "out" / "table.json", as_markdown=True)
    document = json.loads((tmp_path / "out" / "table.json").read_text())
    rows = document["rows"]
    assert [row["channel"] for row in rows] == [*NAMES, "no tone view", "no attack view", "no wave view"]
    assert document["total_latency_ms"] == 100
    assert document["tracks"] == ["one", "two"]
    assert rows[0]["drop"] == 0
    for row in rows:
        assert row["drop"] == pytest.approx(rows[0]["F"] - row["F"])
        assert set(row["classes"]) <= {"BD", "SD", "TT", "HH", "CY"}
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("total latency 100 ms, ±50 ms, 2 tracks")
    assert len([line for line in shown if line.startswith("| ")]) == 1 + len(rows)
    per_minute = document["hits_per_minute_without_drums"]
    assert shown[-1] == f"In music without drums: {per_minute:.1f} hits per minute."


def test_hits_per_minute_are_counted_over_all_pieces(tiny_engine):
    from ghostnote.models.evaluation.hearing import hear, notes_at

    pieces = [clicks(2.0), clicks(4.0)]
    found = sum(len(notes_at(hear(tiny_engine, piece, 0), tiny_engine.manifest, 0)) for piece in pieces)
    assert measure.hits_per_minute(tiny_engine, pieces, 0) == pytest.approx(found * 10)


def test_music_without_drums_is_the_same_every_time(monkeypatch):
    monkeypatch.setattr(all_channels, "MUSIC_PIECES", 2)
    monkeypatch.setattr(all_channels, "MUSIC_S", 1.0)
    first, again = list(all_channels.music()), list(all_channels.music())
    assert [len(piece) for piece in first] == [RATE] * 2
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(np.abs(piece).max() == pytest.approx(0.7) for piece in first)


def test_a_silenced_view_is_what_view_dropout_trains(tmp_path):
    from ghostnote.models import checkpoint as checkpoints
    from ghostnote.models.torch_engine import TorchEngine

    path = write_tiny_checkpoint(tmp_path / "tiny.pt")
    loaded = checkpoints.load(path)
    model, blinded = loaded.model(), measure.without_views(path)
    import torch

    audio = drum_like(3, 1.0)[: 40 * 882].astype(np.float32)
    state_audio, state_attack, *others = model.zero_state(1)
    latents, *_ = model.encode(torch.from_numpy(audio)[None], state_audio, state_attack)
    for i, (view, engine) in enumerate(blinded.items()):
        kept = torch.arange(3) != i
        expected = model.read(latents * kept[:, None], torch.tensor([[2]]), *others)
        found = engine.step(audio[None], np.array([[2]]), engine.zero_state(1))
        assert np.allclose(found.onset_logits, expected.onset_logits.detach().numpy(), atol=1e-5), view
    whole = TorchEngine.of(loaded).step(audio[None], np.array([[2]]), engine.zero_state(1))
    assert not np.allclose(found.onset_logits, whole.onset_logits, atol=1e-3)


def test_an_exported_model_has_no_views_to_silence(labelled, tiny_onnx, tmp_path, capsys):
    robustness(*labelled, engine=tiny_onnx, tracks="one", out=tmp_path / "table.json")
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["not_available"] for row in rows[-3:]] == [measure.NO_VIEWS] * 3
    assert "no wave view" in capsys.readouterr().out


def test_what_makes_no_sense_is_refused(labelled, tiny_onnx, tmp_path):
    audio, labels = labelled
    with pytest.raises(UsageError, match="cannot score classes 'seven'; choose one of five, five-adtof, three, all"):
        robustness(audio, labels, classes="seven")
    with pytest.raises(InputError, match="no recordings"):
        robustness(labels, labels)
    with pytest.raises(InputError, match="nobody"):
        robustness(audio, labels, tracks="nobody")


def test_a_long_recording_passes_every_codec() -> None:
    """libsndfile overruns its stack where a minute of Vorbis is written at once."""
    audio = drum_like(3, 60)
    for channel in CHANNELS:
        if channel.name in all_channels.CODECS:
            with suppress(Unavailable):
                assert len(channel(audio, "track")) == len(audio)
