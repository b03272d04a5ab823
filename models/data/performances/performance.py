"""What is played: drum hits with times, classes and velocities, and the ways to vary them.

Conventions: N hits, times in seconds from the start of the clip, classes are indices into
`ghostnote.runtime.vocabulary.CLASSES`, velocities 0..1 (x 127 in MIDI). Performances are immutable: every method
returns a new one, sorted by time, with all hits in [0, duration_s).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ....runtime.vocabulary import CODES, index_of

__all__ = ["LIMB_OF", "MIN_SAME_CLASS_GAP_S", "TIMEKEEPERS", "TOGETHER_S", "Performance", "merged"]

# Two strokes on one drum nearer than this cannot be played, and no model can tell them apart.
MIN_SAME_CLASS_GAP_S = 0.015
TOGETHER_S = 0.03  # two hits this near to each other are one moment to whoever plays or listens
TIMEKEEPERS = frozenset({"CHH", "OHH", "RD"})  # what the hand plays that keeps time

_LIMBS = {"right foot": ("BD",), "left foot": ("PHH",), "left hand": ("SD", "SS", "CLP", "LT", "MT", "HT", "CL")}
# Index of the limb that usually plays a class; whatever is not named above belongs to the timekeeping right hand.
LIMB_OF = np.array([next((i for i, codes in enumerate(_LIMBS.values()) if c in codes), len(_LIMBS)) for c in CODES])


@dataclass(frozen=True, eq=False)
class Performance:
    """Drum hits of one clip."""

    times_s: np.ndarray  # float64 [N], sorted
    classes: np.ndarray  # int64 [N]
    velocities: np.ndarray  # float32 [N], 0..1
    duration_s: float

    @classmethod
    def from_hits(
        cls,
        times_s: Sequence[float] | np.ndarray,
        classes: Sequence[int] | np.ndarray,
        velocities: Sequence[float] | np.ndarray,
        duration_s: float,
        min_gap_s: float = MIN_SAME_CLASS_GAP_S,
    ) -> Performance:
        """Build from hits [N] in any order.

        Sorts them, drops what lies outside the clip, thins doubles of a class, clips velocities.
        """
        times = np.asarray(times_s, dtype=np.float64)
        indices = np.asarray(classes, dtype=np.int64)
        strengths = np.clip(np.asarray(velocities, dtype=np.float32), 0.0, 1.0)
        order = np.argsort(times, kind="stable")
        order = order[(times[order] >= 0) & (times[order] < duration_s)]
        order = order[_far_enough(times[order], indices[order], min_gap_s)]
        return cls(times[order], indices[order], strengths[order], float(duration_s))

    def __len__(self) -> int:
        return len(self.times_s)

    def slice(self, start_s: float, length_s: float) -> Performance:
        """The hits in [start, start + length), with times counted from `start_s`."""
        first, last = np.searchsorted(self.times_s, [start_s, start_s + length_s])
        times = self.times_s[first:last] - start_s
        return self.from_hits(times, self.classes[first:last], self.velocities[first:last], length_s, min_gap_s=0.0)

    def resting(self, start_s: float, end_s: float) -> Performance:
        """Without the hits in [start, end)."""
        kept = (self.times_s < start_s) | (self.times_s >= end_s)
        return replace(self, times_s=self.times_s[kept], classes=self.classes[kept], velocities=self.velocities[kept])

    def stretched(self, factor: float) -> Performance:
        """All times and the duration multiplied by `factor` (above 1 is slower)."""
        if factor <= 0:
            raise ValueError(f"stretch factor must be positive, got {factor}")
        return self.from_hits(self.times_s * factor, self.classes, self.velocities, self.duration_s * factor)

    def thinned(self, min_gap_s: float, min_velocity: float = 0.0) -> Performance:
        """Without hits softer than `min_velocity` and without repeats of a class within `min_gap_s`."""
        loud = self.velocities >= min_velocity
        return self.from_hits(
            self.times_s[loud], self.classes[loud], self.velocities[loud], self.duration_s, min_gap_s=min_gap_s
        )

    def with_classes_swapped(self, swaps: Mapping[str, str]) -> Performance:
        """Every part named by a key plays the class of its value instead, e.g. `{"CHH": "RD", "SD": "SS"}`."""
        table = np.arange(len(CODES))
        for old, new in swaps.items():
            table[index_of(old)] = index_of(new)
        return self.from_hits(self.times_s, table[self.classes], self.velocities, self.duration_s)

    def rehumanised(self, rng: np.random.Generator) -> Performance:
        """Played by someone else: timing noise per limb (sigma 4-8 ms) and a push of its own, new velocities."""
        n_limbs = int(LIMB_OF.max()) + 1
        limbs = LIMB_OF[self.classes]
        jitter_s = rng.uniform(0.004, 0.008, n_limbs)[limbs] * rng.standard_normal(len(self))
        push_s = rng.normal(0.0, 0.003, n_limbs)[limbs]  # a limb that is always a bit early or late
        times = np.clip(self.times_s + jitter_s + push_s, 0.0, None)
        return self.from_hits(times, self.classes, self._redrawn_velocities(rng), self.duration_s)

    def _redrawn_velocities(self, rng: np.random.Generator) -> np.ndarray:
        """New velocities [N]: per class a new level and spread, keeping some of the old accents."""
        level = rng.uniform(0.35, 0.9, len(CODES))[self.classes]
        spread = rng.uniform(0.03, 0.2, len(CODES))[self.classes]
        kept = rng.uniform(0.2, 1.0)
        accents = self.velocities - (self.velocities.mean() if len(self) else 0.0)
        return np.clip(level + kept * accents + spread * rng.standard_normal(len(self)), 0.04, 1.0)


def merged(*performances: Performance) -> Performance:
    """All hits of several performances together, as long as the longest."""
    return Performance.from_hits(
        np.concatenate([p.times_s for p in performances]),
        np.concatenate([p.classes for p in performances]),
        np.concatenate([p.velocities for p in performances]),
        max(p.duration_s for p in performances),
    )


def _far_enough(times_s: np.ndarray, classes: np.ndarray, min_gap_s: float) -> np.ndarray:
    """Mask [N] of hits at least `min_gap_s` after the last kept hit of their class; times sorted."""
    keep = np.ones(len(times_s), dtype=bool)
    if min_gap_s <= 0:
        return keep
    last = [-np.inf] * len(CODES)
    for i, (time, index) in enumerate(zip(times_s.tolist(), classes.tolist(), strict=True)):
        if time - last[index] < min_gap_s:
            keep[i] = False
        else:
            last[index] = time
    return keep
