"""What an accompaniment plays: when there are notes (in time with the drums or not), which ones, and how hard.

Conventions: times in seconds from the clip's first sample, pitches in MIDI note numbers, velocities 0..1. Everything
is drawn from the generator passed in, and from nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Note", "Song", "arpeggio", "bass_line", "chords", "melody", "own_grid", "power_chords", "pulses", "stabs"]

KICK, SNARE, OTHER, BETWEEN = range(4)  # what a pulse falls on; BETWEEN: half way from one hit to the next
_KIND = {"BD": KICK, "SD": SNARE, "SS": SNARE, "CLP": SNARE}
_MERGE_S = 0.03  # hits nearer than this are one pulse
_SCALES = (  # major, minor, dorian, mixolydian, harmonic minor
    (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10), (0, 2, 4, 5, 7, 9, 10),
    (0, 2, 3, 5, 7, 8, 11),
)  # fmt: skip
_LOOPS = (
    (0, 4, 5, 3),
    (0, 3, 4, 3),
    (5, 3, 0, 4),
    (0, 5, 3, 4),
    (0, 6, 3, 0),
    (1, 4, 0, 0),
    (0, 0, 3, 4),
    (0, 5),
    (0, 3),
)


class Note(NamedTuple):
    """One note of a part."""

    start_s: float
    length_s: float
    pitch: int
    velocity: float


class Pulses(NamedTuple):
    """The moments at which a band may play, sorted."""

    times_s: np.ndarray  # float64 [P]
    kinds: np.ndarray  # int64 [P], KICK, SNARE, OTHER or BETWEEN


def pulses(hits: Sequence[tuple[float, str]], duration_s: float) -> Pulses:
    """Drum hits (seconds, class) -> the pulses of a band that plays with them; gaps go on at the usual pace."""
    kinds: list[int] = []
    times: list[float] = []
    for time_s, code in sorted(hits):
        kind = _KIND.get(code, OTHER)
        if times and time_s - times[-1] < _MERGE_S:
            kinds[-1] = min(kinds[-1], kind)
        else:
            times.append(time_s)
            kinds.append(kind)
    step = float(np.clip(np.median(np.diff(times)) if len(times) > 1 else 0.5, 0.15, 0.6))
    # The half-way moments, and where the drums rest a row of steps.
    edges = [0.0, *times, duration_s]
    for left, right in itertools.pairwise(edges):
        if right - left > 2.5 * step:
            filled = np.arange(left + step, right - step / 2, step)
            kinds += [OTHER] * len(filled)
        else:
            filled = np.array([(left + right) / 2] if right - left > 0.16 else [])
            kinds += [BETWEEN] * len(filled)
        times += filled.tolist()
    order = np.argsort(times, kind="stable")
    return Pulses(np.array(times)[order], np.array(kinds, dtype=np.int64)[order])


def own_grid(rng: np.random.Generator, duration_s: float) -> list[tuple[float, str]]:
    """Hits that nobody plays: a band's own tempo, where it does not follow the drums."""
    step_s = 60 / rng.uniform(60, 180) / int(rng.choice([2, 2, 4]))
    pattern = np.where(rng.random(16) < 0.2, "BD", "CHH")
    pattern[[0, 8]], pattern[[4, 12]] = "BD", "SD"
    times = np.arange(-rng.random() * step_s * 16, duration_s, step_s)
    return [(float(t), str(pattern[k % 16])) for k, t in enumerate(times) if t >= 0]


