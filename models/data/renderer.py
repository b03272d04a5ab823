"""Performances to audio with exact labels: voices are cut from a kit, hits are added up, then room, bus and channel.

Letters: B clips, N samples, M hits of the fullest clip (shorter ones are padded with class -1).
A label's time is the physical attack: the sample at which the placed one-shot's attack mark lies.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...runtime.vocabulary import CODES
from . import effects
from .accompaniment import synthesise_backing
from .kits import ATTACK_SAMPLE, OTHER, SAMPLE_RATE, Kit, KitShelf, Sound
from .performance import Performance

__all__ = ["Clips", "Renderer"]

# Peak levels in dB of a balanced kit, by class. Kits disagree: every clip starts here and moves each class by a draw.
LEVEL_DB = {
    "BD": 0, "SD": -1, "SS": -7, "CLP": -5, "CHH": -13, "PHH": -16, "OHH": -11, "TB": -12, "LT": -3, "MT": -3, "HT": -4,
    "CRC": -8, "SPC": -10, "CHC": -8, "RD": -12, "RB": -10, "CB": -9, "CL": -11, OTHER: -10,
}  # fmt: skip
CYMBALS = frozenset({"CHH", "PHH", "OHH", "TB", "CRC", "SPC", "CHC", "RD", "RB"})
HIHATS = frozenset({"CHH", "PHH", "OHH"})
PREROLL_S = 1.0  # rendered ahead of the clip and cut off, so that clips begin inside ringing tails
BACKING_POOL = 100  # accompaniments kept in memory
VOICES = 6  # one-shots kept per class and clip: velocity layers and round robins


class Clips(NamedTuple):
    """A batch of rendered clips."""

    audio: Tensor  # [B, N] float32
    times: Tensor  # [B, M] float32, seconds from the clip's first sample
    classes: Tensor  # [B, M] int64, -1 = no hit
    velocities: Tensor  # [B, M] float32, 0..1


@dataclass(frozen=True)
class Voice:
    """A one-shot as it sounds in this clip: samples [n], where its attack lies, and its loudness rank."""

    samples: Tensor
    attack: int
    rank: float


class Renderer:
    """Renders performances with kits drawn from a shelf, on a torch device."""

    def __init__(self, shelf: KitShelf, device: torch.device | str = "cpu"):
        self.shelf = shelf
        self.device = torch.device(device)

    def render(self, performances: list[Performance], rngs: effects.Rngs, samples: int) -> Clips:
        """Performances, each PREROLL_S longer than the clip, and a generator per clip -> clips of `samples` samples."""
        before = int(PREROLL_S * SAMPLE_RATE)
        total = samples + before
        buses, labels = zip(
            *[self._perform(p, rng, total) for p, rng in zip(performances, rngs, strict=True)], strict=True
        )
        dry = self._mix(torch.stack(buses), rngs)
        audio = effects.saturate(effects.normalised(effects.compress(dry, rngs)), rngs)
        audio = effects.noise(self._backing(audio, rngs), rngs)
        return Clips(effects.level(audio[:, before:], rngs), *_pad_labels(list(labels), before))

    def _perform(self, performance: Performance, rng: np.random.Generator, total: int) -> tuple[Tensor, np.ndarray]:
        """Add every hit to its bus: buses [2, total] (drums, cymbals) and labels [M, 3] (sample, class, velocity)."""
        kit = self.shelf.draw(rng)
        hits = _with_other_percussion(performance, kit, rng)
        # Sorted: a set's order changes from process to process, and every voice draws from the clip's generator.
        played = sorted({code for _, code, _ in hits})
        voices = {code: self._voices(kit.sounds[code], code, rng) for code in played}
        gains = {code: 10 ** ((LEVEL_DB[code] + float(np.clip(rng.normal(0, 4.5), -10, 9))) / 20) for code in voices}
        depth_db = rng.uniform(18, 40)
        choked = _choke_times(hits)
        bus = torch.zeros(2, total, device=self.device)
        labels = []
        for (time_s, code, velocity), choke in zip(hits, choked, strict=True):
            if not voices[code]:
                continue
            voice = _pick(voices[code], velocity, rng)
            sample = round(time_s * SAMPLE_RATE)
            gain = gains[code] * 10 ** ((-depth_db * (1 - velocity) ** 1.3 + rng.normal(0, 1)) / 20)
            end = None if choke is None else round(choke * SAMPLE_RATE) - sample
            if _add(bus[int(code in CYMBALS)], voice, sample, gain, end) and code != OTHER:
                labels.append((sample, CODES.index(code), velocity))
        return bus, np.array(labels, dtype=np.float64).reshape(-1, 3)

    def _voices(self, sounds: list[Sound], code: str, rng: np.random.Generator) -> list[Voice]:
        """The class's one-shots in this clip: mostly one playing technique and pitch, a random decay and brightness."""
        if not sounds:
            return []
        techniques = sorted({s.articulation for s in sounds})
        technique = techniques[rng.integers(len(techniques))] if rng.random() < 0.8 else None
        chosen = [s for s in sounds if technique in (None, s.articulation)]
        if len(chosen) > VOICES:
            chosen = [chosen[i] for i in sorted(rng.choice(len(chosen), VOICES, replace=False))]
        octaves = rng.normal(0, 0.08 if code in CYMBALS else 0.13)
        decay_s = rng.uniform(0.05, 0.6) if rng.random() < 0.25 else None
        layered = len({s.rank for s in chosen}) >= 3
        # Too few recorded layers: soft hits are made from the loud one, darker, since velocity moves timbre too.
        plan = [(s, 0.0) for s in chosen] if layered else [(s, dark) for s in chosen for dark in (0.0, 0.45, 0.8)]
        return [self._voice(s, 2 ** (octaves + rng.normal(0, 0.012)), decay_s, dark) for s, dark in plan]

    def _voice(self, sound: Sound, ratio: float, decay_s: float | None, dark: float) -> Voice:
        """Resample by `ratio` (linear), damp, darken, normalise to peak 1."""
        source = torch.from_numpy(np.array(sound.samples)).to(self.device).float() / 32768
        n = int((len(source) - 2) / ratio)
        position = torch.arange(n, device=self.device, dtype=torch.float32) * ratio
        left = position.int()
        x = torch.lerp(source[left], source[left + 1], position - left)
        attack = round(ATTACK_SAMPLE / ratio)
        if decay_s is not None:
            age = (torch.arange(n, device=self.device) - attack).clamp(min=0) / SAMPLE_RATE
            x = x * torch.exp(-age / decay_s)
        if dark:
            kernel = torch.exp(-torch.arange(12, device=self.device) * (1 / dark - 0.9) / 1.2).flip(0)
            x = torch.nn.functional.conv1d(x[None, None], (kernel / kernel.sum())[None, None], padding=11)[0, 0, :n]
        x = x / x.abs().max().clamp(min=1e-6)
        return Voice(x, attack, sound.rank * (1 - dark))

    def _mix(self, buses: Tensor, rngs: effects.Rngs) -> Tensor:
        """Buses to one signal, [B, 2, N] -> [B, N]: an equaliser per bus, a shared room with a send per bus."""
        total = buses.shape[2]
        size = _smooth_size(total)
        spectrum = torch.fft.rfft(buses, n=size)
        curves, sends, rooms = [], [], []
        for rng in rngs:
            master = effects.equaliser(rng)
            curves.append([master, master * effects.equaliser(rng, spread_db=2.0)])
            wet = rng.uniform(-30, -3)
            sends.append([10 ** ((wet + rng.uniform(-4, 4)) / 20), 10 ** ((wet + rng.uniform(-4, 4)) / 20)])
            rooms.append(effects.room_response(rng, min(total, int(1.25 * SAMPLE_RATE))))
        curve = torch.from_numpy(np.array(curves)).to(self.device)
        curve = torch.nn.functional.interpolate(curve, size=spectrum.shape[2], mode="linear", align_corners=True)
        room = torch.fft.rfft(torch.from_numpy(np.stack(rooms)).to(self.device), n=size)
        send = torch.tensor(sends, dtype=torch.float32, device=self.device)[:, :, None]
        return torch.fft.irfft((spectrum * ((1 + send * room[:, None]) * curve)).sum(1), n=size)[:, :total]

    def _backing(self, audio: Tensor, rngs: effects.Rngs) -> Tensor:
        """Other instruments, [B, N] -> [B, N].

        Faint bleed under a quarter of the clips, accompaniment under a fifth.
        """
        out = []
        for clip, rng in zip(audio, rngs, strict=True):
            kind = rng.random()
            if kind < 0.55:
                out.append(clip)
                continue
            db = rng.uniform(-35, -15) if kind < 0.8 else rng.uniform(-15, 3)
            other = torch.from_numpy(_accompaniment(int(rng.integers(BACKING_POOL)))).to(self.device)
            other = other.roll(int(rng.integers(len(other))))[: len(clip)].float()
            ratio = clip.square().mean().sqrt() / other.square().mean().sqrt().clamp(min=1e-6)
            out.append(clip + other * ratio * 10 ** (db / 20))
        return torch.stack(out)


