"""A simple tonal accompaniment made of random bass lines, chords and melodies: a negative for training on full mixes.

Conventions: waveforms are float32 mono, full scale 1.0; a note is (start in seconds, length in seconds, pitch in Hz).
"""

from __future__ import annotations

import numpy as np

__all__ = ["synthesise_backing"]

Note = tuple[float, float, float]
_SCALE = np.array([0, 2, 4, 5, 7, 9, 11])  # major, in semitones


def synthesise_backing(rng: np.random.Generator, n_samples: int, sample_rate: int = 44100) -> np.ndarray:
    """Tonal music without drums, float32 [n_samples], peak 0.9: bass, chords, often a melody, sometimes breath noise.

    A negative: pitched attacks, from plucked to bowed, that must not be taken for drums.
    """
    mix = np.zeros(n_samples, dtype=np.float32)
    if n_samples == 0:
        return mix
    beat_s = 60 / rng.uniform(60, 180)
    tonic_hz = 440 * 2 ** (rng.integers(-9, 3) / 12)
    # The roots of a loop of chords, one chord per bar, as steps of the major scale.
    degrees = rng.choice([0, 3, 4, 5, 1], int(rng.integers(2, 5)))
    parts = [(_bass_part, 0.85, 1.0), (_chord_part, 0.85, 0.8), (_melody_part, 0.5, 0.7)]
    for part, chance, level in parts:
        if rng.random() < chance:
            notes = part(rng, degrees, tonic_hz, beat_s, n_samples / sample_rate)
            mix += np.float32(level * rng.uniform(0.3, 1.0)) * _played(rng, notes, n_samples, sample_rate)
    if rng.random() < 0.25:
        mix += np.float32(10 ** rng.uniform(-2.5, -1)) * _breath(rng, n_samples, sample_rate)
    peak = float(np.abs(mix).max())
    return mix * np.float32(0.9 / peak) if peak > 0 else mix


def _pitch_hz(tonic_hz: float, degree: int) -> float:
    """Frequency of a scale step; steps beyond the scale go on in the next octave."""
    return tonic_hz * 2 ** ((_SCALE[degree % 7] + 12 * (degree // 7)) / 12)


def _bass_part(
    rng: np.random.Generator, degrees: np.ndarray, tonic_hz: float, beat_s: float, duration_s: float
) -> list[Note]:
    """Root notes, sometimes the fifth, on eighths to halves, two octaves down."""
    step = rng.choice([0.5, 1.0, 2.0])
    notes = []
    for k, start in enumerate(np.arange(0, duration_s, step * beat_s)):
        root = degrees[int(k * step // 4) % len(degrees)]
        if rng.random() < 0.85:
            degree = int(root + rng.choice([0, 0, 0, 4, 7]))
            notes.append((float(start), step * beat_s * rng.uniform(0.5, 1.0), _pitch_hz(tonic_hz / 4, degree)))
    return notes


def _chord_part(
    rng: np.random.Generator, degrees: np.ndarray, tonic_hz: float, beat_s: float, duration_s: float
) -> list[Note]:
    """Triads or sevenths, held for the bar or struck on beats."""
    step = rng.choice([1.0, 2.0, 4.0])
    tones = [0, 2, 4, 6][: int(rng.integers(2, 5))]
    strum_s = rng.choice([0.0, 0.015])
    notes = []
    for k, start in enumerate(np.arange(0, duration_s, step * beat_s)):
        root = int(degrees[int(k * step // 4) % len(degrees)])
        length_s = step * beat_s * rng.uniform(0.6, 1.05)
        notes += [
            (float(start) + i * strum_s, length_s, _pitch_hz(tonic_hz / 2, root + t)) for i, t in enumerate(tones)
        ]
    return notes


def _melody_part(
    rng: np.random.Generator, degrees: np.ndarray, tonic_hz: float, beat_s: float, duration_s: float
) -> list[Note]:
    """A random walk over the scale, with rests, an octave around the tonic."""
    notes, time, degree = [], 0.0, int(degrees[0])
    while time < duration_s:
        length_s = beat_s * rng.choice([0.5, 0.5, 1.0, 2.0])
        degree = int(np.clip(degree + rng.integers(-2, 3), -4, 12))
        if rng.random() < 0.75:
            notes.append((time, length_s * rng.uniform(0.6, 1.0), _pitch_hz(tonic_hz, degree)))
        time += length_s
    return notes


def _played(rng: np.random.Generator, notes: list[Note], n_samples: int, sample_rate: int) -> np.ndarray:
    """Notes played by one random instrument, float32 [n_samples], peak 1: wavetable, attack, decay, vibrato."""
    harmonics = np.arange(1, 25)
    levels = harmonics ** -rng.uniform(0.8, 2.5) * rng.uniform(0.1, 1.0, len(harmonics))
    table_phase = np.arange(2048) / 2048 * 2 * np.pi
    table = (levels[:, None] * np.sin(np.outer(harmonics, table_phase))).sum(0).astype(np.float32)
    attack_s, decay_s = np.exp(rng.uniform(np.log(0.003), np.log(0.12))), np.exp(rng.uniform(np.log(0.2), np.log(4)))
    vibrato, vibrato_hz = rng.choice([0.0, rng.uniform(0.001, 0.008)]), rng.uniform(4, 7)
    wave = np.zeros(n_samples, dtype=np.float32)
    for start_s, length_s, frequency in notes:
        first = int(start_s * sample_rate)
        t = np.arange(min(int((length_s + 0.06) * sample_rate), n_samples - first)) / sample_rate
        cycles = frequency * (t + vibrato / (2 * np.pi * vibrato_hz) * np.sin(2 * np.pi * vibrato_hz * t))
        tone = table[(cycles * 2048).astype(np.int64) & 2047]
        swell = np.clip(t / attack_s, 0, 1) * np.clip((length_s + 0.06 - t) / 0.06, 0, 1)
        wave[first : first + len(t)] += tone * (rng.uniform(0.5, 1) * swell * np.exp(-t / decay_s)).astype(np.float32)
    return wave / max(float(np.abs(wave).max()), 1e-6)


def _breath(rng: np.random.Generator, n_samples: int, sample_rate: int) -> np.ndarray:
    """Noise of a random colour that swells a few times per second, like breath or speech, float32 [n_samples]."""
    n = 2 ** int(np.ceil(np.log2(n_samples + 1)))
    frequencies = np.linspace(1, sample_rate / 2, n // 2 + 1, dtype=np.float32)
    spectrum = rng.standard_normal(2 * (n // 2 + 1), dtype=np.float32).view(np.complex64)
    coloured = np.fft.irfft(spectrum * frequencies ** np.float32(-rng.uniform(0, 1)))[:n_samples]
    knots = rng.uniform(0, 1, int(n_samples / sample_rate * rng.uniform(1, 6)) + 2)
    swells = np.interp(np.linspace(0, len(knots) - 1, n_samples), np.arange(len(knots)), knots)
    return (coloured / np.abs(coloured).max() * swells).astype(np.float32)