class Song:
    """Key, chord loop and the moments of one clip, shared by all parts."""

    def __init__(self, rng: np.random.Generator, hits: Sequence[tuple[float, str]], duration_s: float):
        self.duration_s = duration_s
        self.tonic = int(rng.integers(12))
        self.scale = _SCALES[rng.integers(len(_SCALES))]
        loop = _LOOPS[rng.integers(len(_LOOPS))]
        self.loop = loop if rng.random() < 0.7 else tuple(int(d) for d in rng.integers(0, 7, rng.integers(1, 5)))
        self.tones = [(0, 2, 4), (0, 2, 4), (0, 2, 4, 6), (0, 1, 4), (0, 2, 4, 8)][rng.integers(5)]
        self.pulses = pulses(hits, duration_s)
        self.changes_s = self._changes(rng.uniform(0.9, 3.2))

    def _changes(self, bar_s: float) -> np.ndarray:
        """Chord changes: on the first kick a bar after the last change, or on any pulse when that takes too long."""
        changes = [0.0]
        for time_s, kind in zip(*self.pulses, strict=True):
            waited = time_s - changes[-1]
            if waited >= bar_s * 1.5 or (waited >= bar_s * 0.97 and kind == KICK):
                changes.append(float(time_s))
        return np.array(changes)

    def pitch(self, degree: int, low: int) -> int:
        """A scale step as the pitch at or above `low`, octaves of the step (multiples of 7) kept."""
        octave, step = divmod(degree, 7)
        return low + (self.tonic + self.scale[step] - low) % 12 + 12 * octave

    def root(self, time_s: float) -> int:
        """The scale step on which the chord at a time stands."""
        return self.loop[(int(np.searchsorted(self.changes_s, time_s + 0.02, side="right")) - 1) % len(self.loop)]

    def chord(self, time_s: float, low: int) -> list[int]:
        """The chord's pitches within the octave (ninths: two) from `low`, ascending."""
        root = self.root(time_s)
        return sorted({self.pitch((root + tone) % 7, low) + 12 * (tone > 7) for tone in self.tones})

    def moments(self, rng: np.random.Generator, chances: Sequence[float], gap_s: float, on_changes: bool) -> np.ndarray:
        """Pulses drawn by kind with `chances` [4], at least `gap_s` apart, played a few ms early or late."""
        taken = rng.random(len(self.pulses.times_s)) < np.asarray(chances)[self.pulses.kinds]
        times = self.pulses.times_s[taken]
        if on_changes:
            times = np.union1d(times, self.changes_s)
        last, kept = -1.0, []
        for time_s in times.tolist():
            if time_s - last >= gap_s:
                kept.append(time_s)
                last = time_s
        lag_s, jitter_s = rng.normal(0, 0.004), rng.uniform(0.001, 0.008)
        played = np.array(kept) + np.clip(lag_s + rng.normal(0, jitter_s, len(kept)), -0.02, 0.02)
        return np.sort(played[(played >= 0) & (played < self.duration_s)])


def _lengths(times_s: np.ndarray, song: Song, factor: float, most_s: float) -> np.ndarray:
    return np.minimum(np.diff(times_s, append=song.duration_s) * factor, most_s)


def bass_line(rng: np.random.Generator, song: Song) -> list[Note]:
    """Roots, fifths and octaves, or a walk over the scale, mostly with the kick drum."""
    busy = rng.choice([0.0, 0.3, 0.95])
    chances = (rng.uniform(0.75, 1), rng.uniform(0, 0.8), busy, rng.choice([0.0, 0.1, 0.6 * busy]))
    times = song.moments(rng, chances, 0.1, on_changes=rng.random() < 0.8)
    low = int(rng.integers(26, 34))
    steps = [(0,), (0, 0, 0, 4), (0, 7), (0, 0, 2, 4, 5, 7), (0, 0, 1, -1, 4)][rng.integers(5)]
    lengths = _lengths(times, song, rng.choice([0.4, 0.8, 0.95, 1.0]), 3.0)
    # Dead notes: the string is damped while it is plucked, which leaves its click.
    lengths[rng.random(len(times)) < rng.choice([0.0, 0.0, 0.2])] = 0.025
    drawn, hard = rng.choice(steps, len(times)), np.clip(rng.normal(rng.uniform(0.5, 0.9), 0.12, len(times)), 0.1, 1)
    return [
        Note(t, n, song.pitch(song.root(t) % 7 + int(step), low), float(v))
        for t, n, step, v in zip(times.tolist(), lengths.tolist(), drawn, hard, strict=True)
    ]


def chords(rng: np.random.Generator, song: Song, strummed: bool = False, held: bool = False) -> list[Note]:
    """Chords, held, struck, or off the beat; strummed ones string by string, up and down."""
    off, density = rng.uniform(0, 0.25), rng.uniform(0.2, 0.95)
    style = 0 if held else int(rng.integers(4))
    chances = [
        (0, 0, 0, 0),  # held
        (density, density, rng.choice([0, density]), off),  # struck with kick and snare
        (0.1, 0.9, 0.1, rng.choice([0.0, 0.9])),  # backbeat, skank
        (density, density, density, rng.choice([0.0, density])),  # all over
    ][style]
    times = song.moments(rng, chances, 0.11, on_changes=style in (0, 1))
    lengths = _lengths(times, song, rng.uniform(0.85, 1.05) if style == 0 else rng.choice([0.3, 0.6, 1.0, 1.2]), 4.0)
    low, spread_s = int(rng.integers(42, 60)), rng.uniform(0.005, 0.025) if strummed else rng.uniform(0, 0.006)
    # Damped strums: a scratch without pitch, much like a hi-hat.
    lengths[rng.random(len(times)) < (rng.choice([0.0, 0.0, 0.3, 0.6]) if strummed else 0.0)] = 0.02
    wide, force = strummed or rng.random() < 0.3, rng.uniform(0.4, 0.9)
    notes = []
    for k, (time_s, length_s) in enumerate(zip(times.tolist(), lengths.tolist(), strict=True)):
        pitches = song.chord(time_s, low)
        if wide:
            pitches = [pitches[0] - 12, *pitches, pitches[0] + 12][: 6 if strummed else 5]
        if strummed and k % 2:
            pitches = pitches[:0:-1]  # up: without the lowest string
        hard = float(np.clip(force + rng.normal(0, 0.15), 0.1, 1))
        notes += [Note(time_s + i * spread_s, length_s, p, hard * (1 - 0.04 * i)) for i, p in enumerate(pitches)]
    return notes


