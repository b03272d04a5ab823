"""Drum kits with random parameters: endless sounds that need no files and no licence.

Conventions: waveforms are float32 mono, full scale 1.0, n samples; K bands or partials along the first axis; `strength`
is how hard a piece is struck, 0..1. Every drum is a closure that holds the drawn parameters of the piece and renders
one strike of a given strength, so that its velocity layers are the same instrument. Sounds that ring in many partials
(cymbals, hats, wires) are made of octave bands of one noise or partial spectrum, each band with its own envelope: an
inverse FFT per band replaces hundreds of oscillators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from .accompaniment import synthesise_backing

__all__ = ["ATTACK_SAMPLE", "synthesise_backing", "synthesise_kit"]

ATTACK_SAMPLE = 220  # as in the recorded kits: 5 ms of silence, then the attack
_ATTACK_DB = -30.0  # the first sample above this level (re the peak) is the attack, as in the recorded kits
_BAND_CENTRES_HZ = 180.0 * 2.0 ** np.arange(7)
_BAND_WIDTH_OCTAVES = 0.5

Layers = list[tuple[float, np.ndarray]]  # (velocity rank 0..1, waveform [n])
Strike = Callable[[float], np.ndarray]  # strength 0..1 -> waveform [n], any level

# Usual peak of each class inside a kit, dB re the loudest; every kit moves each by a few dB.
_LEVELS_DB = {
    "BD": -1, "SD": -2, "SS": -8, "CLP": -5, "CHH": -12, "PHH": -16, "OHH": -10, "TB": -9, "LT": -3, "MT": -3, "HT": -4,
    "CRC": -5, "SPC": -8, "CHC": -6, "RD": -11, "RB": -9, "CB": -7, "CL": -6,
}  # fmt: skip


@dataclass(frozen=True)
class _Bench:
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


def synthesise_kit(rng: np.random.Generator, sample_rate: int = 44100) -> dict[str, Layers]:
    """A whole kit: for every class its velocity layers, loudest first, attack at `ATTACK_SAMPLE`, peaks at most 1.

    Levels are comparable inside the kit. Half of the kits lean electronic, half acoustic.
    """
    noise = _bands(_noise_spectrum(rng, 2**15), sample_rate)
    bench = _Bench(rng, sample_rate, noise, electronic=bool(rng.random() < 0.5))
    strikes = {
        "BD": _kick(bench),
        "SD": _snare(bench),
        "SS": _side_stick(bench),
        "CLP": _clap(bench),
        **_hats(bench),
        "TB": _tambourine(bench),
        **_toms(bench),
        "CRC": _crash(bench, 2**17, decay_s=(0.4, 1.1), centre_hz=(1800, 7500), trash=0.0),
        "SPC": _crash(bench, 2**16, decay_s=(0.2, 0.6), centre_hz=(2200, 8000), trash=0.0),
        "CHC": _crash(bench, 2**16, decay_s=(0.2, 0.5), centre_hz=(1500, 4500), trash=1.0),
        **_rides(bench),
        "CB": _cowbell(bench),
        "CL": _claves(bench),
    }
    levels_db = {code: _LEVELS_DB[code] + rng.normal(0, 3) for code in strikes}
    loudest_db = max(levels_db.values())
    return {code: _layers(bench, strike, levels_db[code] - loudest_db) for code, strike in strikes.items()}


def _layers(bench: _Bench, strike: Strike, level_db: float) -> Layers:
    """Render 2 or 3 strengths of a piece; the softest lies 8-26 dB under the loudest, which peaks at `level_db`."""
    ranks = (1.0, 0.5, 0.0) if bench.chance(0.3) else (1.0, 0.0)
    span_db = bench.between(8, 26)
    return [(rank, _placed(strike(rank), level_db - (1 - rank) * span_db, bench.sample_rate)) for rank in ranks]


def _placed(wave: np.ndarray, peak_db: float, sample_rate: int) -> np.ndarray:
    """Waveform with its attack moved to `ATTACK_SAMPLE`, faded out over the last 20 ms, its peak at `peak_db` dBFS."""
    magnitude = np.abs(wave)
    peak = float(magnitude.max())
    wave = wave[int(np.argmax(magnitude > peak * 10 ** (_ATTACK_DB / 20))) :]
    fade = min(int(0.02 * sample_rate), len(wave))
    placed = np.zeros(ATTACK_SAMPLE + len(wave), dtype=np.float32)
    placed[ATTACK_SAMPLE:] = wave * np.float32(10 ** (peak_db / 20) / peak)
    placed[len(placed) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return placed


# --- building blocks -------------------------------------------------------------------------------------------------


def _noise_spectrum(rng: np.random.Generator, n: int) -> np.ndarray:
    """Spectrum of white noise, complex64 [n/2 + 1]."""
    return rng.standard_normal(2 * (n // 2 + 1), dtype=np.float32).view(np.complex64)


def _partial_spectrum(rng: np.random.Generator, n: int, frequencies_hz: np.ndarray, sample_rate: int) -> np.ndarray:
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


def _bands(spectrum: np.ndarray, sample_rate: int) -> np.ndarray:
    """Waveforms of a spectrum's octave bands, float32 [K, n], unit RMS each (an empty band stays silent)."""
    waves = np.fft.irfft(spectrum * _band_masks(len(spectrum), sample_rate), axis=1)
    rms = np.sqrt(np.einsum("kn,kn->k", waves, waves) / waves.shape[1])
    return waves * (1 / np.maximum(rms, 1e-6))[:, None].astype(np.float32)


