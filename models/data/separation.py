"""What separators and codecs do to sound, as masks over short-time spectra.

Letters: N samples, K bins, T windows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .packed import SAMPLE_RATE
from .recipe import Settings, within

__all__ = ["demixed", "low_bit_rate"]

SIZE, HOP = 2048, 512


def demixed(drums: Tensor, others: Tensor, rng: np.random.Generator) -> Tensor:
    """Drums [N] cut out of drums + others by an imperfect Wiener mask: smeared, gated, with musical noise and bleed.

    Wiener mask: |D|^p / (|D|^p + |O|^p) (Liutkus & Badeau 2015); a real separator estimates both sides with errors,
    here slow random errors per band, a floor that lets others bleed in, and a gate that eats what is soft.
    """
    mixture, target, rest = (_spectrum(x) for x in (drums + others, drums, others))
    power = float(rng.uniform(0.7, 2.2))
    error_db = float(rng.uniform(0, 9)) * _blurred_noise(target.shape, rng, target.device)
    wanted = target.abs().pow(power) * 10 ** (error_db / 20)
    mask = wanted / (wanted + rest.abs().pow(power) + 1e-6)
    mask = _smeared(mask, int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    if rng.random() < 0.5:
        mask = torch.where(mask < float(rng.uniform(0.05, 0.4)), mask * float(rng.uniform(0, 0.5)), mask)
    floor = 10 ** (float(rng.uniform(-50, -14)) / 20)
    return _signal(mixture * (floor + (1 - floor) * mask), len(drums))


def low_bit_rate(audio: Tensor, rng: np.random.Generator, settings: Settings) -> Tensor:
    """A lossy codec's holes, [N] -> [N].

    Bins far under the loudest of their neighbourhood are dropped, more of them at high frequencies, and nothing is
    left above the codec's limit.
    """
    spectrum = _spectrum(audio)
    bins = len(spectrum)
    level = spectrum.abs()
    around = torch.nn.functional.max_pool1d(level.T[:, None], 65, stride=1, padding=32)[:, 0].T
    threshold_db = within(rng, settings["threshold_db"])
    slope_db = torch.linspace(0, 0.6, bins, device=audio.device)[:, None] * abs(threshold_db)
    kept = level >= around * 10 ** ((threshold_db + slope_db) / 20)
    # Decided per block of windows, as codecs do per frame: holes open and close.
    kept &= torch.arange(bins, device=audio.device)[:, None] < within(rng, settings["limit_hz"]) / SAMPLE_RATE * SIZE
    return _signal(spectrum * kept, len(audio))


def _blurred_noise(shape: torch.Size, rng: np.random.Generator, device: torch.device) -> Tensor:
    """Normal noise that changes slowly over bins and windows, about unit variance: [K, T]."""
    coarse = rng.standard_normal((1, 1, max(2, shape[0] // 24), max(2, shape[1] // 6))).astype(np.float32)
    noise = torch.from_numpy(coarse).to(device)
    return torch.nn.functional.interpolate(noise, size=tuple(shape), mode="bilinear", align_corners=True)[0, 0]


def _smeared(mask: Tensor, bins: int, windows: int) -> Tensor:
    """Averaged over 2 n - 1 bins and the last n windows."""
    padded = torch.nn.functional.pad(mask[None, None], (windows - 1, 0, bins - 1, bins - 1), mode="replicate")
    return torch.nn.functional.avg_pool2d(padded, (2 * bins - 1, windows), stride=1)[0, 0]


def _spectrum(audio: Tensor) -> Tensor:
    window = torch.hann_window(SIZE, device=audio.device)
    return torch.stft(audio, SIZE, HOP, window=window, return_complex=True)


def _signal(spectrum: Tensor, length: int) -> Tensor:
    window = torch.hann_window(SIZE, device=spectrum.device)
    return torch.istft(spectrum, SIZE, HOP, window=window, length=length)
