"""Instruments of the accompaniment: recorded notes, moved to the pitch asked for, and synthesised tones.

Conventions: waveforms are float32 mono at 44.1 kHz; a recorded note's attack lies at sample `ATTACK_SAMPLE`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..packed import ATTACK_SAMPLE, SAMPLE_RATE, Columns, packed, read_table, zero_to, zero_to_one
from .band import Note
from .outboard import binomial
from .passages import passage_rows

__all__ = ["Blown", "Instrument", "Pluck", "Tone", "backing_rows", "load_instruments", "played"]

PITCHLESS = {"sonicpi_bass": 36, "sonicpi_guitar": 40, "sonicpi_ambient": 60}  # notes named after a C or E
UNKNOWN_PITCH = 48
HIGHEST_HZ = 18000.0  # of a synthesised harmonic: beyond half the sample rate they would come back as other tones
# Their loudest samples wrapped around to the other sign when they were recorded: clicks, which drums would explain.
DAMAGED = {f"pastabass_fingered/{note}_vl4.flac" for note in ("bb2", "e2", "g2")}


@dataclass
class Instrument:
    """Recorded notes: pitches [K], velocity layers [K], samples; and what is drawn of it in one call."""

    name: str
    family: str
    pitches: list[int] = field(default_factory=list)
    layers: list[float] = field(default_factory=list)
    samples: list[np.ndarray] = field(default_factory=list)

    def nearest(self, pitch: int, velocity: float, moved: int = 0) -> tuple[int, int]:
        """The recorded note for a pitch and a velocity, and the semitones that it is to be moved by, `moved` or so."""
        low, high = min(self.pitches), max(self.pitches)
        slack = 6 if low == high else 4
        while pitch > high + slack:
            pitch -= 12
        while pitch < low - slack:
            pitch += 12
        k = min(
            range(len(self.pitches)),
            key=lambda i: abs(self.pitches[i] + moved - pitch) + 3 * abs(self.layers[i] - velocity),
        )
        return k, pitch - self.pitches[k]

    def sound(self, pitch: int, velocity: float, most: int, moved: int) -> tuple[np.ndarray, int]:
        """A note's samples, float32, up to `most` from its attack on, and the attack's place in them."""
        k, shift = self.nearest(pitch, velocity, moved)
        attack = round(ATTACK_SAMPLE / 2 ** (shift / 12))
        wave = _moved(self.samples[k], shift, attack + most)
        if velocity < 0.55 and self.layers[k] > 0.9:  # no soft recording: a darker loud one
            wave = np.convolve(wave, binomial(6))[: len(wave)]
        return wave, attack


class Pluck:
    """A synthesised tone, plucked, struck or blown, for synthesisers and where a band has no recordings."""

    def __init__(self, rng: np.random.Generator):
        harmonics = np.arange(1, 21)
        self._levels = harmonics ** -rng.uniform(0.6, 2) * np.where(harmonics % 2, 1, rng.uniform(0, 1))
        self._decay_s = rng.uniform(0.08, 1.5) if rng.random() < 0.7 else rng.uniform(2, 8)
        self._attack = int(np.exp(rng.uniform(np.log(20), np.log(600 if self._decay_s < 2 else 4000))))

    def sound(self, pitch: int, _velocity: float, most: int, _moved: int) -> tuple[np.ndarray, int]:
        """A note's samples, float32, up to `most`, and its attack's place in them: the first."""
        n = min(most, int(6 * self._decay_s * SAMPLE_RATE))
        index = (np.arange(n) * (_hz(pitch) * 2048 / SAMPLE_RATE)).astype(np.int64) & 2047
        wave = _table(self._levels, pitch)[index] * np.exp(
            np.arange(n, dtype=np.float32) * np.float32(-1 / self._decay_s / SAMPLE_RATE)
        )
        rise = min(n, self._attack)
        wave[:rise] *= np.linspace(0, 1, rise, dtype=np.float32)
        return wave, 0


class Blown:
    """Horns: one to four of them together, brighter where they are louder, with breath ahead of the tone."""

    def __init__(self, rng: np.random.Generator):
        harmonics = np.arange(1, 25)
        # A body's resonance between 500 Hz and 2 kHz for a tone of 250 Hz.
        formant = 1 + rng.uniform(0, 3) * np.exp(-((harmonics - rng.uniform(2, 8)) ** 2) / rng.uniform(2, 12))
        self._dark = harmonics ** -rng.uniform(2, 3)
        self._bright = formant * harmonics ** -rng.uniform(0.5, 1.2)
        self._players = 1 + np.concatenate([[0.0], rng.normal(0, 0.004, rng.integers(0, 4))])
        self._rise_s = np.exp(rng.uniform(np.log(0.008), np.log(0.08)))
        self._sag, self._breath = rng.uniform(0, 0.6), rng.choice([0.0, rng.uniform(0.02, 0.2)])
        self._rng = rng

    def sound(self, pitch: int, velocity: float, most: int, _moved: int) -> tuple[np.ndarray, int]:
        """A note's samples, float32, `most` from its attack on, and that one's place in them: half way up its rise."""
        attack = int(self._rise_s * SAMPLE_RATE / 2)
        n = attack + most
        t = np.arange(n, dtype=np.float32) / SAMPLE_RATE
        level = np.clip(t / self._rise_s, 0, 1) * (1 - self._sag * np.clip((t - self._rise_s) / 0.15, 0, 1))
        dark, bright = (_table(levels, pitch) for levels in (self._dark, self._bright))
        tone = np.zeros(n, dtype=np.float32)
        for detuned in self._players:
            place = np.arange(n) * (_hz(pitch) * 2048 / SAMPLE_RATE * detuned)
            index = (place + 2048 * self._rng.random()).astype(np.int64) & 2047
            tone += dark[index] + level * np.float32(velocity) * (bright[index] - dark[index])
        # The breath swells ahead of the tone: noise that begins at full level would be a hi-hat.
        swell = np.clip(2 * t / self._rise_s, 0, 1) * np.exp(-t / np.float32(0.03 + self._rise_s))
        puff = self._rng.standard_normal(n, dtype=np.float32) * swell.astype(np.float32)
        return level * tone + np.float32(self._breath) * puff, attack


Tone = Instrument | Pluck | Blown


def backing_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's `backing.csv`; none where it has passages instead.

    Raises InputError where they are not what docs/training.md says.
    """
    table = folder / "backing.csv"
    if not table.exists() and passage_rows(folder):
        return []
    columns: Columns = {
        "path": str,
        "instrument": str,
        "family": str,
        "midi_note": _pitch,
        "velocity_layer": zero_to_one,
    }
    return read_table(table, "backing", columns)


