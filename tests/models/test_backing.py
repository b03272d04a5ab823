"""Accompaniment: what the band plays, on recorded notes and without any."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ghostnote.models.data import packed
from ghostnote.models.data.music import band, instruments
from ghostnote.models.data.music.backing import BackingShelf
from ghostnote.models.data.music.voice import synthesise_voice
from ghostnote.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("small_pool")

RATE = 44100
BEAT = [(k * 0.25, code) for k in range(16) for code in (("BD", "CHH") if k % 4 == 0 else ("CHH",))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Decaying tones of four instruments, the attack at sample 220."""
    rows = []
    t = np.arange(RATE) / RATE
    for instrument, family, pitches in (
        ("bass", "bass", (28, 36)), ("upright", "piano", (48, 60)), ("steel", "guitar", (40, 52)), ("hum", "pad", ("",))
    ):  # fmt: skip
        for pitch in pitches:
            tone = np.sin(2 * np.pi * 440 * 2 ** (((pitch or 60) - 69) / 12) * t) * np.exp(-3 * t)
            soundfile.write(tmp_path / f"{instrument}{pitch}.flac", np.concatenate([np.zeros(220), 0.8 * tone]), RATE)
            rows.append([f"{instrument}{pitch}.flac", instrument, family, pitch, 1.0])
    with (tmp_path / "backing.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["path", "instrument", "family", "midi_note", "velocity_layer"], *rows])
    return tmp_path


def play(shelf: BackingShelf, seed: int, hits=BEAT, n_samples=4 * RATE) -> np.ndarray:
    return shelf.play(np.random.default_rng(seed), hits, n_samples)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("hits", [BEAT, []])
def test_every_clip_sounds(folder, recorded, hits):
    shelf = BackingShelf(folder if recorded else None)
    for seed in range(25):
        wave = play(shelf, seed, hits)
        assert wave.shape == (4 * RATE,)
        assert wave.dtype == np.float32
        assert np.isfinite(wave).all()
        assert np.sqrt(np.mean(wave**2)) > 1e-3


@pytest.mark.parametrize("n_samples", [1, 500, RATE // 2, 3 * RATE + 1])
def test_any_length(folder, n_samples):
    for seed in range(12):
        wave = play(BackingShelf(folder), seed, n_samples=n_samples)
        assert wave.shape == (n_samples,)
        assert np.isfinite(wave).all()


def test_the_same_draw_is_the_same_clip_with_and_without_a_cache(folder, tmp_path):
    shelves = [BackingShelf(folder), BackingShelf(folder, tmp_path / "cache"), BackingShelf(folder, tmp_path / "cache")]
    for seed in range(8):
        first, *others = [play(shelf, seed) for shelf in shelves]
        for other in others:
            np.testing.assert_array_equal(first, other)
    assert not np.array_equal(play(shelves[0], 1), play(shelves[0], 2))


def test_a_piece_at_another_speed_is_higher_and_shorter():
    tone = np.round(10000 * np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)).astype(np.int16)  # goes round whole
    faster = packed.at_speed(tone, 1.25)
    assert len(faster) == RATE / 1.25
    assert np.abs(np.fft.rfft(faster)).argmax() == 100  # as many periods in less time
    np.testing.assert_array_equal(packed.at_speed(tone, 1.0), tone.astype(np.float32))


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"backing\.csv not found"):
        BackingShelf(tmp_path)


def test_a_band_in_time_plays_on_the_hits():
    """Bass notes begin within 25 ms of a hit or of the moment half way to the next, and on most kick drums."""
    hits = sorted(BEAT)
    times = np.array([t for t, _ in hits])
    on_kick = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        starts = np.array([note.start_s for note in band.bass_line(rng, band.Song(rng, hits, 4.0))])
        allowed = np.unique(np.concatenate([times, times + 0.125]))
        assert np.abs(starts[:, None] - allowed).min(axis=1).max() < 0.025
        on_kick.append(np.mean(np.abs(starts[:, None] - [0.0, 1.0, 2.0, 3.0]).min(axis=0) < 0.025))
    assert np.mean(on_kick) > 0.7


def test_a_recorded_note_sounds_where_and_as_high_as_asked(folder):
    """Its attack lies at the note's start, its pitch is right after resampling, and it ends with the note."""
    shelf = BackingShelf(folder)
    bass = next(i for i in shelf._instruments if i.name == "bass")
    for pitch in (26, 28, 31, 39):
        wave = instruments.played([band.Note(0.5, 0.3, pitch, 1.0)], bass, RATE, release_s=0.05)
        sounding = np.flatnonzero(np.abs(wave) > 1e-3) / RATE
        assert 0.499 < sounding[0] < 0.504
        assert sounding[-1] < 0.86
        spectrum = np.abs(np.fft.rfft(wave, 16 * RATE))
        assert abs(np.argmax(spectrum) / 16 - 440 * 2 ** ((pitch - 69) / 12)) < 1.5


@pytest.mark.parametrize("moved", [-4, -1, 3])
def test_a_note_from_another_body_is_as_high_as_asked(folder, moved):
    """Recorded lower or higher, moved further: the pitch stays."""
    piano = next(i for i in BackingShelf(folder)._instruments if i.name == "upright")
    (plain, _), (k, shift) = piano.nearest(50, 1.0), piano.nearest(50, 1.0, -6)
    assert (piano.pitches[plain], piano.pitches[k], shift) == (48, 60, -10)
    wave = instruments.played([band.Note(0.25, 0.5, 52, 1.0)], piano, RATE, release_s=0.05, moved=moved)
    spectrum = np.abs(np.fft.rfft(wave, 16 * RATE))
    assert abs(np.argmax(spectrum) / 16 - 440 * 2 ** ((52 - 69) / 12)) < 1.5


def test_horns_sound_where_and_as_high_as_asked():
    for seed in range(12):
        horns = instruments.Blown(np.random.default_rng(seed))
        wave = instruments.played([band.Note(0.5, 0.4, 69, 1.0)], horns, RATE, release_s=0.05)
        level = np.abs(wave)
        assert not level[: int(0.45 * RATE)].any()  # half way up its rise, of 80 ms at most, at the note's start
        assert level[int(0.55 * RATE) : int(0.85 * RATE)].max() > 0.3
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(RATE)))
        strongest = np.argmax(spectrum) / 440  # in harmonics of a'; players are out of tune by some thousandths
        assert abs(strongest - round(strongest)) < 0.015 * strongest


