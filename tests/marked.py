"""Hits whose attack is known to the sample: our synthesiser's drums at random times, nothing else."""

from __future__ import annotations

import numpy as np

from ghostnote.models.data.drums.synthesiser import synthesise_kit
from ghostnote.models.data.packed import ATTACK_SAMPLE

RATE = 44100
CODES = ("BD", "SD", "CHH", "CRC")
PEAKS = {"BD": 0.6, "SD": 0.5, "CHH": 0.2, "CRC": 0.3}


def marked_hits(seed: int, count: int = 40, spacing_s: float = 0.3) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Mono audio [N] at 44.1 kHz and its (attack in seconds, class), one hit at a time, at any phase of the tokens."""
    rng = np.random.default_rng(seed)
    kit = synthesise_kit(rng)
    pcm = np.zeros(round((count + 2) * spacing_s * RATE) + 4 * RATE, np.float32)
    marks = []
    for i in range(count):
        code = CODES[i % len(CODES)]
        attack = round((0.5 + i * spacing_s + rng.uniform(0, 0.1)) * RATE)
        sound = max(kit[code])[1]
        start = attack - ATTACK_SAMPLE
        pcm[start : start + len(sound)] += PEAKS[code] * sound / np.abs(sound).max()
        marks.append((attack / RATE, code))
    return pcm[: round((count * spacing_s + 1.5) * RATE)], marks