def _ring(
    bench: _Bench, bands: np.ndarray, weights: np.ndarray, decays_s: np.ndarray, rises_s: np.ndarray
) -> np.ndarray:
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


def _bell_curve(centre_hz: float, width_octaves: float) -> np.ndarray:
    """Weights [K] of the bands around a centre."""
    return np.exp(-0.5 * (np.log2(_BAND_CENTRES_HZ / centre_hz) / width_octaves) ** 2)


def _darkened(weights: np.ndarray, strength: float, span_db: float) -> np.ndarray:
    """Weights [K] tilted towards the low bands, by `span_db` over the whole range for the softest strike."""
    tilt_db = -(1 - strength) * span_db * np.arange(len(weights)) / (len(weights) - 1)
    return weights * 10 ** (tilt_db / 20)


def _burst(bench: _Bench, centre_hz: float, width_octaves: float, decay_s: float) -> Callable[[], np.ndarray]:
    """A short noise: a stick, a beater, one clap. The noise is chosen once, so that the layers agree."""
    start = int(bench.rng.integers(bench.noise.shape[1] // 2))
    decays = np.full(len(bench.noise), decay_s)
    weights = _bell_curve(centre_hz, width_octaves)
    return lambda: _ring(bench, bench.noise[:, start:], weights, decays, np.zeros(len(decays)))


def _modes(
    bench: _Bench, frequencies_hz: np.ndarray, levels: np.ndarray, decays_s: np.ndarray, glide: float, glide_s: float
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


def _sum(*waves: np.ndarray) -> np.ndarray:
    """Sum of waveforms of different lengths."""
    total = np.zeros(max(map(len, waves)), dtype=np.float32)
    for wave in waves:
        total[: len(wave)] += wave
    return total


def _peaked(wave: np.ndarray) -> np.ndarray:
    """Waveform with its peak at 1."""
    return wave / np.abs(wave).max()


# --- skins -----------------------------------------------------------------------------------------------------------


def _kick(bench: _Bench) -> Strike:
    """808 to 909 to distorted (a gliding sine), or acoustic (membrane modes and a beater)."""
    f0, decay_s = bench.log_between(38, 85), bench.log_between(0.04, 0.15)
    ratios, levels, glide, glide_s = np.ones(1), np.ones(1), bench.log_between(0.3, 6), bench.log_between(0.006, 0.05)
    drive = bench.log_between(0.3, 12) if bench.chance(0.4) else 0.3
    click_level, click_hz = bench.log_between(0.05, 1.0), bench.log_between(300, 5000)
    if not bench.electronic:
        ratios = np.array([1, 1.59, 2.14, 2.65, 3.6]) * bench.rng.normal(1, 0.03, 5)
        levels = np.array([1, 0.6, 0.5, 0.35, 0.25]) * bench.rng.uniform(0.2, 1.5, 5)
        glide, drive = bench.between(0.02, 0.5), 0.3
    elif bench.chance(0.3):
        decay_s = bench.log_between(0.12, 0.5)  # the long 808
    decays = decay_s / ratios
    click = _burst(bench, click_hz, 1.0, bench.log_between(0.001, 0.008))

    def strike(strength: float) -> np.ndarray:
        upper = levels * np.where(ratios > 1.2, 0.3 + 0.7 * strength, 1)
        length = decays * (0.75 + 0.25 * strength)
        body = _modes(bench, f0 * ratios, upper, length, glide * (0.4 + 0.6 * strength), glide_s)
        mixture = _sum(_peaked(body), _peaked(click()) * click_level * (0.15 + 0.85 * strength))
        return np.tanh(drive * (0.4 + 0.6 * strength) * mixture)

    return strike


def _snare(bench: _Bench) -> Strike:
    """Two or more modes of the skin, the wires (noise whose highs die first), the stick."""
    f0, second = bench.log_between(140, 290), bench.between(1.4, 1.95)
    ratios = np.array([1, second]) if bench.electronic else np.array([1, second, 2.14, 2.9, 3.6])
    levels = np.append([1, bench.between(0.2, 1)], bench.rng.uniform(0.05, 0.5, len(ratios) - 2))
    body_s, wires_s = bench.log_between(0.03, 0.14), bench.log_between(0.035, 0.16)
    wires_level = 0.03 if bench.chance(0.08) else bench.log_between(0.15, 2.5)  # now and then the snares are off
    weights = _bell_curve(bench.log_between(900, 7000), bench.between(1, 2))
    decays = wires_s * np.linspace(1.2, bench.between(0.4, 1), len(weights))
    rise_s, dark_db = bench.between(0, 0.002), bench.between(10, 28)
    wires = np.roll(bench.noise, int(bench.rng.integers(2**14)), axis=1)
    stick, stick_level = _burst(bench, bench.log_between(1500, 7000), 1.2, 0.002), bench.log_between(0.05, 0.7)
    glide = bench.between(0, 0.6 if bench.electronic else 0.15)

    def strike(strength: float) -> np.ndarray:
        body = _modes(bench, f0 * ratios, levels, body_s / ratios**0.5, glide * strength, 0.02)
        shaped = _darkened(weights, strength, dark_db)
        hiss = _ring(bench, wires, shaped, decays * (0.6 + 0.4 * strength), np.full(len(decays), rise_s))
        hiss *= wires_level * (0.5 + 0.5 * strength) / max(float(np.abs(hiss).max()), 1e-6)
        return _sum(_peaked(body), hiss, _peaked(stick()) * stick_level * (0.1 + 0.9 * strength))

    return strike


def _toms(bench: _Bench) -> dict[str, Strike]:
    """Three toms of one set: related pitches, one character."""
    low = bench.log_between(68, 140)
    mid = low * bench.between(1.2, 1.5)
    pitches = {"LT": low, "MT": mid, "HT": mid * bench.between(1.2, 1.5)}
    decay_s, glide = bench.log_between(0.08, 0.4), bench.between(0.02, 0.15)
    if bench.electronic:
        glide = bench.log_between(0.1, 2.0)
    ratios = np.array([1, 1.59, 2.14, 2.65])
    levels = np.append(1, bench.rng.uniform(0.02, 0.3 if bench.electronic else 1.0, 3))
    skin_level, skin_hz = bench.log_between(0.05, 1.0), bench.log_between(400, 5000)

    def tom(f0: float) -> Strike:
        decays = decay_s * (low / f0) ** 0.6 / ratios**0.8
        skin, glide_s = _burst(bench, skin_hz, 1.3, bench.log_between(0.002, 0.03)), bench.between(0.02, 0.08)

        def strike(strength: float) -> np.ndarray:
            upper = levels * np.where(ratios > 1.2, 0.3 + 0.7 * strength, 1)
            body = _modes(bench, f0 * ratios, upper, decays * (0.7 + 0.3 * strength), glide * strength, glide_s)
            return _sum(_peaked(body), _peaked(skin()) * skin_level * (0.2 + 0.8 * strength))

        return strike

    return {code: tom(f0) for code, f0 in pitches.items()}


# --- wood, hands, small percussion -----------------------------------------------------------------------------------


def _resonant(
    bench: _Bench, frequencies_hz: np.ndarray, decays_s: np.ndarray, click_hz: float, click_level: float
) -> Strike:
    """A block of wood or metal: a few resonances [K] and the stick that excites them."""
    levels = np.append(1, bench.rng.uniform(0.1, 0.9, len(frequencies_hz) - 1))
    order = np.argsort(np.argsort(frequencies_hz))
    click = _burst(bench, click_hz, 1.0, bench.between(0.0006, 0.004))

    def strike(strength: float) -> np.ndarray:
        tilted = levels * (0.35 + 0.65 * strength) ** order
        body = _modes(bench, frequencies_hz, tilted, decays_s * (0.8 + 0.2 * strength), 0.0, 0.01)
        return _sum(_peaked(body), _peaked(click()) * click_level * (0.2 + 0.8 * strength))

    return strike


def _side_stick(bench: _Bench) -> Strike:
    """A stick laid on the skin and struck on the rim: wood, with a short shell under it."""
    f0, decay_s = bench.log_between(400, 1900), bench.log_between(0.006, 0.03)
    frequencies = f0 * np.cumprod(np.append(1, bench.rng.uniform(1.2, 2.0, 2)))
    shell_hz, shell_s = bench.log_between(170, 420), bench.log_between(0.03, 0.12)
    frequencies, decays = np.append(frequencies, shell_hz), np.append(np.full(3, decay_s), shell_s)
    return _resonant(bench, frequencies, decays, bench.log_between(1500, 7000), bench.log_between(0.1, 1.0))


def _claves(bench: _Bench) -> Strike:
    """Two sticks of hard wood: one clear resonance, a weak second one."""
    f0 = bench.log_between(1700, 5000)
    frequencies = np.array([f0, f0 * bench.between(1.5, 2.8)])
    decays = np.array([1.0, 0.6]) * bench.log_between(0.012, 0.04)
    return _resonant(bench, frequencies, decays, bench.log_between(3000, 9000), bench.log_between(0.03, 0.4))


def _cowbell(bench: _Bench) -> Strike:
    """Two square-like tones near 540 and 800 Hz (as in drum machines), or the inharmonic modes of a real bell."""
    f0 = bench.log_between(420, 900)
    tones = np.array([f0, f0 * bench.between(1.4, 1.56)])
    odd = np.array([1, 3, 5, 7])
    harmonics = odd if bench.electronic else odd ** bench.between(0.75, 1.05)
    frequencies = np.concatenate([tone * harmonics for tone in tones])
    decays = bench.log_between(0.04, 0.16) / np.tile(odd, 2) ** bench.between(0.1, 0.5)
    return _resonant(bench, frequencies, decays, bench.log_between(2000, 6000), bench.log_between(0.05, 0.5))


def _clap(bench: _Bench) -> Strike:
    """Several hands a few milliseconds apart, then the room."""
    gaps_s = bench.rng.uniform(0.006, 0.014, int(bench.rng.integers(1, 4)))
    starts = np.append(0, np.cumsum(gaps_s) * bench.sample_rate).astype(int)
    centre_hz, width = bench.log_between(900, 3500), bench.between(0.5, 1.2)
    hands = [_burst(bench, centre_hz, width, bench.between(0.003, 0.008)) for _ in starts]
    tail, tail_level = _burst(bench, centre_hz, width * 1.3, bench.log_between(0.04, 0.14)), bench.between(0.1, 1.0)
    click, click_level = _burst(bench, 6000, 1.0, 0.001), bench.between(0.05, 0.5)

    def strike(strength: float) -> np.ndarray:
        late = [
            np.concatenate([np.zeros(s, np.float32), _peaked(hand())]) for s, hand in zip(starts, hands, strict=True)
        ]
        room = np.concatenate([np.zeros(starts[-1], np.float32), _peaked(tail())])
        return _sum(*late, room * tail_level * (0.6 + 0.4 * strength), _peaked(click()) * click_level * strength)

    return strike


def _tambourine(bench: _Bench) -> Strike:
    """Jingles that hit one after the other, each a tight group of partials high up, and sometimes a skin."""
    n = 2**14
    frequencies = bench.log_between(5000, 8000) * bench.rng.uniform(1.0, 2.2, 60)
    spectrum = _partial_spectrum(bench.rng, n, frequencies, bench.sample_rate)
    jingle = _bands(spectrum + bench.between(0.05, 0.4) * _noise_spectrum(bench.rng, n), bench.sample_rate)
    starts = np.append(0, bench.rng.exponential(0.015, int(bench.rng.integers(1, 6))) * bench.sample_rate).astype(int)
    levels = np.append(1, bench.rng.uniform(0.1, 0.8, len(starts) - 1))
    weights, decay_s = (
        _bell_curve(bench.log_between(8000, 14000), bench.between(0.4, 0.8)),
        bench.log_between(0.02, 0.09),
    )
    skin_hz, skin_level = bench.log_between(150, 500), bench.between(0.1, 0.8) if bench.chance(0.3) else 0.0
    dark_db = bench.between(4, 14)

    def strike(strength: float) -> np.ndarray:
        shaped, decays = _darkened(weights, strength, dark_db), np.full(len(weights), decay_s * (0.7 + 0.3 * strength))
        once = _peaked(_ring(bench, jingle, shaped, decays, np.full(len(weights), 0.0005)))
        rattle = [np.concatenate([np.zeros(s, np.float32), once * g]) for s, g in zip(starts, levels, strict=True)]
        skin = _modes(bench, np.array([skin_hz]), np.array([skin_level]), np.array([0.03]), 0.05, 0.02)
        return _sum(*rattle, skin * strength)

    return strike


# --- metal -----------------------------------------------------------------------------------------------------------


def _metal(bench: _Bench, n: int, density: int, lowest_hz: float, noisiness: float) -> np.ndarray:
    """Bands [K, n] of a metal plate: `density` inharmonic partials, or six square waves, with noise mixed in."""
    if bench.electronic and bench.chance(0.6):
        squares = bench.log_between(150, 600) * bench.rng.uniform(1.0, 4.0, 6)
        frequencies = np.outer(squares, np.arange(1, 100, 2)).ravel()
    else:
        frequencies = lowest_hz * (16000 / lowest_hz) ** (bench.rng.random(density) ** 0.7)
    spectrum = _partial_spectrum(bench.rng, n, frequencies, bench.sample_rate)
    # Noise fills every bin, partials only a few: scaled so that `noisiness` 1 is about equal power.
    power = np.sqrt(len(frequencies) / len(spectrum))
    return _bands(spectrum + np.float32(noisiness * power) * _noise_spectrum(bench.rng, n), bench.sample_rate)


def _hats(bench: _Bench) -> dict[str, Strike]:
    """Closed, pedal and open from one pair of plates."""
    plates = _metal(bench, 2**16, 150, bench.log_between(300, 900), bench.log_between(0.2, 3))
    centre_hz, width = bench.log_between(5000, 12000), bench.between(0.7, 1.4)
    closed_s, open_s = bench.log_between(0.018, 0.08), bench.log_between(0.13, 0.6)
    pedal_s = bench.between(0.12, 0.3) if bench.chance(0.15) else bench.log_between(0.02, 0.06)  # splashed by the foot
    tick, tick_level = _burst(bench, bench.log_between(4000, 12000), 1.0, 0.0015), bench.between(0.1, 1)
    dark_db, foot_rise_s = bench.between(8, 22), bench.between(0.001, 0.006)

    def hat(weights: np.ndarray, decay_s: float, rise_s: float, stick: float) -> Strike:
        # The highs of a short hat die with the rest; those of an open one go first.
        shape = np.linspace(1.0, bench.between(0.6, 1.0), len(weights))
        roll = int(bench.rng.integers(plates.shape[1]))
        bands = np.roll(plates, roll, axis=1)

        def strike(strength: float) -> np.ndarray:
            shaped, decays = _darkened(weights, strength, dark_db), decay_s * shape * (0.6 + 0.4 * strength)
            ring = _peaked(_ring(bench, bands, shaped, decays, np.full(len(weights), rise_s)))
            return _sum(ring, _peaked(tick()) * stick * (0.1 + 0.9 * strength)) if stick else ring

        return strike

    weights = _bell_curve(centre_hz, width)
    foot = _bell_curve(centre_hz * bench.between(0.2, 0.7), width * 1.2)
    return {
        "CHH": hat(weights, closed_s, 0.0003, tick_level),
        "PHH": hat(foot, pedal_s, foot_rise_s, 0.0),
        "OHH": hat(weights * _bell_curve(centre_hz * 0.8, 3), open_s, bench.between(0.0003, 0.004), tick_level * 0.6),
    }


def _crash(bench: _Bench, n: int, decay_s: tuple[float, float], centre_hz: tuple[float, float], trash: float) -> Strike:
    """Crash, splash, china: dense partials whose middle blooms after the stick; `trash` 1 is noisier and overdriven."""
    plate = _metal(bench, n, 400, bench.log_between(150, 500), bench.log_between(0.4, 2) * (1 + trash))
    weights = _bell_curve(bench.log_between(*centre_hz), bench.between(1.0, 1.8))
    decays = bench.log_between(*decay_s) * np.linspace(1.5, bench.between(0.5, 0.9), len(weights))
    rises = np.geomspace(bench.between(0.005, 0.06), 0.001, len(weights)) * (0.3 if trash else 1)
    stick, stick_level = _burst(bench, bench.log_between(3000, 10000), 1.2, 0.003), bench.between(0.1, 0.8)
    dark_db, drive = bench.between(10, 26), 0.3 + trash * bench.between(0.5, 3)

    def strike(strength: float) -> np.ndarray:
        shaped, lengths = _darkened(weights, strength, dark_db), decays * (0.5 + 0.5 * strength)
        ring = _peaked(_ring(bench, plate, shaped, lengths, rises * (2 - strength)))
        return np.tanh(drive * _sum(ring, _peaked(stick()) * stick_level))

    return strike


def _rides(bench: _Bench) -> dict[str, Strike]:
    """Ride and its bell: one plate; a ping over a wash, or clear partials over a little of it."""
    plate = _metal(bench, 2**17, 300, bench.log_between(200, 500), bench.log_between(0.3, 1.5))
    weights = _bell_curve(bench.log_between(2500, 7000), bench.between(1.0, 1.8))
    decays = bench.log_between(0.6, 1.5) * np.linspace(1.3, bench.between(0.4, 0.9), len(weights))
    rises = np.geomspace(bench.between(0.005, 0.04), 0.002, len(weights))
    stick = _burst(bench, bench.log_between(6000, 14000), 1.0, bench.between(0.002, 0.008))
    dark_db, wash_level = bench.between(8, 20), bench.log_between(0.15, 0.9)

    def edge(partials_hz: np.ndarray, decays_s: np.ndarray, wash: float, ping: float) -> Strike:
        levels = bench.rng.uniform(0.2, 1.0, len(partials_hz))
        order = np.argsort(np.argsort(partials_hz)) / len(partials_hz)

        def strike(strength: float) -> np.ndarray:
            tilted = levels * (0.4 + 0.6 * strength) ** order
            tone = _peaked(_modes(bench, partials_hz, tilted, decays_s * (0.8 + 0.2 * strength), 0.0, 0.01))
            ring = _ring(bench, plate, _darkened(weights, strength, dark_db), decays * (0.7 + 0.3 * strength), rises)
            return _sum(tone, _peaked(ring) * wash * (0.5 + 0.5 * strength), _peaked(stick()) * ping)

        return strike

    ping_hz = bench.log_between(1800, 4000) * bench.rng.uniform(1.0, 3.0, 5)
    bell_hz = bench.log_between(800, 2200) * np.cumprod(np.append(1, bench.rng.uniform(1.25, 1.7, 5)))
    bell_s = bench.log_between(0.35, 1.0) / np.arange(1, 7) ** 0.4
    return {
        "RD": edge(ping_hz, bench.rng.uniform(0.03, 0.2, 5), wash_level, bench.between(0.4, 2.0)),
        "RB": edge(bell_hz, bell_s, wash_level * 0.4, bench.between(0.1, 0.6)),
    }
