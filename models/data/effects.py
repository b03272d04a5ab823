"""What happens to drums between the skin and the file: small transforms of [B, N] audio in torch.

Every transform draws its parameters from one NumPy generator per clip, within the settings of its stage of the render
recipe, so a clip depends on its own seed alone, whatever batch, process or device it is rendered in. Letters: B clips,
N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from .packed import SAMPLE_RATE
from .recipe import Draws, RenderRecipe, Settings, within
from .separation import low_bit_rate

__all__ = [
    "CHANNEL",
    "CURVE_POINTS",
    "LEVEL",
    "Rngs",
    "band_limits",
    "bleed",
    "brighten",
    "codec",
    "compress",
    "compression",
    "equaliser_curve",
    "level",
    "mastered",
    "noise",
    "normalised",
    "resized",
    "room_response",
    "saturate",
    "smooth_size",
    "through",
]

CURVE_POINTS = 2049  # about 11 Hz apart: finer than any curve drawn here
BLOCK = 220  # samples per gain value of the compressor: 5 ms

Rngs = Sequence[np.random.Generator]
Effect = Callable[[Tensor, Rngs, Settings], Tensor]


def frequencies() -> np.ndarray:
    """Hz at the CURVE_POINTS of a curve."""
    return np.linspace(1, SAMPLE_RATE / 2, CURVE_POINTS)


def equaliser_curve(rng: np.random.Generator, spread_db: float, tilt_db: float) -> np.ndarray:
    """Gain at CURVE_POINTS frequencies: a random curve over seven bands and a tilt."""
    points = np.array([40, 120, 300, 800, 2200, 6000, 15000])
    gains = rng.normal(0, spread_db, len(points)) + rng.uniform(-tilt_db, tilt_db) * np.linspace(-0.5, 0.5, len(points))
    curve = np.interp(np.log(frequencies()), np.log(points), gains)
    return (10 ** (curve / 20)).astype(np.float32)


def bleed(bus: Tensor, rng: np.random.Generator, settings: Settings) -> Tensor:
    """A second microphone in a share of the clips: [N] plus the same sound later, duller and softer."""
    if rng.random() >= settings["chance"]:
        return bus
    gain = 10 ** (within(rng, settings["level_db"]) / 20) * float(rng.choice([-1, 1]))
    delay = round(within(rng, settings["delay_s"]) * SAMPLE_RATE)
    kernel = torch.exp(-torch.arange(12, device=bus.device) / float(rng.uniform(0.2, 4)))
    duller = torch.nn.functional.conv1d(bus[None, None], gain * (kernel / kernel.sum()).flip(0)[None, None], padding=11)
    out = bus.clone()
    out[delay:] += duller[0, 0, : len(bus) - delay]
    return out


def brighten(audio: Tensor, rng: np.random.Generator, settings: Settings) -> Tensor:
    """More highs in a share of the clips, [N]: up to 18 dB above 7 kHz, nothing below 500 Hz."""
    if rng.random() >= settings["bright_chance"]:
        return audio
    low, high = settings["bright_gain"]
    # A first difference: 0 dB at a sixth of the rate, 6 dB less per octave below.
    difference = torch.nn.functional.pad(audio[1:] - audio[:-1], (1, 0))
    return audio + difference * (low * (high / low) ** float(rng.random()))


def room_response(rng: np.random.Generator, length: int, decay_s: float) -> np.ndarray:
    """A room [length]: early reflections and a noise tail, `decay_s` to -60 dB.

    Later than the direct sound by 1 to 12 ms.
    """
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


def compress(audio: Tensor, rngs: Rngs, settings: Settings) -> Tensor:
    """Bus compression in a share of the clips."""
    return torch.stack(
        [
            clip * compression(clip, rng, settings) if rng.random() < settings["chance"] else clip
            for clip, rng in zip(audio, rngs, strict=True)
        ]
    )


def mastered(drums: Tensor, others: Tensor, rng: np.random.Generator, settings: Settings) -> tuple[Tensor, Tensor]:
    """Drums [N] and what plays with them [N] as in a published mix: equalised, compressed and limited together."""
    curve = equaliser_curve(rng, settings["spread_db"], settings["tilt_db"])
    drums, others = _filtered(drums, curve), _filtered(others, curve)
    mix = drums + others
    gain = compression(mix, rng, settings)
    drive = 10 ** (within(rng, settings["drive_db"]) / 20)
    driven = (normalised((mix * gain)[None])[0] * drive).abs().clamp(min=1e-3)
    gain = gain * torch.tanh(driven) / driven
    return drums * gain, others * gain


def compression(clip: Tensor, rng: np.random.Generator, settings: Settings) -> Tensor:
    """A compressor's gain [N]: follows the level with an exponential release, above a random threshold."""
    power = torch.nn.functional.pad(clip, (0, -len(clip) % BLOCK)).reshape(-1, BLOCK).square().mean(1)
    gain = _compressor_gain(power, *(within(rng, settings[k]) for k in ("release_s", "ratio", "depth_db")))
    # Linear between blocks: a step in gain would be an onset of its own.
    size = len(power) * BLOCK
    smooth = torch.nn.functional.interpolate(gain[None, None], size=size, mode="linear", align_corners=False)
    return smooth[0, 0, : len(clip)]


