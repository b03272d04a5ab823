"""Audio to measure with: drum-like sounds and noise, from a seed, without data or torch."""

from __future__ import annotations

import numpy as np

__all__ = ["drum_like"]


def drum_like(seed: int, seconds: float, sample_rate: int = 44100, hits_per_second: float = 6.0) -> np.ndarray:
    """Mono float32 [N] in -1..1: kicks, snares and hats at random times over faint noise. The first hit is at 0.1 s."""
    rng = np.random.default_rng(seed)
    n = round(seconds * sample_rate)
    audio = 0.002 * rng.standard_normal(n).astype(np.float32)
    sounds = [_kick(sample_rate), _snare(rng, sample_rate), _hat(rng, sample_rate)]
    count = max(1, round(seconds * hits_per_second))
    times_s = np.concatenate([[0.1], rng.uniform(0.1, max(seconds, 0.1), count - 1)])
    for start in np.round(times_s * sample_rate).astype(int):
        sound = sounds[rng.integers(len(sounds))][: max(0, n - start)]
        audio[start : start + len(sound)] += rng.uniform(0.1, 0.8) * sound
    return np.clip(audio, -1, 1)


def _seconds(length_s: float, sample_rate: int) -> np.ndarray:
    return np.arange(round(length_s * sample_rate), dtype=np.float32) / sample_rate


def _kick(sample_rate: int) -> np.ndarray:
    """A sine falling from 150 to 50 Hz."""
    t = _seconds(0.25, sample_rate)
    phase = 2 * np.pi * (50 * t + 100 * 0.03 * (1 - np.exp(-t / 0.03)))
    return (np.sin(phase) * np.exp(-t / 0.08)).astype(np.float32)


def _snare(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Noise over a 190 Hz body."""
    t = _seconds(0.2, sample_rate)
    noise = 0.4 * rng.standard_normal(len(t)) * np.exp(-t / 0.05)
    return (noise + 0.5 * np.sin(2 * np.pi * 190 * t) * np.exp(-t / 0.06)).astype(np.float32)


def _hat(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """High-passed noise (its second difference), short."""
    t = _seconds(0.06, sample_rate)
    noise = np.diff(rng.standard_normal(len(t) + 2), n=2)
    return (0.15 * noise * np.exp(-t / 0.015)).astype(np.float32)
