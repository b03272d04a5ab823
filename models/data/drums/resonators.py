"""What synthesised drums are made of: bands of noise or partials with an envelope each, decaying modes, bursts.

Conventions: waveforms are float32 [n]; K bands or partials along the first axis; times and time constants in seconds.
Sounds that ring in many partials (cymbals, hats, wires) are made of octave bands of one noise or partial spectrum, each
band with its own envelope: an inverse FFT per band replaces hundreds of oscillators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = [
    "Bench",
    "add",
    "bell_curve",
    "burst",
    "darkened",
    "modes",
    "noise_spectrum",
    "octave_bands",
    "partial_spectrum",
    "peaked",
    "ring",
]

_BAND_CENTRES_HZ = 180.0 * 2.0 ** np.arange(7)
_BAND_WIDTH_OCTAVES = 0.5


@dataclass(frozen=True)
class Bench:
    """What every piece of one kit is made from: the generator, the rate, one stretch of noise in bands."""

    rng: np.random.Generator
    sample_rate: int
    noise: np.ndarray  # float32 [K, n], unit RMS per band
    electronic: bool

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def log_between(self, low: float, high: float) -> float:
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def seconds(self, duration_s: float) -> np.ndarray:
        """Times of samples [n] in seconds."""
        return np.arange(int(duration_s * self.sample_rate), dtype=np.float32) / np.float32(self.sample_rate)


def noise_spectrum(rng: np.random.Generator, n: int) -> np.ndarray:
    """Spectrum of white noise, complex64 [n/2 + 1]."""
    return rng.standard_normal(2 * (n // 2 + 1), dtype=np.float32).view(np.complex64)


def partial_spectrum(rng: np.random.Generator, n: int, frequencies_hz: np.ndarray, sample_rate: int) -> np.ndarray:
    """Spectrum of steady partials [K] with random phases and levels, complex64 [n/2 + 1]."""
    spectrum = np.zeros(n // 2 + 1, dtype=np.complex64)
    bins = np.round(frequencies_hz * n / sample_rate).astype(np.int64)
    bins = bins[bins < len(spectrum)]
    np.add.at(spectrum, bins, rng.standard_normal(2 * len(bins), dtype=np.float32).view(np.complex64))
    return spectrum


@cache
def _band_masks(n_bins: int, sample_rate: int) -> np.ndarray:
    """Overlapping octave bands over the bins of a spectrum, float32 [K, n_bins]."""
    frequencies = np.linspace(0, sample_rate / 2, n_bins)
    octaves = np.log2(np.maximum(frequencies, 1.0) / _BAND_CENTRES_HZ[:, None])
    return np.exp(-0.5 * (octaves / _BAND_WIDTH_OCTAVES) ** 2).astype(np.float32)


def octave_bands(spectrum: np.ndarray, sample_rate: int) -> np.ndarray:
    """Waveforms of a spectrum's octave bands, float32 [K, n], unit RMS each (an empty band stays silent)."""
    waves = np.fft.irfft(spectrum * _band_masks(len(spectrum), sample_rate), axis=1)
    rms = np.sqrt(np.einsum("kn,kn->k", waves, waves) / waves.shape[1])
    return waves * (1 / np.maximum(rms, 1e-6))[:, None].astype(np.float32)


def ring(bench: Bench, bands: np.ndarray, weights: np.ndarray, decays_s: np.ndarray, rises_s: np.ndarray) -> np.ndarray:
    """Bands [K, n] mixed with `weights` [K], each rising and decaying exponentially with its time constants [K]."""
    n = min(bands.shape[1], int(7 * decays_s.max() * bench.sample_rate))  # 7 time constants: -60 dB
    t = np.arange(n, dtype=np.float32) / np.float32(bench.sample_rate)
    wave = np.zeros(n, dtype=np.float32)
    for band, weight, decay_s, rise_s in zip(bands, weights, decays_s, rises_s, strict=True):
        m = min(n, int(7 * decay_s * bench.sample_rate))
        swell = min(m, int(7 * rise_s * bench.sample_rate))
        envelope = np.exp(t[:m] * np.float32(-1 / decay_s))
        envelope[:swell] *= 1 - np.exp(t[:swell] * np.float32(-1 / max(rise_s, 1e-4)))
        wave[:m] += np.float32(weight) * band[:m] * envelope
    return wave


def bell_curve(centre_hz: float, width_octaves: float) -> np.ndarray:
    """Weights [K] of the bands around a centre."""
    return np.exp(-0.5 * (np.log2(_BAND_CENTRES_HZ / centre_hz) / width_octaves) ** 2)


def darkened(weights: np.ndarray, strength: float, span_db: float) -> np.ndarray:
    """Weights [K] tilted towards the low bands, by `span_db` over the whole range for the softest strike."""
    tilt_db = -(1 - strength) * span_db * np.arange(len(weights)) / (len(weights) - 1)
    return weights * 10 ** (tilt_db / 20)


def burst(bench: Bench, centre_hz: float, width_octaves: float, decay_s: float) -> Callable[[], np.ndarray]:
    """A short noise: a stick, a beater, one clap. The noise is chosen once, so that the layers agree."""
    start = int(bench.rng.integers(bench.noise.shape[1] // 2))
    decays = np.full(len(bench.noise), decay_s)
    weights = bell_curve(centre_hz, width_octaves)
    return lambda: ring(bench, bench.noise[:, start:], weights, decays, np.zeros(len(decays)))


def modes(
    bench: Bench, frequencies_hz: np.ndarray, levels: np.ndarray, decays_s: np.ndarray, glide: float, glide_s: float
) -> np.ndarray:
    """Decaying sines [K] that start `glide` (a ratio) higher and fall with the time constant `glide_s`."""
    t = bench.seconds(min(7 * float(decays_s.max()), 3.0))
    cycles = t + np.float32(glide * glide_s) * (1 - np.exp(-t / np.float32(glide_s)))
    wave = np.zeros_like(t)
    for frequency, level, decay_s in zip(frequencies_hz, levels, decays_s, strict=True):
        m = min(len(t), int(7 * decay_s * bench.sample_rate))
        tone = np.sin(np.float32(2 * np.pi * frequency) * cycles[:m])
        wave[:m] += np.float32(level) * tone * np.exp(t[:m] * np.float32(-1 / decay_s))
    return wave


def add(*waves: np.ndarray) -> np.ndarray:
    """Sum of waveforms of different lengths."""
    total = np.zeros(max(map(len, waves)), dtype=np.float32)
    for wave in waves:
        total[: len(wave)] += wave
    return total


def peaked(wave: np.ndarray) -> np.ndarray:
    """Waveform with its peak at 1."""
    return wave / np.abs(wave).max()