@functools.cache
def _accompaniment(seed: int) -> np.ndarray:
    """12 s of accompaniment, int16, by its seed: kept, since making it takes longer than rendering a clip."""
    samples = synthesise_backing(np.random.default_rng([seed, 78]), 12 * SAMPLE_RATE, SAMPLE_RATE)
    return np.round(samples / max(1e-6, np.abs(samples).max()) * 32767).astype(np.int16)


def _smooth_size(total: int) -> int:
    """The next length whose only prime factors are 2, 3 and 5, which FFTs are fast at."""
    sizes = (2**a * 3**b * 5**c for a in range(4, 26) for b in range(4) for c in range(4))
    return min(size for size in sizes if size >= total)


def _with_other_percussion(
    performance: Performance, kit: Kit, rng: np.random.Generator
) -> list[tuple[float, str, float]]:
    """Hits (seconds, class, velocity) in time order; in one clip of eight with percussion that is no target."""
    hits = [
        (float(t), CODES[c], float(v))
        for t, c, v in zip(performance.times_s, performance.classes, performance.velocities, strict=True)
    ]
    if rng.random() < 0.12 and kit.sounds.get(OTHER):
        count = rng.integers(2, 24)
        times = rng.uniform(0, performance.duration_s, count)
        hits += [(float(t), OTHER, float(rng.uniform(0.3, 1))) for t in times]
    return sorted(hits)


