"""What an engineer does to a part of a band, and to the whole: amplifier, equaliser, compressor, doubling, echo, hall.

The recorded instruments are few. What a guitar, a piano or a voice sounds like in a mix is as much the work of its
amplifier, microphone and channel strip, so every part of every clip gets some of its own. Waveforms are float32 mono at
44.1 kHz; everything is drawn from the generator passed in. Short filters and few taps: a clip has up to five parts, and
a Fourier transform of each would take longer than playing them.
"""

from __future__ import annotations

import numpy as np
import torch

from ..effects import compression, smooth_size
from ..packed import SAMPLE_RATE

__all__ = ["amplified", "binomial", "echoed", "fade_edges", "in_a_hall", "in_a_room", "loudness", "strip", "tilted"]

COLOUR_SHARE = 0.7  # of parts: resonances of a body, a loudspeaker, a microphone near a wall
DRIVE_SHARE = 0.15
COMPRESSOR_SHARE = 0.35
COMPRESSOR = {"release_s": (0.05, 0.4), "ratio": (2, 8), "depth_db": (6, 24)}
PULSE_SHARE = 0.08  # tremolo of an amplifier or a rotating loudspeaker


def amplified(rng: np.random.Generator, bus: np.ndarray) -> np.ndarray:
    """An electric guitar's amplifier: from clean to fuzz (tanh), then a loudspeaker's low-pass; often played twice."""
    drive = np.exp(rng.uniform(np.log(0.7), np.log(4)) if rng.random() < 0.3 else rng.uniform(np.log(4), np.log(60)))
    bus = bus - np.float32(rng.uniform(0.6, 0.97)) * np.concatenate([[np.float32(0)], bus[:-1]])
    bus *= np.float32(drive / max(3 * loudness(bus), 1e-6))
    np.tanh(bus, out=bus)
    # Gains of -3 dB near 2.9 kHz (16), 4.1 kHz (8) and 5.8 kHz (4).
    kernel = binomial(int(rng.integers(4, 9)))
    out = np.convolve(bus, kernel)[: len(bus)]
    return _doubled(rng, np.convolve(out, kernel)[: len(bus)] if rng.random() < 0.5 else out)


def strip(rng: np.random.Generator, bus: np.ndarray) -> np.ndarray:
    """A part's channel strip: resonances, overdrive, a compressor and tremolo, each in a share of the parts."""
    if rng.random() < COLOUR_SHARE:
        bus = _coloured(rng, bus)
    if rng.random() < DRIVE_SHARE:
        bus = np.tanh(bus * np.float32(np.exp(rng.uniform(-0.5, 2)) / max(3 * loudness(bus), 1e-6)))
    if rng.random() < COMPRESSOR_SHARE:
        bus = bus * compression(torch.from_numpy(bus), rng, COMPRESSOR).numpy()
    if rng.random() < PULSE_SHARE:
        bus = bus * _tremolo(rng, len(bus))
    return bus


