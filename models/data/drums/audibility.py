"""Which hits can be heard: those that no model should be punished for missing are not learnt from.

A hit is audible if, in the 23 ms after its attack, it holds at least `HEARD_SHARE` of the energy of some band of the
final sound. Its share is (its own energy / energy of the dry drums) x (drums after the bus / final sound): bus and
channel change both sides of each quotient alike. Letters: M hits, N samples, K bands.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from ..packed import SAMPLE_RATE

__all__ = ["WINDOW", "Heard", "band_energies", "heard"]

WINDOW = 1024  # samples from the attack on
HEARD_SHARE = 0.03  # -15 dB in the hit's best band
SURVIVES = 0.01  # a band that channel or mask took down by more than 20 dB does not count
FLOOR = 1e-7  # nor does one this far (-70 dB) under the clip's loudest moment
_EDGES_HZ = (0, 120, 250, 500, 1000, 2000, 4000, 7000, 11000, 22050)


def band_energies(windows: Tensor) -> Tensor:
    """Energy per band of windows that start at attacks: [M, WINDOW] -> [M, K]."""
    # Falls to nothing at the end, whole at the start: what rings is heard, what starts later is not.
    fade = torch.cos(torch.linspace(0, torch.pi / 2, WINDOW, device=windows.device))
    power = torch.fft.rfft(windows * fade).abs().square()
    edges = [round(hz / SAMPLE_RATE * WINDOW) for hz in _EDGES_HZ]
    return torch.stack([power[:, a:b].sum(1) for a, b in itertools.pairwise(edges)], dim=1)


class Heard(NamedTuple):
    """What can be heard of hits."""

    audible: Tensor  # [M] bool
    under_drums: Tensor  # [M] bool: the other drums alone would cover it


def heard(own: Tensor, samples: Tensor, dry: Tensor, bus: Tensor, final: Tensor) -> Heard:
    """Of hits [M] with their own band energies [M, K] at `samples` [M] of three signals [N]; M > 0."""
    dry_energy, bus_energy, final_energy = (band_energies(_windows(x, samples)) for x in (dry, bus, final))
    of_drums = (own / dry_energy.clamp(min=1e-12)).clamp(max=1)
    share = of_drums * (bus_energy / final_energy.clamp(min=1e-12)).clamp(max=1)
    survives = (final_energy >= SURVIVES * bus_energy) & (final_energy >= FLOOR * final_energy.sum(1).max())
    return Heard(((share >= HEARD_SHARE) & survives).any(1), (of_drums < HEARD_SHARE).all(1))


def _windows(signal: Tensor, samples: Tensor) -> Tensor:
    """[N] and starts [M] -> [M, WINDOW], zeros beyond the end."""
    padded = torch.nn.functional.pad(signal, (0, WINDOW))
    return padded[samples[:, None] + torch.arange(WINDOW, device=signal.device)]
