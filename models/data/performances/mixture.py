"""What the drummers of a clip play: grooves as recorded, re-humanised, and stress patterns, in the recipe's shares.

The grooves lack seven classes and hold little of others: many have a part swapped to a rare class, or one added, and
some get crashes, or strokes on snare and floor tom at once. Durations in seconds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ....runtime.vocabulary import index_of
from ..recipe import Draws, RenderRecipe, within
from .grooves import GrooveSet
from .patterns import stress_pattern
from .performance import TIMEKEEPERS, TOGETHER_S, Performance, merged

__all__ = ["sample_drummers"]

_SWAPS: dict[str, tuple[str, ...]] = {
    "CHH": ("RD", "RD", "TB", "TB", "TB", "CRC", "CRC", "PHH", "SPC", "CHC", "OHH", "CB", "CL", "LT"),
    "SD": ("SS", "SS", "SS", "CLP"),
    "RD": ("RB", "CHC", "CRC", "CHH", "TB"),
    "CRC": ("SPC", "CHC"),
    "OHH": ("CRC", "RB"),
}
_TOMS = ("HT", "MT", "LT")
_REGULAR = 0.2  # share of the usual distance by which a stroke may come early or late
_LOCAL_S = 2.0  # what is usual is told from what lies this near


def sample_drummers(
    draws: Draws, duration_s: float, grooves: GrooveSet | None, recipe: RenderRecipe
) -> list[Performance]:
    """The performances of one clip: one drummer, or two where clips are mixed; in some clips they rest for a while."""
    two = draws["sample_mixing"].random() < recipe.setting("sample_mixing", "chance", 0.0)
    drummers = [_sample_performance(draws, duration_s, grooves, recipe) for _ in range(1 + two)]
    rng = draws["rests"]
    if rng.random() >= recipe.setting("rests", "chance", 0.0):
        return drummers
    length_s = within(rng, recipe["rests"]["length_s"])
    start_s = rng.uniform(-length_s, duration_s)
    return [drummer.resting(start_s, start_s + length_s) for drummer in drummers]


def _sample_performance(
    draws: Draws, duration_s: float, grooves: GrooveSet | None, recipe: RenderRecipe
) -> Performance:
    """One drummer; without grooves every clip is a stress pattern."""
    stress, again = draws["stress"], draws["rehumanised"]
    if grooves is None or stress.random() < recipe.setting("stress", "share", 0.0):
        return stress_pattern(stress, duration_s)
    rng, settings = draws["grooves"], recipe["grooves"]
    clip = grooves.sample(rng, duration_s)
    if draws["steady"].random() < recipe.setting("steady", "share", 0.0):
        clip = _steady(draws["steady"], clip)
    if rng.random() < settings["swapped"]:
        vary = rng.choice(len(_VARIATIONS), p=list(_VARIATIONS.values()))
        clip = list(_VARIATIONS)[vary](rng, clip)
    if rng.random() < settings["accented"]:
        clip = _with_accents(rng, clip)
    return clip.rehumanised(again) if again.random() < recipe.setting("rehumanised", "share", 0.0) else clip


def _swapped(rng: np.random.Generator, clip: Performance) -> Performance:
    """One or two of the clip's parts given to other classes."""
    present = [code for code in _SWAPS if np.any(clip.classes == index_of(code))]
    if not present:
        return clip
    chosen = rng.choice(present, min(len(present), int(rng.integers(1, 3))), replace=False)
    return clip.with_classes_swapped({str(code): str(rng.choice(_SWAPS[code])) for code in chosen})


def _with_toms(rng: np.random.Generator, clip: Performance) -> Performance:
    """Stretches of the snare (or the hats) moved to the toms, from high to low as fills go."""
    classes, source = clip.classes.copy(), index_of(str(rng.choice(["SD", "SD", "CHH", "RD"])))
    for start_s in np.arange(rng.uniform(0, 2), clip.duration_s, rng.uniform(1, 4)):
        length_s = rng.uniform(0.3, 1.5)
        inside = (clip.times_s >= start_s) & (clip.times_s < start_s + length_s) & (classes == source)
        order = (clip.times_s[inside] - start_s) / length_s * len(_TOMS)
        classes[inside] = np.array([index_of(code) for code in _TOMS])[order.astype(np.int64)]
    return Performance.from_hits(clip.times_s, classes, clip.velocities, clip.duration_s)


def _in_unison(rng: np.random.Generator, clip: Performance) -> Performance:
    """A stretch in which both hands strike together, snare and floor tom, mostly with a kick, as builds to a chorus go.

    In the grooves one tom of twenty has a snare beside it: a model would learn that a snare means that there is none.
    """
    start_s = rng.uniform(-4, clip.duration_s - 1)
    led = (clip.classes == index_of(str(rng.choice(["SD", "CHH"])))) & (clip.velocities >= 0.3)
    led &= (clip.times_s >= start_s) & (clip.times_s < start_s + rng.uniform(3, 8))
    strokes = clip.times_s[led], clip.velocities[led]
    tom = str(rng.choice(["LT", "LT", "LT", "MT"]))
    kicks = ["BD"] if rng.random() < 0.6 else []
    if not led.any():
        return clip
    clip = _hand_lifted(clip, strokes[0])
    for code in ("SD", tom, *kicks):
        clip = _doubled(rng, clip, strokes, code)
    return clip


