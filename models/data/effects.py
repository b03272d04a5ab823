"""What happens to drums between the skin and the file: small transforms of [B, N] audio in torch.

Every transform draws its settings from one NumPy generator per clip, so a clip depends on its own seed alone,
whatever batch, process or device it is rendered in. Letters: B clips, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .kits import SAMPLE_RATE

__all__ = ["Rngs", "compress", "equaliser", "level", "noise", "normalised", "room_response", "saturate"]

EQUALISER_POINTS = 2049  # about 11 Hz apart: finer than any curve drawn here
BLOCK = 220  # samples per gain value of the compressor: 5 ms

Rngs = Sequence[np.random.Generator]


def equaliser(rng: np.random.Generator, *, spread_db: float = 4.0) -> np.ndarray:
    """Gain at EQUALISER_POINTS frequencies from 0 to half the rate.

    A random curve, a tilt of up to 6 dB, sometimes band limits.
    """
    points = np.array([40, 120, 300, 800, 2200, 6000, 15000])
    gains = rng.normal(0, spread_db, len(points)) + rng.uniform(-6, 6) * np.linspace(-0.5, 0.5, len(points))
    frequency = np.linspace(1, SAMPLE_RATE / 2, EQUALISER_POINTS)
    curve = np.interp(np.log(frequency), np.log(points), gains)
    if rng.random() < 0.12:
        curve -= 12 * np.clip(np.log2(frequency / rng.uniform(4000, 16000)), 0, 6) * rng.uniform(1, 4)
    if rng.random() < 0.2:
        curve -= 12 * np.clip(np.log2(rng.uniform(40, 160) / frequency), 0, 6)
    return (10 ** (curve / 20)).astype(np.float32)


def room_response(rng: np.random.Generator, length: int) -> np.ndarray:
    """A room [length]: early reflections and a noise tail, 0.1 to 1.2 s to -60 dB.

    Later than the direct sound by 1 to 12 ms.
    """
    decay_s = 0.1 * 12 ** rng.random()
    before = int(rng.uniform(0.001, 0.012) * SAMPLE_RATE)
    n = min(length - before, int(decay_s * SAMPLE_RATE))
    t = np.arange(n, dtype=np.float32) / SAMPLE_RATE
    tail = rng.standard_normal(n, dtype=np.float32) * np.exp(-6.9 * t / decay_s)
    # Air and walls take the highs first: blend towards a smoothed copy as the tail gets older.
    smooth = np.convolve(tail, np.full(6, 1 / 6, np.float32), mode="same")
    age = np.minimum(1, t / (0.3 * decay_s))
    tail = tail * (1 - age) + 2 * smooth * age
    early = np.zeros(n, np.float32)
    early[rng.integers(1, int(0.03 * SAMPLE_RATE), 6)] = rng.normal(0, 1, 6)
    response = np.zeros(length, np.float32)
    response[before : before + n] = _unit(tail) + 0.5 * _unit(early)
    return response


def compress(audio: Tensor, rngs: Rngs) -> Tensor:
    """Bus compression of half the clips.

    Gain follows the level with an exponential release, above a random threshold.
    """
    clips, samples = audio.shape
    padded = torch.nn.functional.pad(audio, (0, -samples % BLOCK))
    power = padded.reshape(clips, -1, BLOCK).square().mean(2)
    gain = torch.ones_like(power)
    for i, rng in enumerate(rngs):
        if rng.random() < 0.5:
            gain[i] = _compressor_gain(power[i], rng.uniform(0.03, 0.3), rng.uniform(1.5, 8), rng.uniform(6, 24))
    # Linear between blocks: a step in gain would be an onset of its own.
    smooth = torch.nn.functional.interpolate(gain[:, None], size=padded.shape[1], mode="linear", align_corners=False)
    return audio * smooth[:, 0, :samples]


def _compressor_gain(power: Tensor, release_s: float, ratio: float, depth_db: float) -> Tensor:
    """Gain per block [n] from power per block [n]; the threshold lies `depth_db` under the loudest moment."""
    age = torch.arange(200, device=power.device, dtype=power.dtype) * BLOCK / SAMPLE_RATE
    kernel = torch.exp(-age / release_s).flip(0)
    smoothed = torch.nn.functional.conv1d(power[None, None], (kernel / kernel.sum())[None, None], padding=199)
    db = 10 * torch.log10(smoothed[0, 0, : len(power)].clamp(min=0) + 1e-9)
    over = torch.relu(db - (db.max() - depth_db))
    return 10 ** (-over * (1 - 1 / ratio) / 20)


def saturate(audio: Tensor, rngs: Rngs) -> Tensor:
    """Tape-like saturation (tanh) of a third of the clips, 0 to 18 dB into the knee; expects peaks near 1."""
    drive = _column(audio, [10 ** (rng.uniform(0, 18) / 20) if rng.random() < 0.33 else 1e-2 for rng in rngs])
    return torch.tanh(audio * drive) / torch.tanh(drive)


def noise(audio: Tensor, rngs: Rngs) -> Tensor:
    """A noise floor of -85 to -38 dB re full scale, white to dark, and mains hum in one clip of ten."""
    samples = audio.shape[1]
    time = torch.arange(samples, device=audio.device) / SAMPLE_RATE
    out = []
    for clip, rng in zip(audio, rngs, strict=True):
        seeded = torch.Generator(audio.device).manual_seed(int(rng.integers(2**31)))
        white = torch.randn(samples + 1, generator=seeded, device=audio.device)
        floor = white[1:] + float(rng.uniform(0, 0.9)) * white[:-1]
        if rng.random() < 0.1:
            floor = floor + float(rng.uniform(0.5, 3)) * torch.sin(2 * torch.pi * float(rng.choice([50, 60])) * time)
        out.append(clip + 10 ** (float(rng.uniform(-85, -38)) / 20) * floor)
    return torch.stack(out)


def level(audio: Tensor, rngs: Rngs) -> Tensor:
    """Peak at 0 to -30 dBFS, mostly high; one clip of twelve is driven into hard clipping."""
    return (normalised(audio) * _column(audio, [10 ** (_level_db(rng) / 20) for rng in rngs])).clamp(-1, 1)


def _level_db(rng: np.random.Generator) -> float:
    if rng.random() < 0.08:
        return rng.uniform(1, 9)
    return rng.uniform(-12, 0) if rng.random() < 0.75 else rng.uniform(-30, -10)


def normalised(audio: Tensor) -> Tensor:
    """Peak 1 per clip (silence stays silence)."""
    return audio / audio.abs().amax(dim=1, keepdim=True).clamp(min=1e-6)


def _column(like: Tensor, values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).sum() + 1e-9)
