"""Drum kits with random parameters: endless sounds that need no files and no licence.

Conventions: waveforms are float32 mono, full scale 1.0, n samples; K bands or partials along the first axis; `strength`
is how hard a piece is struck, 0..1. Every drum is a closure that holds the drawn parameters of the piece and renders
one strike of a given strength, so that its velocity layers are the same instrument.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..packed import ATTACK_SAMPLE
from .resonators import (
    Bench,
    add,
    bell_curve,
    burst,
    darkened,
    modes,
    noise_spectrum,
    octave_bands,
    partial_spectrum,
    peaked,
    ring,
)

__all__ = ["ATTACK_DB", "synthesise_kit"]

ATTACK_DB = -30.0  # the first sample above this level (re the peak) is the attack, as in the recorded kits

Layers = list[tuple[float, np.ndarray]]  # (velocity rank 0..1, waveform [n])
Strike = Callable[[float], np.ndarray]  # strength 0..1 -> waveform [n], any level

# Usual peak of each class inside a kit, dB re the loudest; every kit moves each by a few dB.
_LEVELS_DB = {
    "BD": -1, "SD": -2, "SS": -8, "CLP": -5, "CHH": -12, "PHH": -16, "OHH": -10, "TB": -9, "LT": -3, "MT": -3, "HT": -4,
    "CRC": -5, "SPC": -8, "CHC": -6, "RD": -11, "RB": -9, "CB": -7, "CL": -6,
}  # fmt: skip


def synthesise_kit(rng: np.random.Generator, sample_rate: int = 44100) -> dict[str, Layers]:
    """A whole kit: for every class its velocity layers, loudest first, attack at `ATTACK_SAMPLE`, peaks at most 1.

    Levels are comparable inside the kit. Half of the kits lean electronic, half acoustic.
    """
    noise = octave_bands(noise_spectrum(rng, 2**15), sample_rate)
    bench = Bench(rng, sample_rate, noise, electronic=bool(rng.random() < 0.5))
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


def _layers(bench: Bench, strike: Strike, level_db: float) -> Layers:
    """Render 2 or 3 strengths of a piece; the softest lies 8-26 dB under the loudest, which peaks at `level_db`."""
    ranks = (1.0, 0.5, 0.0) if bench.chance(0.3) else (1.0, 0.0)
    span_db = bench.between(8, 26)
    return [(rank, _placed(strike(rank), level_db - (1 - rank) * span_db, bench.sample_rate)) for rank in ranks]


def _placed(wave: np.ndarray, peak_db: float, sample_rate: int) -> np.ndarray:
    """Waveform with its attack moved to `ATTACK_SAMPLE`, faded out over the last 20 ms, its peak at `peak_db` dBFS."""
    magnitude = np.abs(wave)
    peak = float(magnitude.max())
    wave = wave[int(np.argmax(magnitude > peak * 10 ** (ATTACK_DB / 20))) :]
    fade = min(int(0.02 * sample_rate), len(wave))
    placed = np.zeros(ATTACK_SAMPLE + len(wave), dtype=np.float32)
    placed[ATTACK_SAMPLE:] = wave * np.float32(10 ** (peak_db / 20) / peak)
    placed[len(placed) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return placed


# --- skins -----------------------------------------------------------------------------------------------------------


def _kick(bench: Bench) -> Strike:
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
    click = burst(bench, click_hz, 1.0, bench.log_between(0.001, 0.008))

    def strike(strength: float) -> np.ndarray:
        upper = levels * np.where(ratios > 1.2, 0.3 + 0.7 * strength, 1)
        length = decays * (0.75 + 0.25 * strength)
        body = modes(bench, f0 * ratios, upper, length, glide * (0.4 + 0.6 * strength), glide_s)
        mixture = add(peaked(body), peaked(click()) * click_level * (0.15 + 0.85 * strength))
        return np.tanh(drive * (0.4 + 0.6 * strength) * mixture)

    return strike


def _snare(bench: Bench) -> Strike:
    """Two or more modes of the skin, the wires (noise whose highs die first), the stick."""
    f0, second = bench.log_between(140, 290), bench.between(1.4, 1.95)
    ratios = np.array([1, second]) if bench.electronic else np.array([1, second, 2.14, 2.9, 3.6])
    levels = np.append([1, bench.between(0.2, 1)], bench.rng.uniform(0.05, 0.5, len(ratios) - 2))
    body_s, wires_s = bench.log_between(0.03, 0.14), bench.log_between(0.035, 0.16)
    wires_level = 0.03 if bench.chance(0.08) else bench.log_between(0.15, 2.5)  # now and then the snares are off
    weights = bell_curve(bench.log_between(900, 7000), bench.between(1, 2))
    decays = wires_s * np.linspace(1.2, bench.between(0.4, 1), len(weights))
    rise_s, dark_db = bench.between(0, 0.002), bench.between(10, 28)
    wires = np.roll(bench.noise, int(bench.rng.integers(2**14)), axis=1)
    stick, stick_level = burst(bench, bench.log_between(1500, 7000), 1.2, 0.002), bench.log_between(0.05, 0.7)
    glide = bench.between(0, 0.6 if bench.electronic else 0.15)

    def strike(strength: float) -> np.ndarray:
        body = modes(bench, f0 * ratios, levels, body_s / ratios**0.5, glide * strength, 0.02)
        shaped = darkened(weights, strength, dark_db)
        hiss = ring(bench, wires, shaped, decays * (0.6 + 0.4 * strength), np.full(len(decays), rise_s))
        hiss *= wires_level * (0.5 + 0.5 * strength) / max(float(np.abs(hiss).max()), 1e-6)
        return add(peaked(body), hiss, peaked(stick()) * stick_level * (0.1 + 0.9 * strength))

    return strike


def _toms(bench: Bench) -> dict[str, Strike]:
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
        skin, glide_s = burst(bench, skin_hz, 1.3, bench.log_between(0.002, 0.03)), bench.between(0.02, 0.08)

        def strike(strength: float) -> np.ndarray:
            upper = levels * np.where(ratios > 1.2, 0.3 + 0.7 * strength, 1)
            body = modes(bench, f0 * ratios, upper, decays * (0.7 + 0.3 * strength), glide * strength, glide_s)
            return add(peaked(body), peaked(skin()) * skin_level * (0.2 + 0.8 * strength))

        return strike

    return {code: tom(f0) for code, f0 in pitches.items()}


# --- wood, hands, small percussion -----------------------------------------------------------------------------------


def _resonant(
    bench: Bench, frequencies_hz: np.ndarray, decays_s: np.ndarray, click_hz: float, click_level: float
) -> Strike:
    """A block of wood or metal: a few resonances [K] and the stick that excites them."""
    levels = np.append(1, bench.rng.uniform(0.1, 0.9, len(frequencies_hz) - 1))
    order = np.argsort(np.argsort(frequencies_hz))
    click = burst(bench, click_hz, 1.0, bench.between(0.0006, 0.004))

    def strike(strength: float) -> np.ndarray:
        tilted = levels * (0.35 + 0.65 * strength) ** order
        body = modes(bench, frequencies_hz, tilted, decays_s * (0.8 + 0.2 * strength), 0.0, 0.01)
        return add(peaked(body), peaked(click()) * click_level * (0.2 + 0.8 * strength))

    return strike


def _side_stick(bench: Bench) -> Strike:
    """A stick laid on the skin and struck on the rim: wood, with a short shell under it."""
    f0, decay_s = bench.log_between(400, 1900), bench.log_between(0.006, 0.03)
    frequencies = f0 * np.cumprod(np.append(1, bench.rng.uniform(1.2, 2.0, 2)))
    shell_hz, shell_s = bench.log_between(170, 420), bench.log_between(0.03, 0.12)
    frequencies, decays = np.append(frequencies, shell_hz), np.append(np.full(3, decay_s), shell_s)
    return _resonant(bench, frequencies, decays, bench.log_between(1500, 7000), bench.log_between(0.1, 1.0))


def _claves(bench: Bench) -> Strike:
    """Two sticks of hard wood: one clear resonance, a weak second one."""
    f0 = bench.log_between(1700, 5000)
    frequencies = np.array([f0, f0 * bench.between(1.5, 2.8)])
    decays = np.array([1.0, 0.6]) * bench.log_between(0.012, 0.04)
    return _resonant(bench, frequencies, decays, bench.log_between(3000, 9000), bench.log_between(0.03, 0.4))


def _cowbell(bench: Bench) -> Strike:
    """Two square-like tones near 540 and 800 Hz (as in drum machines), or the inharmonic modes of a real bell."""
    f0 = bench.log_between(420, 900)
    tones = np.array([f0, f0 * bench.between(1.4, 1.56)])
    odd = np.array([1, 3, 5, 7])
    harmonics = odd if bench.electronic else odd ** bench.between(0.75, 1.05)
    frequencies = np.concatenate([tone * harmonics for tone in tones])
    decays = bench.log_between(0.04, 0.16) / np.tile(odd, 2) ** bench.between(0.1, 0.5)
    return _resonant(bench, frequencies, decays, bench.log_between(2000, 6000), bench.log_between(0.05, 0.5))


def _clap(bench: Bench) -> Strike:
    """Several hands a few milliseconds apart, then the room."""
    gaps_s = bench.rng.uniform(0.006, 0.014, int(bench.rng.integers(1, 4)))
    starts = np.append(0, np.cumsum(gaps_s) * bench.sample_rate).astype(int)
    centre_hz, width = bench.log_between(900, 3500), bench.between(0.5, 1.2)
    hands = [burst(bench, centre_hz, width, bench.between(0.003, 0.008)) for _ in starts]
    tail, tail_level = burst(bench, centre_hz, width * 1.3, bench.log_between(0.04, 0.14)), bench.between(0.1, 1.0)
    click, click_level = burst(bench, 6000, 1.0, 0.001), bench.between(0.05, 0.5)

    def strike(strength: float) -> np.ndarray:
        late = [
            np.concatenate([np.zeros(s, np.float32), peaked(hand())]) for s, hand in zip(starts, hands, strict=True)
        ]
        room = np.concatenate([np.zeros(starts[-1], np.float32), peaked(tail())])
        return add(*late, room * tail_level * (0.6 + 0.4 * strength), peaked(click()) * click_level * strength)

    return strike


def _tambourine(bench: Bench) -> Strike:
    """Jingles that hit one after the other, each a tight group of partials high up, and sometimes a skin."""
    n = 2**14
    frequencies = bench.log_between(5000, 8000) * bench.rng.uniform(1.0, 2.2, 60)
    spectrum = partial_spectrum(bench.rng, n, frequencies, bench.sample_rate)
    jingle = octave_bands(spectrum + bench.between(0.05, 0.4) * noise_spectrum(bench.rng, n), bench.sample_rate)
    starts = np.append(0, bench.rng.exponential(0.015, int(bench.rng.integers(1, 6))) * bench.sample_rate).astype(int)
    levels = np.append(1, bench.rng.uniform(0.1, 0.8, len(starts) - 1))
    weights, decay_s = (
        bell_curve(bench.log_between(8000, 14000), bench.between(0.4, 0.8)),
        bench.log_between(0.02, 0.09),
    )
    skin_hz, skin_level = bench.log_between(150, 500), bench.between(0.1, 0.8) if bench.chance(0.3) else 0.0
    dark_db = bench.between(4, 14)

    def strike(strength: float) -> np.ndarray:
        shaped, decays = darkened(weights, strength, dark_db), np.full(len(weights), decay_s * (0.7 + 0.3 * strength))
        once = peaked(ring(bench, jingle, shaped, decays, np.full(len(weights), 0.0005)))
        rattle = [np.concatenate([np.zeros(s, np.float32), once * g]) for s, g in zip(starts, levels, strict=True)]
        skin = modes(bench, np.array([skin_hz]), np.array([skin_level]), np.array([0.03]), 0.05, 0.02)
        return add(*rattle, skin * strength)

    return strike


# --- metal -----------------------------------------------------------------------------------------------------------


def _metal(bench: Bench, n: int, density: int, lowest_hz: float, noisiness: float) -> np.ndarray:
    """Bands [K, n] of a metal plate: `density` inharmonic partials, or six square waves, with noise mixed in."""
    if bench.electronic and bench.chance(0.6):
        squares = bench.log_between(150, 600) * bench.rng.uniform(1.0, 4.0, 6)
        frequencies = np.outer(squares, np.arange(1, 100, 2)).ravel()
    else:
        frequencies = lowest_hz * (16000 / lowest_hz) ** (bench.rng.random(density) ** 0.7)
    spectrum = partial_spectrum(bench.rng, n, frequencies, bench.sample_rate)
    # Noise fills every bin, partials only a few: scaled so that `noisiness` 1 is about equal power.
    power = np.sqrt(len(frequencies) / len(spectrum))
    return octave_bands(spectrum + np.float32(noisiness * power) * noise_spectrum(bench.rng, n), bench.sample_rate)


def _hats(bench: Bench) -> dict[str, Strike]:
    """Closed, pedal and open from one pair of plates."""
    plates = _metal(bench, 2**16, 150, bench.log_between(300, 900), bench.log_between(0.2, 3))
    centre_hz, width = bench.log_between(5000, 12000), bench.between(0.7, 1.4)
    closed_s, open_s = bench.log_between(0.018, 0.08), bench.log_between(0.13, 0.6)
    pedal_s = bench.between(0.12, 0.3) if bench.chance(0.15) else bench.log_between(0.02, 0.06)  # splashed by the foot
    tick, tick_level = burst(bench, bench.log_between(4000, 12000), 1.0, 0.0015), bench.between(0.1, 1)
    dark_db, foot_rise_s = bench.between(8, 22), bench.between(0.001, 0.006)

    def hat(weights: np.ndarray, decay_s: float, rise_s: float, stick: float) -> Strike:
        # The highs of a short hat die with the rest; those of an open one go first.
        shape = np.linspace(1.0, bench.between(0.6, 1.0), len(weights))
        roll = int(bench.rng.integers(plates.shape[1]))
        bands = np.roll(plates, roll, axis=1)

        def strike(strength: float) -> np.ndarray:
            shaped, decays = darkened(weights, strength, dark_db), decay_s * shape * (0.6 + 0.4 * strength)
            plates_ring = peaked(ring(bench, bands, shaped, decays, np.full(len(weights), rise_s)))
            stroke = peaked(tick()) * stick * (0.1 + 0.9 * strength)
            return add(plates_ring, stroke) if stick else plates_ring

        return strike

    weights = bell_curve(centre_hz, width)
    foot = bell_curve(centre_hz * bench.between(0.2, 0.7), width * 1.2)
    return {
        "CHH": hat(weights, closed_s, 0.0003, tick_level),
        "PHH": hat(foot, pedal_s, foot_rise_s, 0.0),
        "OHH": hat(weights * bell_curve(centre_hz * 0.8, 3), open_s, bench.between(0.0003, 0.004), tick_level * 0.6),
    }


def _crash(bench: Bench, n: int, decay_s: tuple[float, float], centre_hz: tuple[float, float], trash: float) -> Strike:
    """Crash, splash, china: dense partials whose middle blooms after the stick; `trash` 1 is noisier and overdriven."""
    plate = _metal(bench, n, 400, bench.log_between(150, 500), bench.log_between(0.4, 2) * (1 + trash))
    weights = bell_curve(bench.log_between(*centre_hz), bench.between(1.0, 1.8))
    decays = bench.log_between(*decay_s) * np.linspace(1.5, bench.between(0.5, 0.9), len(weights))
    rises = np.geomspace(bench.between(0.005, 0.06), 0.001, len(weights)) * (0.3 if trash else 1)
    stick, stick_level = burst(bench, bench.log_between(3000, 10000), 1.2, 0.003), bench.between(0.1, 0.8)
    dark_db, drive = bench.between(10, 26), 0.3 + trash * bench.between(0.5, 3)

    def strike(strength: float) -> np.ndarray:
        shaped, lengths = darkened(weights, strength, dark_db), decays * (0.5 + 0.5 * strength)
        wash = peaked(ring(bench, plate, shaped, lengths, rises * (2 - strength)))
        return np.tanh(drive * add(wash, peaked(stick()) * stick_level))

    return strike


def _rides(bench: Bench) -> dict[str, Strike]:
    """Ride and its bell: one plate; a ping over a wash, or clear partials over a little of it."""
    plate = _metal(bench, 2**17, 300, bench.log_between(200, 500), bench.log_between(0.3, 1.5))
    weights = bell_curve(bench.log_between(2500, 7000), bench.between(1.0, 1.8))
    decays = bench.log_between(0.6, 1.5) * np.linspace(1.3, bench.between(0.4, 0.9), len(weights))
    rises = np.geomspace(bench.between(0.005, 0.04), 0.002, len(weights))
    stick = burst(bench, bench.log_between(6000, 14000), 1.0, bench.between(0.002, 0.008))
    dark_db, wash_level = bench.between(8, 20), bench.log_between(0.15, 0.9)

    def edge(partials_hz: np.ndarray, decays_s: np.ndarray, wash: float, ping: float) -> Strike:
        levels = bench.rng.uniform(0.2, 1.0, len(partials_hz))
        order = np.argsort(np.argsort(partials_hz)) / len(partials_hz)

        def strike(strength: float) -> np.ndarray:
            tilted = levels * (0.4 + 0.6 * strength) ** order
            tone = peaked(modes(bench, partials_hz, tilted, decays_s * (0.8 + 0.2 * strength), 0.0, 0.01))
            shaped, lengths = darkened(weights, strength, dark_db), decays * (0.7 + 0.3 * strength)
            rest = peaked(ring(bench, plate, shaped, lengths, rises)) * wash * (0.5 + 0.5 * strength)
            return add(tone, rest, peaked(stick()) * ping)

        return strike

    ping_hz = bench.log_between(1800, 4000) * bench.rng.uniform(1.0, 3.0, 5)
    bell_hz = bench.log_between(800, 2200) * np.cumprod(np.append(1, bench.rng.uniform(1.25, 1.7, 5)))
    bell_s = bench.log_between(0.35, 1.0) / np.arange(1, 7) ** 0.4
    return {
        "RD": edge(ping_hz, bench.rng.uniform(0.03, 0.2, 5), wash_level, bench.between(0.4, 2.0)),
        "RB": edge(bell_hz, bell_s, wash_level * 0.4, bench.between(0.1, 0.6)),
    }
