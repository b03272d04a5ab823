"""Stress patterns: written, not played, and full of what human grooves lack.

A clip is one scene (a groove with random roles, tom runs, rolls, pairs, a single class, free Poisson hits) with
ornaments laid over it: flams, drags, ghost notes, simultaneous pairs. Every class occurs, the rare ones on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ....runtime.vocabulary import CODES, index_of
from .performance import Performance, merged

__all__ = ["stress_pattern"]

# Chance of being the timekeeper of a groove: the usual ones lead, every other class gets its turn.
_TIMEKEEPERS = {
    "CHH": 4, "RD": 3, "TB": 2.5, "OHH": 2, "CRC": 2, "PHH": 1.5, "RB": 1.5, "LT": 1.5,
    "CHC": 1, "SPC": 1, "CB": 1, "CL": 0.7,
}  # fmt: skip
_BACKBEATS = {"SD": 6, "SS": 3, "CLP": 2, "TB": 0.5, "HT": 0.5, "CL": 0.5}
_KICKS = {"BD": 9, "LT": 1}
_COLOURS = {
    "OHH": 2,
    "PHH": 2,
    "TB": 2,
    "CB": 1.5,
    "CL": 1.5,
    "RB": 1,
    "SPC": 1,
    "CHC": 1,
    "CLP": 1,
    "SS": 1,
    "HT": 1,
    "MT": 1,
}
_ACCENTS = {"CRC": 6, "SPC": 2, "CHC": 2, "RB": 1, "OHH": 1}
_TOMS = ("HT", "MT", "LT")

# Roles of the clips that real songs need and the groove recordings have little of.
_STYLES: dict[str, dict[str, dict[str, float]]] = {
    "any": {},
    "crash-riding": {"timekeeper": {"CRC": 4, "CHC": 1, "SPC": 0.5, "OHH": 1}, "backbeat": {"SD": 1}},
    "ride": {"timekeeper": {"RD": 5, "RB": 1}, "colour": {"RB": 3, "PHH": 3}, "backbeat": {"SD": 3, "SS": 2}},
    "toms": {"timekeeper": {"LT": 3, "MT": 1, "HT": 1}, "colour": {"MT": 1, "HT": 1, "LT": 1}},
    "ballad": {"timekeeper": {"CHH": 3, "RD": 2, "TB": 1}, "backbeat": {"SS": 1}},
    "tambourine": {"timekeeper": {"TB": 1}, "colour": {"CHH": 2, "OHH": 1, "PHH": 1, "TB": 1}},
}
_STYLE_WEIGHTS = np.array([6, 2, 2, 2, 2, 2], dtype=float)


def stress_pattern(rng: np.random.Generator, duration_s: float) -> Performance:
    """One random clip of `duration_s` seconds, the same for the same generator state."""
    scene = _SCENES[rng.choice(len(_SCENES), p=_SCENE_WEIGHTS / _SCENE_WEIGHTS.sum())]
    clip = scene(rng, duration_s)
    if rng.random() < 0.15:
        clip = merged(clip, _pairs(rng, duration_s).thinned(0.0, min_velocity=rng.uniform(0.3, 0.9)))
    if rng.random() < 0.5:
        clip = _with_grace_notes(rng, clip)
    return _levelled(rng, clip)


def _pick(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """One class code, by weight."""
    values = np.fromiter(weights.values(), dtype=float)
    return list(weights)[rng.choice(len(values), p=values / values.sum())]


def _groove(rng: np.random.Generator, duration_s: float) -> Performance:
    """A bar on a grid, repeated with variations: kick, backbeat, timekeeper, a colour, accents and fills."""
    style = _STYLES[list(_STYLES)[rng.choice(len(_STYLES), p=_STYLE_WEIGHTS / _STYLE_WEIGHTS.sum())]]
    steps = int(rng.choice([16, 16, 16, 12, 8]))
    bar_s = 4 * 60 / rng.uniform(60, 200)
    n_bars = int(np.ceil(duration_s / bar_s)) + 1
    rows = _bar_rows(rng, steps, style)
    hits: list[tuple[float, int, float]] = []
    for bar in range(n_bars):
        for index, probability, level in rows:
            played = rng.random(steps) < probability
            hits += [((bar + k / steps) * bar_s, index, level[k]) for k in np.flatnonzero(played)]
        hits += _bar_extras(rng, bar * bar_s, bar_s, steps)
    if not hits:
        return _performance(hits, duration_s)
    times, classes, levels = (np.array(column) for column in zip(*hits, strict=True))
    times = _swung(rng, times, bar_s / steps) - rng.uniform(0, bar_s)
    loose_s = rng.choice([0.0, 0.003, 0.008])
    times += loose_s * rng.standard_normal(len(times))
    return Performance.from_hits(times, classes, levels + 0.06 * rng.standard_normal(len(levels)), duration_s)


def _bar_rows(
    rng: np.random.Generator, steps: int, style: dict[str, dict[str, float]]
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """The bar's parts: class index, chance of a hit per step [steps], velocity per step [steps]."""
    beat = steps // 4
    on_beat = np.arange(steps) % beat == 0
    back = (np.arange(steps) // beat) % 2 == 1
    every = int(rng.choice([1, 2, 2, 4 if beat >= 4 else 2, beat]))
    keep = (np.arange(steps) % every == 0) & (rng.random(steps) < rng.choice([1.0, 0.8]))
    if rng.random() < 0.3:  # off-beats
        keep = np.roll(keep, max(every // 2, 1))
    kick = np.where(on_beat & ~back, 0.9, rng.choice([0.0, 0.9], steps, p=[0.8, 0.2]))
    if rng.random() < 0.2:
        kick = np.where(on_beat, 0.97, 0.05)
    snare = np.where(on_beat & back, 0.97, rng.choice([0.0, 0.7], steps, p=[0.85, 0.15]))
    ghosts = np.where(snare < 0.5, rng.choice([0.0, 0.15, 0.4]), 0.0)
    colour = rng.choice([0.0, 0.8], steps, p=[0.85, 0.15])
    accent = np.where(on_beat, rng.uniform(0.6, 1.0), rng.uniform(0.25, 0.9))
    loud = rng.uniform(0.6, 1.0)
    snare_index = index_of(_pick(rng, style.get("backbeat", _BACKBEATS)))
    ghost_level = rng.uniform(5, 40, steps) / 127
    rows = [
        (index_of(_pick(rng, _KICKS)), kick, np.full(steps, loud)),
        (snare_index, snare, np.full(steps, rng.uniform(0.5, 1.0))),
        (snare_index, ghosts, ghost_level),
        (index_of(_pick(rng, style.get("timekeeper", _TIMEKEEPERS))), keep * 0.97, accent),
        (index_of(_pick(rng, style.get("colour", _COLOURS))), colour, np.full(steps, rng.uniform(0.3, 1.0))),
    ]
    if rng.random() < 0.25:  # a second timekeeper along with the first
        rows.append((index_of(_pick(rng, _TIMEKEEPERS)), np.where(on_beat, 0.95, 0.0), accent))
    return [row for row in rows if rng.random() < 0.93]


def _bar_extras(rng: np.random.Generator, start_s: float, bar_s: float, steps: int) -> list[tuple[float, int, float]]:
    """An accent with kick on the one, and a fill at the end of the bar, now and then."""
    hits: list[tuple[float, int, float]] = []
    if rng.random() < 0.3:
        hits += [(start_s, index_of(_pick(rng, _ACCENTS)), rng.uniform(0.6, 1.0)), (start_s, index_of("BD"), 0.9)]
    if rng.random() < 0.25:
        length = int(rng.integers(2, steps // 2 + 1))
        first = start_s + bar_s * (steps - length) / steps
        hits += _run(rng, first, bar_s / steps, length)
    return hits


def _run(rng: np.random.Generator, start_s: float, step_s: float, length: int) -> list[tuple[float, int, float]]:
    """A fill: down the toms (sometimes up, sometimes from the snare), with a slope in velocity."""
    order = ("SD", *_TOMS) if rng.random() < 0.4 else _TOMS
    order = order[::-1] if rng.random() < 0.2 else order
    position = np.arange(length) * len(order) // max(length, 1)
    if rng.random() < 0.25:
        position = rng.integers(0, len(order), length)
    first, last = rng.uniform(0.3, 1.0, 2)
    level = np.clip(np.linspace(first, last, length) + 0.1 * rng.standard_normal(length), 0.05, 1)
    return [(start_s + k * step_s, index_of(order[position[k]]), float(level[k])) for k in range(length)]


def _swung(rng: np.random.Generator, times_s: np.ndarray, step_s: float) -> np.ndarray:
    """Every second step late by up to a third of a step, in a third of the clips."""
    if rng.random() > 0.33:
        return times_s
    odd = np.round(times_s / step_s) % 2 == 1
    return times_s + odd * rng.uniform(0.05, 0.34) * step_s


def _tom_runs(rng: np.random.Generator, duration_s: float) -> Performance:
    """Fill after fill over the toms, with kicks and crashes between."""
    hits: list[tuple[float, int, float]] = []
    time, step_s = 0.0, rng.uniform(0.07, 0.3)
    while time < duration_s:
        length = int(rng.integers(2, 13))
        hits += _run(rng, time, step_s, length)
        time += length * step_s
        if rng.random() < 0.6:
            hits += [
                (time, index_of("BD"), rng.uniform(0.5, 1)),
                (time, index_of(_pick(rng, _ACCENTS)), rng.uniform(0.5, 1)),
            ]
            time += step_s * int(rng.integers(1, 5))
    return _performance(hits, duration_s)


def _rolls(rng: np.random.Generator, duration_s: float) -> Performance:
    """Rolls of one class at 8-28 hits/s with a swell: single strokes, doubles, fast double kicks."""
    hits: list[tuple[float, int, float]] = []
    time = rng.uniform(0, 0.5)
    classes = {
        "SD": 4,
        "BD": 3,
        "CHH": 2,
        "LT": 1,
        "MT": 1,
        "HT": 1,
        "CRC": 1,
        "RD": 1,
        "TB": 1,
        "SS": 1,
        "CLP": 1,
        "CB": 1,
        "CL": 1,
    }
    while time < duration_s:
        index = index_of(_pick(rng, classes))
        gap_s, length = 1 / rng.uniform(8, 28), int(rng.integers(2, 20))
        first, last = rng.uniform(5 / 127, 1.0, 2)
        swell = np.linspace(first, last, length)
        offsets = gap_s * np.arange(length) + 0.002 * rng.standard_normal(length)
        hits += [(time + o, index, v) for o, v in zip(offsets, swell, strict=True)]
        time += gap_s * length
        if rng.random() < 0.5:
            hits.append((time, index_of(CODES[rng.integers(len(CODES))]), rng.uniform(0.3, 1)))
        time += rng.choice([0.0, rng.uniform(0.1, 1.0)])
    return _performance(hits, duration_s)


def _pairs(rng: np.random.Generator, duration_s: float) -> Performance:
    """Two classes, sometimes three, struck together: half exactly, half within 15 ms; any class with any other."""
    gaps = rng.uniform(0.12, 1.0) * rng.uniform(0.6, 1.4, int(duration_s / 0.072) + 1)
    times = np.cumsum(gaps)
    times = times[times < duration_s]
    hits: list[tuple[float, int, float]] = []
    for time in times:
        count = 3 if rng.random() < 0.2 else 2
        spread = 0.015 if rng.random() < 0.5 else 0.0
        hits += [
            (time + rng.uniform(0, spread), c, _velocity(rng)) for c in rng.choice(len(CODES), count, replace=False)
        ]
    return _performance(hits, duration_s)


def _single_class(rng: np.random.Generator, duration_s: float) -> Performance:
    """One class alone, sparse: what it sounds like with nothing around it."""
    index, rate = int(rng.integers(len(CODES))), rng.uniform(0.5, 4)
    times = np.cumsum(rng.uniform(0.5, 1.5, int(duration_s * rate * 2) + 1) / rate) - 1 / rate
    return Performance.from_hits(times, np.full(len(times), index), [_velocity(rng) for _ in times], duration_s)


def _poisson(rng: np.random.Generator, duration_s: float) -> Performance:
    """Free hits, 1-16 per second, with a random mixture of classes."""
    count = rng.poisson(duration_s * np.exp(rng.uniform(0, np.log(16))))
    mixture = rng.dirichlet(np.full(len(CODES), rng.choice([0.2, 1.0, 5.0])))
    classes = rng.choice(len(CODES), count, p=mixture)
    return Performance.from_hits(
        rng.uniform(0, duration_s, count), classes, [_velocity(rng) for _ in range(count)], duration_s
    )


def _with_grace_notes(rng: np.random.Generator, clip: Performance) -> Performance:
    """Flams (one soft stroke 15-60 ms ahead) and drags (two) before some of the hits."""
    chosen = np.flatnonzero(rng.random(len(clip)) < rng.uniform(0.02, 0.2))
    hits: list[tuple[float, int, float]] = []
    for i in chosen:
        gap_s = rng.uniform(0.0151, 0.06)
        level = float(clip.velocities[i]) * rng.uniform(0.15, 0.9)
        hits.append((clip.times_s[i] - gap_s, int(clip.classes[i]), level))
        if rng.random() < 0.35:
            second_s = gap_s + rng.uniform(0.025, 0.06)
            hits.append((clip.times_s[i] - second_s, int(clip.classes[i]), level * rng.uniform(0.7, 1.0)))
    return merged(clip, _performance(hits, clip.duration_s))


def _levelled(rng: np.random.Generator, clip: Performance) -> Performance:
    """Play the whole clip softer in a fifth of the cases: ghost notes only, brushes' level."""
    scale = rng.uniform(0.15, 0.6) if rng.random() < 0.2 else 1.0
    levels = np.clip(clip.velocities * scale, 5 / 127, 1.0)
    return Performance.from_hits(clip.times_s, clip.classes, levels, clip.duration_s)


def _velocity(rng: np.random.Generator) -> float:
    """A free velocity: one in five a ghost note (5-40 of 127), the rest anything from medium to full."""
    return rng.uniform(5, 40) / 127 if rng.random() < 0.2 else rng.uniform(0.3, 1.0)


def _performance(hits: list[tuple[float, int, float]], duration_s: float) -> Performance:
    """A performance of (time in seconds, class index, velocity) hits, possibly none."""
    times, classes, levels = zip(*hits, strict=True) if hits else ((), (), ())
    return Performance.from_hits(times, classes, levels, duration_s)


_SCENES: tuple[Callable[[np.random.Generator, float], Performance], ...] = (
    _groove, _tom_runs, _rolls, _pairs, _single_class, _poisson,
)  # fmt: skip
_SCENE_WEIGHTS = np.array([10, 2, 2, 3, 1.5, 3])
