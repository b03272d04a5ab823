"""Synthesised accompaniment, negatives for training on full mixes: a simple band, an organ, a pad.

Conventions: waveforms are float32 mono, full scale 1.0; a note is (start in seconds, length in seconds, pitch in Hz).
"""

from __future__ import annotations

import numpy as np

__all__ = ["synthesise_backing", "synthesise_organ", "synthesise_pad"]

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


def synthesise_organ(rng: np.random.Generator, n_samples: int, sample_rate: int = 44100) -> np.ndarray:
    """A drawbar organ playing chords, float32 [n_samples], peak 0.9: key click or none, sometimes overdriven."""
    # Pitches of the nine drawbars against the key's, as in a Hammond organ.
    drawbars = np.array([0.5, 1.5, 1, 2, 3, 4, 5, 6, 8])
    levels = rng.uniform(0, 1, 9) * (rng.random(9) < 0.7)
    levels[2] = 1.0
    click = rng.choice([0.0, rng.uniform(0.1, 0.7)])
    rotor_hz, depth = rng.choice([0.8, rng.uniform(5, 7)]), rng.uniform(0, 0.3)
    wave = np.zeros(n_samples, dtype=np.float32)
    table = _sine_table(2 * drawbars, levels)  # of an octave below the key, where all drawbars are harmonics
    swell_s = rng.uniform(0.002, 0.008)
    for start_s, length_s, frequency in _key_parts(rng, n_samples / sample_rate):
        first = int(start_s * sample_rate)
        t = np.arange(min(int((length_s + 0.02) * sample_rate), n_samples - first)) / sample_rate
        tone = table[(frequency / 2 * t * len(table)).astype(np.int64) & (len(table) - 1)]
        gate = np.clip(np.minimum(t / swell_s, (length_s + 0.02 - t) / 0.02), 0, 1)
        wave[first : first + len(t)] += tone * gate.astype(np.float32)
        noise = rng.standard_normal(min(int(0.008 * sample_rate), len(t)), dtype=np.float32)
        wave[first : first + len(noise)] += np.float32(click) * noise * np.linspace(1, 0, len(noise), dtype=np.float32)
    wave *= 1 + np.float32(depth) * np.sin(
        np.arange(n_samples, dtype=np.float32) * np.float32(2 * np.pi * rotor_hz / sample_rate)
    )
    if rng.random() < 0.4:
        wave = np.tanh(wave * np.float32(rng.uniform(0.5, 3)))
    return _to_peak(wave)


def synthesise_pad(rng: np.random.Generator, n_samples: int, sample_rate: int = 44100) -> np.ndarray:
    """A synthesiser pad, float32 [n_samples], peak 0.9: detuned saws, slow swells, a filter that moves in and out."""
    harmonics = np.arange(1, 30)
    bright = _sine_table(harmonics, 1 / harmonics)
    dark = _sine_table(harmonics, harmonics ** -rng.uniform(1.8, 3))
    detune, attack_s, release_s = rng.uniform(0.001, 0.008), rng.uniform(0.05, 0.8), rng.uniform(0.1, 0.6)
    sweep_hz = rng.uniform(0.05, 4)
    wave = np.zeros(n_samples, dtype=np.float32)
    for start_s, length_s, frequency in _key_parts(rng, n_samples / sample_rate, slow=True):
        first = int(start_s * sample_rate)
        t = np.arange(min(int((length_s + release_s) * sample_rate), n_samples - first)) / sample_rate
        gate = np.clip(np.minimum(t / attack_s, (length_s + release_s - t) / release_s), 0, 1).astype(np.float32)
        opened = (0.5 + 0.5 * np.sin(2 * np.pi * sweep_hz * (t + start_s))).astype(np.float32)
        for factor in (1 - detune, 1 + detune):
            index = ((frequency * factor * t + rng.random()) * len(bright)).astype(np.int64) & (len(bright) - 1)
            wave[first : first + len(t)] += gate * (dark[index] + opened * (bright[index] - dark[index]))
    return _to_peak(wave)


def _key_parts(rng: np.random.Generator, duration_s: float, slow: bool = False) -> list[Note]:
    """Chords of a keyboard player, and sometimes a melody over them."""
    beat_s = 60 / rng.uniform(60, 180) * (2 if slow else 1)
    tonic_hz = 440 * 2 ** (rng.integers(-9, 3) / 12)
    degrees = rng.choice([0, 3, 4, 5, 1], int(rng.integers(2, 5)))
    notes = _chord_part(rng, degrees, tonic_hz, beat_s, duration_s)
    if not slow and rng.random() < 0.4:
        notes += _melody_part(rng, degrees, tonic_hz, beat_s, duration_s)
    return notes


def _sine_table(harmonics: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """One period of a sum of sines, float32 [4096]."""
    phase = np.arange(4096) * (2 * np.pi / 4096)
    return (np.sin(np.outer(phase, harmonics)) @ levels).astype(np.float32)


def _to_peak(wave: np.ndarray) -> np.ndarray:
    return wave * np.float32(0.9 / max(float(np.abs(wave).max(initial=0)), 1e-6))


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