def arpeggio(rng: np.random.Generator, song: Song) -> list[Note]:
    """Broken chords over the pulses."""
    density = rng.uniform(0.6, 1)
    times = song.moments(rng, (density, density, density, rng.choice([0, 0.8])), 0.08, on_changes=True)
    lengths = _lengths(times, song, rng.choice([0.8, 1.5, 3.0]), 2.5)
    low, order = int(rng.integers(48, 64)), rng.permutation(8)
    notes = []
    for k, (time_s, length_s) in enumerate(zip(times.tolist(), lengths.tolist(), strict=True)):
        pitches = song.chord(time_s, low)
        place = int(order[k % 8])
        pitch = pitches[place % len(pitches)] + 12 * (place // len(pitches) % 2)
        notes.append(Note(time_s, length_s, pitch, float(rng.uniform(0.4, 0.9))))
    return notes


def melody(rng: np.random.Generator, song: Song) -> list[Note]:
    """A riff that comes back, or a walk over the scale with rests."""
    density = rng.uniform(0.2, 0.8)
    times = song.moments(rng, (density, density, 0.7 * density, rng.choice([0, density])), 0.09, on_changes=False)
    lengths = _lengths(times, song, rng.uniform(0.6, 1.05), 3.0)
    low = int(rng.integers(52, 70))
    walk = np.cumsum(rng.integers(-2, 3, len(times)))
    if rng.random() < 0.5:
        walk = walk[np.arange(len(times)) % int(rng.integers(3, 9))]
    hard = np.clip(rng.normal(0.7, 0.15, len(times)), 0.1, 1)
    return [
        Note(t, n, song.pitch(int(np.clip(d, -5, 9)), low), float(v))
        for t, n, d, v in zip(times.tolist(), lengths.tolist(), walk, hard, strict=True)
    ]


def stabs(rng: np.random.Generator, song: Song) -> list[Note]:
    """A section's accents: short chords on few of the pulses, all voices at once."""
    density = rng.uniform(0.1, 0.5)
    times = song.moments(rng, (density, density, 0.5 * density, rng.choice([0, density])), 0.12, on_changes=False)
    lengths = _lengths(times, song, rng.uniform(0.4, 1.0), rng.uniform(0.1, 0.6))
    low = int(rng.integers(50, 62))
    return [
        Note(t, n, pitch, float(rng.uniform(0.6, 1)))
        for t, n in zip(times.tolist(), lengths.tolist(), strict=True)
        for pitch in song.chord(t, low)
    ]


def power_chords(rng: np.random.Generator, song: Song) -> list[Note]:
    """Root, fifth and often the octave: long, palm-muted, or both in turn."""
    style, density = int(rng.integers(3)), rng.uniform(0.5, 1)
    chug = rng.choice([0.0, 0.4, 0.9])
    chances = [(0.3, 0.3, 0.0, 0.0), (density, density, density, chug), (density, 0.8, density, chug)][style]
    times = song.moments(rng, chances, 0.09, on_changes=True)
    lengths = _lengths(times, song, rng.uniform(0.85, 1.0), 4.0)
    low, muted_s = int(rng.integers(36, 42)), rng.uniform(0.05, 0.12)
    intervals = (0, 7, 12) if rng.random() < 0.7 else (0, 7)
    near = np.array([0.0 if style == 0 else np.abs(song.changes_s - t).min() for t in times])
    notes = []
    for time_s, length_s, distance in zip(times.tolist(), lengths.tolist(), near, strict=True):
        accent = style == 0 or distance < 0.03 or rng.random() < (0.9 if style == 1 else 0.2)
        moved = 0 if accent or rng.random() < 0.75 else int(rng.integers(-1, 3))
        root = song.pitch((song.root(time_s) + moved) % 7, low)
        length_s = length_s if accent else min(length_s, muted_s)
        hard = float(rng.uniform(0.75, 1) if accent else rng.uniform(0.45, 0.8))
        played = intervals if accent else intervals[:2]
        notes += [Note(time_s + 0.004 * i, length_s, root + step, hard) for i, step in enumerate(played)]
    return notes