def _doubled(
    rng: np.random.Generator, clip: Performance, strokes: tuple[np.ndarray, np.ndarray], code: str
) -> Performance:
    """The clip with a class struck at the strokes' times, about as hard, unless it is there already."""
    times, levels = strokes
    missing = ~_near(times, clip.times_s[clip.classes == index_of(code)])
    played = np.maximum(0, times[missing] + rng.normal(0, 0.004, int(missing.sum())))
    hard = np.clip(levels[missing] + rng.normal(0, 0.1, len(played)), 0.15, 1)
    added = Performance.from_hits(played, np.full(len(played), index_of(code)), hard, clip.duration_s)
    return merged(clip, added)


def _hand_lifted(clip: Performance, times_s: np.ndarray) -> Performance:
    """Without the hi-hats and rides at these times, at which the hand that keeps time strikes something else."""
    timekeeping = np.isin(clip.classes, [index_of(code) for code in sorted(TIMEKEEPERS)])
    kept = ~(timekeeping & _near(clip.times_s, times_s))
    return replace(clip, times_s=clip.times_s[kept], classes=clip.classes[kept], velocities=clip.velocities[kept])


def _near(times_s: np.ndarray, others_s: np.ndarray) -> np.ndarray:
    """Which of the times have one of the others within 30 ms: a mask."""
    return (np.abs(times_s[:, None] - others_s[None, :]) < TOGETHER_S).any(axis=1)


def _with_accents(rng: np.random.Generator, clip: Performance) -> Performance:
    """Crashes (or splashes, chinas) on some of the kicks, where the hand leaves the hi-hat."""
    kicks = clip.times_s[(clip.classes == index_of("BD")) & (rng.random(len(clip)) < rng.uniform(0.05, 0.3))]
    if not len(kicks):
        return clip
    crash = index_of(str(rng.choice(["CRC", "CRC", "CRC", "CRC", "SPC", "CHC"])))
    crashes = Performance.from_hits(
        kicks + rng.normal(0, 0.006, len(kicks)),
        np.full(len(kicks), crash),
        rng.uniform(0.55, 1, len(kicks)),
        clip.duration_s,
    )
    return merged(_hand_lifted(clip, kicks), crashes)


def _steady(rng: np.random.Generator, clip: Performance) -> Performance:
    """The hi-hat (or ride) goes on where it was left out for a kick or snare.

    Of the grooves' snares on a steady hi-hat's beat, three in ten come without it. On records hardly any do, and in a
    mix nothing else tells that a hi-hat was struck under a snare.
    """
    drums = clip.times_s[np.isin(clip.classes, [index_of("BD"), index_of("SD")])]
    added = [clip]
    for codes in (("CHH", "OHH"), ("RD",)):
        part = np.isin(clip.classes, [index_of(code) for code in codes])
        moments = _left_out(clip.times_s[part], drums)
        level = np.interp(moments, clip.times_s[part], clip.velocities[part]) if len(moments) else moments
        levels = np.clip(level + rng.normal(0, 0.08, len(moments)), 0.1, 1)
        times = moments + rng.normal(0, 0.005, len(moments))
        added.append(Performance.from_hits(times, np.full(len(times), index_of(codes[0])), levels, clip.duration_s))
    return merged(*added)


def _left_out(part_s: np.ndarray, drums_s: np.ndarray) -> np.ndarray:
    """Those times of other drums [K] at which a part, regular before and after, misses one stroke."""
    if len(part_s) < 5:
        return part_s[:0]
    after = np.clip(np.searchsorted(part_s, drums_s), 1, len(part_s) - 1)
    before_s, after_s = drums_s - part_s[after - 1], part_s[after] - drums_s
    missed = []
    for k in np.flatnonzero((before_s > TOGETHER_S) & (after_s > TOGETHER_S)):
        distances = np.diff(part_s[np.abs(part_s - drums_s[k]) < _LOCAL_S])
        usual = np.median(distances[distances > 2 * TOGETHER_S]) if len(distances) > 3 else 0.0
        if max(abs(before_s[k] - usual), abs(after_s[k] - usual)) < _REGULAR * usual:
            missed.append(drums_s[k])
    kept = np.diff(missed, prepend=-1.0) > TOGETHER_S  # a kick and a snare together are one moment
    return np.array(missed)[kept] if missed else part_s[:0]


def _with_layer(rng: np.random.Generator, clip: Performance) -> Performance:
    """A tambourine, cowbell, claves, clap or other small instrument along with one of the parts."""
    followed = index_of(str(rng.choice(["CHH", "SD", "RD", "BD", "OHH"])))
    added = index_of(str(rng.choice(["TB", "TB", "CB", "CL", "CLP", "PHH", "SS"])))
    chosen = (clip.classes == followed) & (rng.random(len(clip)) < rng.choice([0.5, 1.0]))
    times = clip.times_s[chosen] + rng.normal(0, 0.005, int(chosen.sum()))
    levels = np.clip(clip.velocities[chosen] + rng.normal(0, 0.1, len(times)), 0.1, 1)
    layer = Performance.from_hits(times, np.full(len(times), added), levels, clip.duration_s)
    return merged(clip, layer)


_VARIATIONS = {_swapped: 0.45, _with_toms: 0.2, _with_layer: 0.25, _in_unison: 0.1}  # shares of the varied grooves