def test_horns_end_softly_however_slowly_they_rise():
    """A note that stops at full level is a click: an onset that nobody struck."""
    for seed in range(25):
        horns = instruments.Blown(np.random.default_rng(seed))
        wave = np.abs(instruments.played([band.Note(0.5, 0.3, 57, 1.0)], horns, RATE, release_s=0.03))
        last = int(np.flatnonzero(wave)[-1])
        assert abs(last / RATE - 0.83) < 0.002  # the release follows the note's end
        assert wave[last - 44 : last].max() < 0.1 * wave[int(0.6 * RATE) : int(0.8 * RATE)].max()


@pytest.mark.parametrize("kind", [instruments.Blown, instruments.Pluck])
def test_high_tones_hold_nothing_but_their_harmonics(kind):
    """What lies beyond half the sample rate would come back between them."""
    for seed in range(10):
        instrument = kind(np.random.default_rng(seed))
        instrument._breath = 0.0
        wave, _ = instrument.sound(93, 1.0, RATE, 0)  # 1760 Hz
        power = np.abs(np.fft.rfft(wave * np.blackman(len(wave)), RATE)) ** 2
        harmonics = np.round(np.arange(RATE // 2 + 1) / 1760) * 1760
        between = np.abs(np.arange(RATE // 2 + 1) - harmonics) > 300
        assert power[between].sum() < 1e-3 * power.sum()


def test_horns_breathe_in_gently():
    """The first ms of their noise lie far under its loudest: hi-hats begin at full level."""
    for seed in range(10):
        horns = instruments.Blown(np.random.default_rng(seed))
        horns._breath, horns._dark, horns._bright = 1.0, np.zeros(24) + 1e-9, np.zeros(24) + 1e-9
        horns._players = horns._players[:0]
        noise, _ = horns.sound(60, 1.0, RATE, 0)
        assert np.abs(noise[:22]).max() < 0.4 * np.abs(noise).max()


def test_stabs_are_short_chords_on_the_hits():
    rng = np.random.default_rng(5)
    notes = band.stabs(rng, band.Song(rng, sorted(BEAT), 4.0))
    starts = sorted({note.start_s for note in notes})
    assert 0 < len(starts) < len(BEAT)
    assert all(sum(note.start_s == start for note in notes) >= 3 for start in starts)
    assert max(note.length_s for note in notes) <= 0.6


def test_a_voice_is_reproducible_and_has_consonants():
    """Above 6 kHz, where vowels have little, noise comes and goes."""
    loudest = []
    for seed in range(6):
        wave = synthesise_voice(np.random.default_rng(seed), 3 * RATE)
        np.testing.assert_array_equal(wave, synthesise_voice(np.random.default_rng(seed), 3 * RATE))
        assert wave.shape == (3 * RATE,)
        assert np.isfinite(wave).all()
        assert 0.85 < np.abs(wave).max() <= 0.901
        spectra = np.abs(np.fft.rfft(wave[: 129 * 1024].reshape(-1, 1024))) ** 2
        share = spectra[:, 140:].sum(axis=1) / np.maximum(spectra.sum(axis=1), 1e-3)
        loudest.append(share.max() > 10 * np.median(share) + 1e-4)
    assert sum(loudest) >= 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x.wav,bass,bass,low,1.0", "line 2: midi_note is 'low'; expected a MIDI note"),
        ("x.wav,bass,bass,36,loud", "line 2: velocity_layer is 'loud'; expected a number"),
        ("x.wav,bass,bass,36,1.0", r"x\.wav: cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(tmp_path, row, message):
    (tmp_path / "backing.csv").write_text(f"path,instrument,family,midi_note,velocity_layer\n{row}\n")
    with pytest.raises(InputError, match=message):
        BackingShelf(tmp_path)
