"""A kit's pieces as they sound in one clip: resampled, damped, darkened, layered, with more or less attack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..packed import ATTACK_SAMPLE, SAMPLE_RATE
from ..recipe import Draws, RenderRecipe, within
from .audibility import WINDOW
from .kits import Sound

__all__ = ["CYMBALS", "Piece", "Voice", "make_piece"]

CYMBALS = frozenset({"CHH", "PHH", "OHH", "TB", "CRC", "SPC", "CHC", "RD", "RB"})
# Hi-hats that the foot closes and shakes of a tambourine are cut where their first noise is, up to 30 ms ahead of the
# clash that is heard as the stroke.
SLOW = frozenset({"PHH", "TB"})
RMS_SAMPLES, SHORTEST_LAG, LATEST_LAG = (round(s * SAMPLE_RATE) for s in (0.002, 0.01, 0.06))
VOICES = 6  # one-shots kept per class and clip: velocity layers and round robins
DARK_LAYERS = (0.0, 0.45, 0.8)


@dataclass(frozen=True)
class Voice:
    """A one-shot as it sounds in this clip: samples [n] with peak 1, where its attack lies, its loudness rank 0..1.

    `lag` is how many samples after its attack it begins to sound, where that takes a while.
    """

    samples: Tensor
    attack: int
    rank: float
    lag: int = 0

    def opening(self) -> Tensor:
        """The first samples from where it begins to sound, [WINDOW]."""
        start = self.attack + self.lag
        x = self.samples[start : start + WINDOW]
        return torch.nn.functional.pad(x, (0, WINDOW - len(x)))


@dataclass(frozen=True)
class Piece:
    """All voices of a class in a clip."""

    voices: list[Voice]

    def pick(self, velocity: float, rng: np.random.Generator) -> int:
        """Index of the voice whose rank is near the velocity, blurred so that neighbouring layers alternate."""
        wanted = velocity + rng.normal(0, 0.12)
        return min(range(len(self.voices)), key=lambda i: abs(self.voices[i].rank - wanted))


def make_piece(
    sounds: list[Sound], layer: list[Sound], code: str, draws: Draws, recipe: RenderRecipe, device: torch.device
) -> Piece:
    """The class's one-shots in this clip: mostly one playing technique, one pitch, one decay, one attack.

    `layer` holds sounds of another kit that may be put on top.
    """
    rng = draws["piece"]
    chosen = _chosen(sounds, rng)
    sigma = recipe.setting("resampling", "cymbal_octaves" if code in CYMBALS else "drum_octaves", 0.0)
    octaves = draws["resampling"].normal(0, sigma)
    shape = _Shape.draw(draws, recipe)
    on_top = _on_top(layer, draws, recipe)
    # Too few recorded layers: soft hits are made from the loud one, darker, since velocity moves timbre too.
    darks = (0.0,) if len({s.rank for s in chosen}) >= 3 else DARK_LAYERS
    spread = recipe.setting("resampling", "voice_octaves", 0.0)
    voices = []
    for sound in chosen:
        ratio = 2 ** (octaves + draws["resampling"].normal(0, spread))
        x, attack = _resampled(sound.samples, ratio, device)
        if on_top is not None:
            x = _layered(x, attack, *_resampled(on_top[0].samples, ratio, device), on_top[1])
        x = shape.applied(x, attack)
        lag = _lag(x, attack) if code in SLOW else 0
        voices += [Voice(_unit_peak(_darkened(x, dark)), attack, sound.rank * (1 - dark), lag) for dark in darks]
    return Piece(voices)


def _lag(x: Tensor, attack: int) -> int:
    """Samples from the attack mark until a sound that rises slowly is half as loud as it gets; 0 for all others."""
    sounding = x[max(0, attack - RMS_SAMPLES // 2) : attack + LATEST_LAG]
    power = torch.nn.functional.avg_pool1d(sounding.square()[None, None], RMS_SAMPLES, stride=1)[0, 0]
    lag = int(torch.nonzero(power >= power.max() / 4)[0])
    return lag if lag > SHORTEST_LAG else 0


def _chosen(sounds: list[Sound], rng: np.random.Generator) -> list[Sound]:
    techniques = sorted({s.articulation for s in sounds})
    technique = techniques[rng.integers(len(techniques))] if rng.random() < 0.8 else None
    chosen = [s for s in sounds if technique in (None, s.articulation)]
    if len(chosen) > VOICES:
        chosen = [chosen[i] for i in sorted(rng.choice(len(chosen), VOICES, replace=False))]
    return chosen


def _on_top(layer: list[Sound], draws: Draws, recipe: RenderRecipe) -> tuple[Sound, float] | None:
    """A sound to put on top and its gain, or None."""
    rng = draws["layering"]
    if not layer or rng.random() >= recipe.setting("layering", "chance", 0.0):
        return None
    return layer[rng.integers(len(layer))], 10 ** (within(rng, recipe["layering"]["level_db"]) / 20)


@dataclass(frozen=True)
class _Shape:
    """Envelope changes that all voices of a piece share; None = as recorded."""

    decay_s: float | None
    attack: tuple[float, float] | None  # gain - 1 at the attack, and how long it takes to fade, in seconds

    @classmethod
    def draw(cls, draws: Draws, recipe: RenderRecipe) -> _Shape:
        decay = attack = None
        if draws["envelope"].random() < recipe.setting("envelope", "chance", 0.0):
            decay = within(draws["envelope"], recipe["envelope"]["decay_s"])
        if draws["transients"].random() < recipe.setting("transients", "chance", 0.0):
            settings = recipe["transients"]
            gain = within(draws["transients"], settings["gain"])
            attack = gain, within(draws["transients"], settings["length_s"])
        return cls(decay, attack)

    def applied(self, x: Tensor, attack: int) -> Tensor:
        """Damp; sharpen or soften the attack."""
        if self.decay_s is None and self.attack is None:
            return x
        age = (torch.arange(len(x), device=x.device) - attack).clamp(min=0) / SAMPLE_RATE
        if self.decay_s is not None:
            x = x * torch.exp(-age / self.decay_s)
        if self.attack is not None:
            gain, length_s = self.attack
            x = x * (1 + gain * torch.exp(-age / length_s))
        return x


def _resampled(samples: np.ndarray, ratio: float, device: torch.device) -> tuple[Tensor, int]:
    """Linear interpolation at `ratio` samples per sample: the waveform, and where its attack lies."""
    source = torch.from_numpy(np.array(samples)).to(device).float() / 32768
    n = int((len(source) - 2) / ratio)
    position = torch.arange(n, device=device, dtype=torch.float32) * ratio
    left = position.int()
    return torch.lerp(source[left], source[left + 1], position - left), round(ATTACK_SAMPLE / ratio)


def _layered(x: Tensor, attack: int, other: Tensor, other_attack: int, gain: float) -> Tensor:
    """Two sounds with their attacks together, the second at `gain` re the first's peak; as long as the first."""
    other = torch.nn.functional.pad(other[max(0, other_attack - attack) :], (max(0, attack - other_attack), 0))
    n = min(len(x), len(other))
    scale = gain * x.abs().max() / other.abs().max().clamp(min=1e-6)
    return torch.cat([x[:n] + scale * other[:n], x[n:]])


def _darkened(x: Tensor, dark: float) -> Tensor:
    """Without highs: 0 leaves all, 1 takes most."""
    if not dark:
        return x
    kernel = torch.exp(-torch.arange(12, device=x.device) * (1 / dark - 0.9) / 1.2).flip(0)
    return torch.nn.functional.conv1d(x[None, None], (kernel / kernel.sum())[None, None], padding=11)[0, 0, : len(x)]


def _unit_peak(x: Tensor) -> Tensor:
    return x / x.abs().max().clamp(min=1e-6)