def fade_edges(wave: np.ndarray, samples: int) -> None:
    """Fade the first and the last samples, at most half of the wave each, in place."""
    ramp = np.linspace(0, 1, min(samples, len(wave) // 2), dtype=np.float32)
    wave[: len(ramp)] *= ramp
    wave[len(wave) - len(ramp) :] *= ramp[::-1]


def tilted(rng: np.random.Generator, bus: np.ndarray) -> np.ndarray:
    """Brighter or darker by a one-zero filter."""
    amount = np.float32(rng.uniform(-0.5, 0.6))
    out = bus.copy()
    out[1:] -= amount * bus[:-1]
    return out


def echoed(rng: np.random.Generator, bus: np.ndarray) -> None:
    """Three echoes, in place, 80 to 500 ms apart."""
    delay, gain = int(rng.uniform(0.08, 0.5) * SAMPLE_RATE), rng.uniform(0.1, 0.45)
    for k in range(1, 4):
        if k * delay < len(bus):
            bus[k * delay :] += np.float32(gain**k) * bus[: -k * delay]


def in_a_room(rng: np.random.Generator, mix: np.ndarray) -> None:
    """Reflections of a room, few and cheap, in place: the drums' own room is an impulse response."""
    dry, decay_s, level = mix.copy(), rng.uniform(0.05, 0.3), 10 ** (rng.uniform(-16, -5) / 20)
    for delay_s in rng.exponential(decay_s, 8) + 0.004:
        delay = int(delay_s * SAMPLE_RATE)
        if delay < len(mix):
            gain = level * np.exp(-delay_s / decay_s / 2) * rng.choice([-1, 1])
            mix[delay:] += dry[: len(mix) - delay] * np.float32(gain)


def in_a_hall(rng: np.random.Generator, mix: np.ndarray) -> np.ndarray:
    """A hall or a plate around everything: a dense tail of noise, .5 to 3 s to -60 dB, duller as it goes."""
    decay_s, level = np.exp(rng.uniform(np.log(0.5), np.log(3))), 10 ** (rng.uniform(-26, -10) / 20)
    size = smooth_size(len(mix) + int(decay_s * SAMPLE_RATE))
    age = np.arange(int(decay_s * SAMPLE_RATE), dtype=np.float32) / np.float32(decay_s * SAMPLE_RATE)
    tail = rng.standard_normal(len(age), dtype=np.float32) * np.exp(-6.9 * age)
    dull = np.float32(rng.uniform(0.3, 0.95)) * np.minimum(1, 0.3 + age)
    tail[1:] = (1 - dull[1:]) * tail[1:] + dull[1:] * (tail[1:] + tail[:-1]) * np.float32(0.5)
    tail *= np.float32(level / np.sqrt(np.square(tail).sum()))
    before = int(rng.uniform(0.005, 0.06) * SAMPLE_RATE)
    spectrum = torch.fft.rfft(torch.from_numpy(mix), size) * torch.fft.rfft(torch.from_numpy(tail), size)
    out = mix.copy()
    out[before:] += torch.fft.irfft(spectrum, size).numpy()[: max(len(mix) - before, 0)]
    return out


def loudness(bus: np.ndarray) -> float:
    """RMS over the 50 ms blocks that are within 30 dB of the loudest."""
    n = len(bus) // 2205 * 2205
    if n == 0:
        return float(np.sqrt(np.mean(bus**2))) if len(bus) else 0.0
    blocks = bus[:n].reshape(-1, 2205)
    power = np.einsum("ij,ij->i", blocks, blocks) / 2205
    return float(np.sqrt(power[power >= power.max() * 1e-3].mean()))


def binomial(order: int) -> np.ndarray:
    """A low-pass of order + 1 taps, float32, whose gain is cos(w / 2) ** order."""
    taps = np.array([1.0])
    for _ in range(order):
        taps = np.convolve(taps, [0.5, 0.5])
    return taps.astype(np.float32)


def _coloured(rng: np.random.Generator, bus: np.ndarray) -> np.ndarray:
    """Peaks and dips of some dB all over the spectrum: the sound again, two to five times, up to 1.5 ms later."""
    out = bus.copy()
    for delay in np.exp(rng.uniform(0, np.log(66), rng.integers(2, 6))).astype(int).tolist():
        out[delay:] += np.float32(rng.normal(0, 0.35)) * bus[:-delay]
    return out


def _tremolo(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A gain [N] that goes up and down 3 to 9 times per second."""
    phase = np.arange(samples, dtype=np.float32) * np.float32(2 * np.pi * rng.uniform(3, 9) / SAMPLE_RATE)
    return 1 - np.float32(rng.uniform(0.2, 0.45)) * (1 + np.sin(phase))


def _doubled(rng: np.random.Generator, bus: np.ndarray) -> np.ndarray:
    """A guitar played twice, as in many mixes: the same again a few ms later."""
    delay = int(rng.uniform(0.006, 0.025) * SAMPLE_RATE)
    if rng.random() < 0.35 and delay < len(bus):
        bus[delay:] += np.float32(rng.uniform(0.5, 1)) * bus[:-delay].copy()
    return bus