def _pitch(text: str) -> int | None:
    """A MIDI note, or None: a sound without a pitch. Raises ValueError."""
    return round(zero_to(127, text, "a MIDI note 0..127, or nothing")) if text else None


def load_instruments(folder: Path, cache: Path | None) -> list[Instrument]:
    """The folder's instruments; sounds without a pitch are instruments of one note each."""
    rows = [row for row in backing_rows(folder) if row["path"] not in DAMAGED]
    instruments: dict[str, Instrument] = {}
    for row, samples in zip(rows, packed(folder, rows, "backing", cache), strict=True):
        pitch = _pitch(row["midi_note"])
        name = row["path"] if pitch is None else row["instrument"]
        instrument = instruments.setdefault(name, Instrument(name, row["family"]))
        default = PITCHLESS.get(row["instrument"], UNKNOWN_PITCH)
        instrument.pitches.append(default if pitch is None else pitch)
        instrument.layers.append(zero_to_one(row["velocity_layer"]))
        instrument.samples.append(samples)
    return list(instruments.values())


def played(notes: list[Note], instrument: Tone, n_samples: int, release_s: float, moved: int = 0) -> np.ndarray:
    """Notes on an instrument, float32 [n_samples]: each cut at its end with a release.

    With `moved`, recorded notes are those that lie so many semitones lower, played faster: a smaller body.
    """
    bus = np.zeros(n_samples, dtype=np.float32)
    if not notes:
        return bus
    release = np.linspace(1, 0, int(release_s * SAMPLE_RATE), dtype=np.float32)
    most = int(max(note.length_s for note in notes) * SAMPLE_RATE) + len(release)
    sounds: dict[tuple[int, int], tuple[np.ndarray, int]] = {}
    for start_s, length_s, pitch, velocity in notes:
        key = (pitch, round(velocity * 4))
        if key not in sounds:
            sounds[key] = instrument.sound(pitch, key[1] / 4, most, moved)
        wave, attack = sounds[key]
        first = round(start_s * SAMPLE_RATE) - attack
        held = attack + int(length_s * SAMPLE_RATE)
        skipped = max(-first, 0)
        end = min(len(wave), held + len(release), n_samples - first)
        if end <= skipped:
            continue
        note = wave[skipped:end] * np.float32(0.3 + 0.7 * velocity)
        if end > held:
            tail = max(held, skipped)
            note[tail - skipped :] *= release[tail - held : end - held]
        bus[first + skipped : first + end] += note
    return bus


def _hz(pitch: int) -> float:
    return 440 * 2 ** ((pitch - 69) / 12)


def _table(levels: np.ndarray, pitch: int) -> np.ndarray:
    """One period of harmonics 1, 2, ... at their levels, as far as a pitch has them, float32 [2048], peak 1."""
    levels = levels[: max(1, int(HIGHEST_HZ / _hz(pitch)))]
    table = np.sin(np.outer(np.arange(2048) * (2 * np.pi / 2048), np.arange(1, len(levels) + 1))) @ levels
    return (table / np.abs(table).max()).astype(np.float32)


@functools.cache
def _positions(shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the samples of a note moved by `shift` semitones lie in the recorded one: indices, and weights beyond."""
    place = np.arange(int(4.1 * SAMPLE_RATE / 2 ** (shift / 12)) if shift else 0) * 2 ** (shift / 12)
    return place.astype(np.int64), (place % 1).astype(np.float32) / 32768


def _moved(samples: np.ndarray, shift: int, most: int) -> np.ndarray:
    """Up to `most` samples of a recorded note, float32, resampled by linear interpolation."""
    if shift == 0:
        return samples[:most] * np.float32(1 / 32768)
    ratio = 2 ** (shift / 12)
    n = min(most, int((len(samples) - 2) / ratio))
    indices, weights = _positions(shift)
    n = min(n, len(indices))
    source = samples[: int(n * ratio) + 2].astype(np.float32)
    wave = (source[1:] - source[:-1])[indices[:n]]
    wave *= weights[:n]
    wave += source[indices[:n]] * np.float32(1 / 32768)
    return wave