def _choke_times(hits: list[tuple[float, str, float]]) -> list[float | None]:
    """When the hi-hat's next stroke ends an open hi-hat; None for what rings on."""
    ends: list[float | None] = [None] * len(hits)
    next_stroke = None
    for i in range(len(hits) - 1, -1, -1):
        time_s, code, _ = hits[i]
        if code == "OHH":
            ends[i] = next_stroke
        if code in HIHATS:
            next_stroke = time_s
    return ends


def _pick(voices: list[Voice], velocity: float, rng: np.random.Generator) -> Voice:
    """The voice whose rank is near the velocity, blurred so that neighbouring layers alternate."""
    wanted = velocity + rng.normal(0, 0.12)
    return min(voices, key=lambda voice: abs(voice.rank - wanted))


def _add(bus: Tensor, voice: Voice, sample: int, gain: float, end: int | None) -> bool:
    """Add a voice with its attack at `sample`, faded out from `end` samples after it; False outside the bus."""
    x, start = voice.samples, sample - voice.attack
    if end is not None:
        stop = voice.attack + max(end, 0)
        fade = torch.linspace(1, 0, int(0.03 * SAMPLE_RATE), device=bus.device)
        x = x[: stop + len(fade)].clone()
        if len(x) > stop:
            x[stop:] *= fade[: len(x) - stop]
    if start < 0:
        x, start = x[-start:], 0
    n = min(len(x), len(bus) - start)
    if n <= voice.attack // 2:
        return False
    bus[start : start + n].add_(x[:n], alpha=float(gain))
    return sample < len(bus)


def _pad_labels(labels: list[np.ndarray], before: int) -> tuple[Tensor, Tensor, Tensor]:
    """Labels [M, 3] per clip, from the preroll on -> times, classes, velocities [B, M] of the clip."""
    kept = [rows[rows[:, 0] >= before] for rows in labels]
    padded = np.zeros((len(kept), max(1, *(len(rows) for rows in kept)), 3))
    padded[:, :, 1] = -1
    for i, rows in enumerate(kept):
        padded[i, : len(rows)] = rows - [before, 0, 0]
    times = torch.from_numpy(padded[:, :, 0] / SAMPLE_RATE).float()
    return times, torch.from_numpy(padded[:, :, 1]).long(), torch.from_numpy(padded[:, :, 2]).float()