def _compressor_gain(power: Tensor, release_s: float, ratio: float, depth_db: float) -> Tensor:
    """Gain per block [n] from power per block [n]; the threshold lies `depth_db` under the loudest moment."""
    age = torch.arange(200, device=power.device, dtype=power.dtype) * BLOCK / SAMPLE_RATE
    kernel = torch.exp(-age / release_s).flip(0)
    smoothed = torch.nn.functional.conv1d(power[None, None], (kernel / kernel.sum())[None, None], padding=199)
    db = 10 * torch.log10(smoothed[0, 0, : len(power)].clamp(min=0) + 1e-9)
    over = torch.relu(db - (db.max() - depth_db))
    return 10 ** (-over * (1 - 1 / ratio) / 20)


def saturate(audio: Tensor, rngs: Rngs, settings: Settings) -> Tensor:
    """Tape-like saturation (tanh), so many dB into the knee; expects peaks near 1."""
    gains = [10 ** (within(r, settings["drive_db"]) / 20) if r.random() < settings["chance"] else 1e-2 for r in rngs]
    drive = _column(audio, gains)
    return torch.tanh(audio * drive) / torch.tanh(drive)


def codec(audio: Tensor, rngs: Rngs, settings: Settings) -> Tensor:
    """Spectral holes of low bit rates in a share of the clips."""
    return torch.stack(
        [
            low_bit_rate(clip, rng, settings) if rng.random() < settings["chance"] else clip
            for clip, rng in zip(audio, rngs, strict=True)
        ]
    )


def band_limits(audio: Tensor, rngs: Rngs, settings: Settings) -> Tensor:
    """A low-pass in some clips, a high-pass in some; 12 to 48 dB per octave."""
    hz = frequencies()
    out = []
    for clip, rng in zip(audio, rngs, strict=True):
        curve = np.zeros(CURVE_POINTS)
        if rng.random() < settings["low_pass_chance"]:
            curve -= 12 * np.clip(np.log2(hz / within(rng, settings["low_pass_hz"])), 0, 6) * rng.uniform(1, 4)
        if rng.random() < settings["high_pass_chance"]:
            curve -= 12 * np.clip(np.log2(within(rng, settings["high_pass_hz"]) / hz), 0, 6)
        out.append(_filtered(clip, 10 ** (curve / 20)) if curve.any() else clip)
    return torch.stack(out)


def noise(audio: Tensor, rngs: Rngs, settings: Settings) -> Tensor:
    """A noise floor re full scale, white to dark, and mains hum in some clips; expects peaks near 1."""
    samples = audio.shape[1]
    time = torch.arange(samples, device=audio.device) / SAMPLE_RATE
    out = []
    for clip, rng in zip(audio, rngs, strict=True):
        seeded = torch.Generator(audio.device).manual_seed(int(rng.integers(2**31)))
        white = torch.randn(samples + 1, generator=seeded, device=audio.device)
        floor = white[1:] + float(rng.uniform(0, 0.9)) * white[:-1]
        if rng.random() < settings["hum_chance"]:
            floor = floor + float(rng.uniform(0.5, 3)) * torch.sin(2 * torch.pi * float(rng.choice([50, 60])) * time)
        out.append(clip + 10 ** (within(rng, settings["level_db"]) / 20) * floor)
    return torch.stack(out)


def level(audio: Tensor, rngs: Rngs, settings: Settings) -> Tensor:
    """The clip's peak in dBFS: mostly high, sometimes soft, sometimes driven into hard clipping."""
    return (normalised(audio) * _column(audio, [10 ** (_peak_db(rng, settings) / 20) for rng in rngs])).clamp(-1, 1)


def _peak_db(rng: np.random.Generator, settings: Settings) -> float:
    kind = rng.random()
    if kind < settings["clipped_chance"]:
        return within(rng, settings["clipped_db"])
    soft = kind < settings["clipped_chance"] + settings["soft_chance"]
    return within(rng, settings["soft_peak_db" if soft else "peak_db"])


# The file's way, in order, by the recipe's stage.
CHANNEL = {"codec": codec, "band_limits": band_limits, "noise": noise}


LEVEL = {"level": level}


def through(stages: Mapping[str, Effect], audio: Tensor, draws: Sequence[Draws], recipe: RenderRecipe) -> Tensor:
    """[B, N] through those of the stages that the recipe has, e.g. `CHANNEL`: what the file's format and noise do."""
    for stage, effect in stages.items():
        if stage in recipe:
            audio = effect(audio, [d[stage] for d in draws], recipe[stage])
    return audio


def normalised(audio: Tensor) -> Tensor:
    """Peak 1 per clip (silence stays silence)."""
    return audio / audio.abs().amax(dim=1, keepdim=True).clamp(min=1e-6)


def smooth_size(total: int) -> int:
    """The next length whose only prime factors are 2, 3 and 5, which FFTs are fast at."""
    sizes = (2**a * 3**b * 5**c for a in range(4, 26) for b in range(4) for c in range(4))
    return min(size for size in sizes if size >= total)


def resized(curve: np.ndarray, bins: int, device: torch.device) -> Tensor:
    """A gain curve at CURVE_POINTS frequencies -> gains at `bins` frequencies, linear between them."""
    points = torch.from_numpy(curve.astype(np.float32)).to(device)[None, None]
    return torch.nn.functional.interpolate(points, size=bins, mode="linear", align_corners=True)[0, 0]


def _filtered(clip: Tensor, curve: np.ndarray) -> Tensor:
    """[N] through a gain curve (zero phase)."""
    size = smooth_size(len(clip) + SAMPLE_RATE // 20)
    return torch.fft.irfft(torch.fft.rfft(clip, n=size) * resized(curve, size // 2 + 1, clip.device), n=size)[
        : len(clip)
    ]


def _column(like: Tensor, values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).sum() + 1e-9)
