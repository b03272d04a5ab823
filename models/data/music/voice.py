"""A synthesised voice: sung or spoken syllables of vowels and consonants, which no drum transcriber should answer to.

Source and filter: a harmonic source with glides and vibrato through moving formants, in short-time spectra, and noise
for the consonants. Formant frequencies: Peterson and Barney 1952, averages of men.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["syllable_starts", "synthesise_voice"]

SAMPLE_RATE = 44100
HOP = 256  # samples between control frames and between spectra
WINDOW = 1024
VOWELS_HZ = np.array(
    [[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410], [640, 1190, 2390],
     [490, 1350, 1690], [660, 1720, 2410]]
)  # fmt: skip
UPPER_HZ = (3300.0, 4200.0, 5600.0, 7500.0, 10000.0)  # resonances that do not move
# Band of the noise (Hz), level in dB under the vowels' RMS, and whether it is a burst after a closure.
CONSONANTS = {
    "s": (5000, 10500, 0, False), "sh": (2300, 6500, 0, False), "f": (1500, 11000, -10, False),
    "h": (600, 4500, -10, False), "ch": (2500, 7000, 0, True), "t": (2800, 9000, 1, True), "k": (1400, 4500, 1, True),
    "p": (200, 2500, 0, True),
}  # fmt: skip


class Syllable(NamedTuple):
    """One syllable: the consonant's start, the vowel's and its length in seconds, pitch in Hz, vowels at both ends."""

    begin_s: float
    start_s: float
    length_s: float
    pitch_hz: float
    vowels: tuple[int, int]
    consonant: str | None


def synthesise_voice(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """A voice that sings, raps or speaks, float32 [n_samples], peak 0.9."""
    syllables = _syllables(rng, n_samples / SAMPLE_RATE)
    wave = _vowels(rng, syllables, n_samples)
    if rng.random() < 0.2:  # a second voice a third, a fourth or an octave away, or the same once more
        shift = 2 ** (float(rng.choice([0, 3, 4, 5, 12, -12])) / 12)
        doubled = [s._replace(start_s=s.start_s + rng.normal(0, 0.015), pitch_hz=s.pitch_hz * shift) for s in syllables]
        wave += np.float32(rng.uniform(0.3, 1)) * _vowels(rng, doubled, n_samples)
    if rng.random() < 0.15:  # shouted through an amplifier
        wave = np.tanh(wave * np.float32(rng.uniform(1, 6)))
    wave /= max(float(np.sqrt(np.mean(wave**2))), 1e-6)
    wave += _consonants(rng, syllables, n_samples)
    return wave * np.float32(0.9 / max(float(np.abs(wave).max()), 1e-6))


def syllable_starts(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """Where the syllables of `synthesise_voice` and their vowels begin, int64 [S, 2] in samples, by its generator."""
    seconds = [(s.begin_s, s.start_s) for s in _syllables(rng, n_samples / SAMPLE_RATE)]
    return np.round(np.array(seconds).reshape(-1, 2) * SAMPLE_RATE).astype(np.int64)


def _syllables(rng: np.random.Generator, duration_s: float) -> list[Syllable]:
    """Phrases of syllables on a scale, or with the falling pitch of speech, and pauses between."""
    sung, rate = rng.random() < 0.7, rng.uniform(1.2, 4.5)
    if not sung:
        rate = rng.uniform(3.5, 7)
    base_hz = np.exp(rng.uniform(np.log(95), np.log(420)))
    steps, degree = np.array([0, 2, 4, 5, 7, 9, 12]), 0
    time_s, end_s, syllables = rng.uniform(0, 0.3), rng.uniform(1, 4), []
    vowel, consonantal = int(rng.integers(len(VOWELS_HZ))), rng.uniform(0.4, 0.95)
    kinds = list(CONSONANTS)
    while time_s < duration_s:
        span_s = float(np.clip(rng.lognormal(0, 0.4) / rate, 0.09, 2.5))
        degree = int(np.clip(degree + rng.integers(-2, 3), 0, len(steps) - 1))
        semitones = steps[degree] if sung else 6 * (end_s - time_s) / 4 + rng.normal(0, 2)
        following = int(rng.integers(len(VOWELS_HZ))) if rng.random() < 0.5 else vowel
        consonant = kinds[rng.integers(len(kinds))] if rng.random() < consonantal else None
        ahead_s = 0.0
        if consonant:
            ahead_s = rng.uniform(0.03, 0.1) if CONSONANTS[consonant][3] else rng.uniform(0.06, 0.16)
        start_s = time_s + ahead_s
        length_s = max(span_s * rng.uniform(0.7, 1.0), 0.06)
        syllables.append(
            Syllable(time_s, start_s, length_s, float(base_hz * 2 ** (semitones / 12)), (vowel, following), consonant)
        )
        vowel = int(rng.integers(len(VOWELS_HZ)))
        time_s = start_s + span_s
        if time_s > end_s:
            time_s += rng.uniform(0.2, 1.5)
            end_s = time_s + rng.uniform(1, 4)
    return syllables


def _smoothed(track: np.ndarray, frames: int) -> np.ndarray:
    """A control track [K] or [K, C] through a moving average of `frames` frames, ends held."""
    padded = np.pad(track, [(frames, frames)] + [(0, 0)] * (track.ndim - 1), mode="edge").cumsum(axis=0)
    return (padded[frames:] - padded[:-frames])[frames // 2 : frames // 2 + len(track)] / frames


def _vowels(rng: np.random.Generator, syllables: list[Syllable], n_samples: int) -> np.ndarray:
    """The voiced part, float32 [n_samples], any level."""
    n_frames = n_samples // HOP + WINDOW // HOP + 1
    frame_s = HOP / SAMPLE_RATE
    times = np.arange(n_frames) * frame_s
    pitch = np.full(n_frames, syllables[0].pitch_hz if syllables else 100.0)
    loud, formants = np.zeros(n_frames), np.tile(VOWELS_HZ[0].astype(float), (n_frames, 1))
    attack_s, release_s = rng.uniform(0.015, 0.07), rng.uniform(0.03, 0.1)
    for _, start_s, length_s, pitch_hz, (first, last), _ in syllables:
        a = max(int(start_s / frame_s), 0)
        b = min(int((start_s + length_s) / frame_s) + 1, n_frames)
        if a >= b:
            continue
        pitch[a:], age = pitch_hz, times[a:b] - start_s
        loud[a:b] = rng.uniform(0.5, 1) * np.clip(np.minimum(age / attack_s, (length_s - age) / release_s), 0, 1)
        blend = np.clip(age / length_s, 0, 1)[:, None]
        formants[a:b] = VOWELS_HZ[first] * (1 - blend) + VOWELS_HZ[last] * blend
        formants[b:] = formants[b - 1]
    glide = int(rng.uniform(5, 20))
    vibrato = rng.choice([0.0, rng.uniform(0.003, 0.02)]) * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * times)
    pitch = _smoothed(pitch, glide) * (1 + vibrato + 0.004 * _smoothed(rng.standard_normal(n_frames), 4))
    source = _source(rng, pitch, n_frames * HOP) * np.repeat(_smoothed(loud, 3), HOP).astype(np.float32)
    tract = rng.uniform(0.95, 1.22)  # length of the vocal tract against a man's, as a factor on the formants
    return _through_formants(rng, source, _smoothed(formants, int(rng.uniform(6, 14))) * tract, tract)[:n_samples]


def _source(rng: np.random.Generator, pitch_hz: np.ndarray, n: int) -> np.ndarray:
    """Glottal pulses of a pitch track [K], with breath, float32 [n]."""
    harmonics = np.arange(1, max(2, min(160, int(16000 / pitch_hz.max()))) + 1)
    levels = harmonics ** -rng.uniform(0.8, 1.4)
    table = np.sin(np.outer(np.arange(4096) * (2 * np.pi / 4096), harmonics)) @ levels
    step = np.repeat(pitch_hz / SAMPLE_RATE, HOP)
    wave = table.astype(np.float32)[(np.cumsum(step) * 4096).astype(np.int64) & 4095]
    breath = np.float32(np.exp(rng.uniform(np.log(0.02), np.log(0.4))))
    return wave + breath * rng.standard_normal(n, dtype=np.float32)


def _through_formants(
    rng: np.random.Generator, source: np.ndarray, formants_hz: np.ndarray, tract: float
) -> np.ndarray:
    """Filter source [K * HOP] by resonances that move, formants [K, 3], and some that stand; float32."""
    window = np.sqrt(np.hanning(WINDOW + 1)[:-1]).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(source, WINDOW)[::HOP] * window
    spectra = np.fft.rfft(frames)
    bins = np.arange(WINDOW // 2 + 1, dtype=np.float32) * np.float32(SAMPLE_RATE / WINDOW)
    moving = formants_hz[: len(frames)].astype(np.float32)
    fall = rng.uniform(0.5, 0.85)  # level of a resonance against the one below
    gain = np.zeros((len(frames), len(bins)), dtype=np.float32)
    for k in range(moving.shape[1]):
        gain += _resonance(bins, moving[:, k, None], 50 + 25 * k) * np.float32(fall**k)
    fixed = np.zeros(len(bins), dtype=np.float32)
    for k, centre_hz in enumerate(UPPER_HZ, start=3):
        fixed += _resonance(bins, np.float32(centre_hz * tract), 100 + 60 * k) * np.float32(fall**k)
    gain += fixed
    filtered = np.fft.irfft(spectra * gain).astype(np.float32) * (window * np.float32(HOP * 2 / WINDOW))
    out = np.zeros((len(frames) + WINDOW // HOP - 1, HOP), dtype=np.float32)
    for k in range(WINDOW // HOP):
        out[k : k + len(frames)] += filtered[:, k * HOP : (k + 1) * HOP]
    return out.reshape(-1)


def _resonance(bins_hz: np.ndarray, centre_hz: np.ndarray | np.floating, half_width_hz: float) -> np.ndarray:
    """Magnitude of a band-pass, 1 at its centre: one branch of a parallel formant synthesiser (Klatt 1980)."""
    return 1 / np.sqrt(1 + ((bins_hz - centre_hz) / np.float32(half_width_hz)) ** 2)


def _consonants(rng: np.random.Generator, syllables: list[Syllable], n_samples: int) -> np.ndarray:
    """Noise bursts and fricatives ahead of the vowels, float32 [n_samples]; level 1 = the vowels' RMS."""
    out = np.zeros(n_samples, dtype=np.float32)
    noises = {kind: _band_noise(rng, low, high) for kind, (low, high, _, _) in CONSONANTS.items()}
    clear = 10 ** (rng.uniform(-12, 3) / 20)
    for begin_s, start_s, _, _, _, kind in syllables:
        if kind is None:
            continue
        _, _, level_db, burst = CONSONANTS[kind]
        # A burst follows a moment of closure; both kinds may last into the vowel.
        first = int((begin_s + (start_s - begin_s) * (rng.uniform(0.3, 0.8) if burst else 0)) * SAMPLE_RATE)
        length = min(int(start_s * SAMPLE_RATE) - first + int(rng.uniform(0, 0.03) * SAMPLE_RATE), n_samples - first)
        if length < 400:
            continue
        age = np.arange(length, dtype=np.float32) / length
        if burst:
            shape = np.minimum(age * (length / 40), 1) * (np.exp(-age * rng.uniform(4, 12)) + 0.15 * (1 - age))
        else:
            shape = np.minimum(np.minimum(age / rng.uniform(0.1, 0.4), (1 - age) / 0.3), 1)
        offset = int(rng.integers(len(noises[kind]) - length))
        gain = clear * 10 ** ((level_db + rng.normal(0, 2)) / 20)
        out[first : first + length] += noises[kind][offset : offset + length] * (gain * shape).astype(np.float32)
    return out


def _band_noise(rng: np.random.Generator, low_hz: float, high_hz: float) -> np.ndarray:
    """Noise around a band, float32 [27000], RMS 1."""
    n = 27000
    bins = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    centre, width = np.sqrt(low_hz * high_hz), np.log(high_hz / low_hz) / 2
    curve = np.exp(-0.5 * (np.log(np.maximum(bins, 1) / centre) / width) ** 4)
    wave = np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * curve)
    return (wave / np.sqrt(np.mean(wave**2))).astype(np.float32)
