"""Laws of performances and stress patterns: what comes out is sorted, in bounds, playable, the same for a seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostnote.models.data.performances.patterns import stress_pattern
from ghostnote.models.data.performances.performance import MIN_SAME_CLASS_GAP_S, Performance, merged
from ghostnote.runtime.vocabulary import CLASSES, CODES, index_of


def assert_playable(clip: Performance, min_gap_s: float = MIN_SAME_CLASS_GAP_S) -> None:
    assert clip.times_s.dtype == np.float64
    assert clip.classes.dtype == np.int64
    assert clip.velocities.dtype == np.float32
    assert len(clip.times_s) == len(clip.classes) == len(clip.velocities) == len(clip)
    assert np.all(np.diff(clip.times_s) >= 0)
    assert np.all((clip.times_s >= 0) & (clip.times_s < clip.duration_s))
    assert np.all((clip.classes >= 0) & (clip.classes < len(CLASSES)))
    assert np.all((clip.velocities >= 0) & (clip.velocities <= 1))
    for index in np.unique(clip.classes):
        gaps = np.diff(clip.times_s[clip.classes == index])
        assert np.all(gaps >= min_gap_s - 1e-9)


def assert_same(first: Performance, second: Performance) -> None:
    np.testing.assert_array_equal(first.times_s, second.times_s)
    np.testing.assert_array_equal(first.classes, second.classes)
    np.testing.assert_array_equal(first.velocities, second.velocities)
    assert first.duration_s == second.duration_s


@st.composite
def performances(draw: st.DrawFn) -> Performance:
    hit = st.tuples(st.floats(-1, 11), st.integers(0, len(CLASSES) - 1), st.floats(-0.5, 1.5))
    hits = draw(st.lists(hit, max_size=60))
    times, classes, velocities = zip(*hits, strict=True) if hits else ((), (), ())
    return Performance.from_hits(times, classes, velocities, draw(st.floats(0.1, 10)))


@given(performances(), performances(), st.floats(0, 8), st.floats(0.05, 5), st.floats(0.5, 2), st.integers(0, 2**32))
@settings(max_examples=60)
def test_every_operation_gives_a_playable_performance(one, other, start_s, length_s, factor, seed):
    assert_playable(one)
    assert_playable(one.slice(start_s, length_s))
    assert_playable(one.stretched(factor))
    assert_playable(one.with_classes_swapped({"CHH": "RD", "SD": "SS", "BD": "SS"}))
    assert_playable(one.rehumanised(np.random.default_rng(seed)))
    assert_playable(merged(one, other))


def test_slice_counts_time_from_its_start():
    clip = Performance.from_hits([0.5, 1.0, 1.5, 2.0], [0, 1, 2, 3], [0.1, 0.2, 0.3, 0.4], 3.0).slice(1.0, 1.0)
    np.testing.assert_allclose(clip.times_s, [0.0, 0.5])
    np.testing.assert_array_equal(clip.classes, [1, 2])
    assert clip.duration_s == 1.0


def test_stretched_scales_times_and_duration():
    clip = Performance.from_hits([0.5, 1.0], [0, 1], [0.5, 0.5], 2.0).stretched(1.5)
    np.testing.assert_allclose(clip.times_s, [0.75, 1.5])
    assert clip.duration_s == 3.0
    with pytest.raises(ValueError, match="positive"):
        clip.stretched(0)


def test_swapping_a_part_onto_another_leaves_no_doubles():
    hats_and_ride = Performance.from_hits(
        [0.5, 0.505, 1.0], [index_of("CHH"), index_of("RD"), index_of("CHH")], [1] * 3, 2
    )
    swapped = hats_and_ride.with_classes_swapped({"CHH": "RD"})
    np.testing.assert_allclose(swapped.times_s, [0.5, 1.0])
    assert set(swapped.classes) == {index_of("RD")}


def test_rehumanised_moves_hits_by_milliseconds_and_redraws_velocities():
    grid = Performance.from_hits(np.arange(1, 400) * 0.25, np.arange(399) % 2, np.full(399, 0.5), 101.0)
    played = grid.rehumanised(np.random.default_rng(3))
    moved = played.times_s - grid.times_s
    assert 0.003 < moved.std() < 0.010
    assert np.abs(moved).max() < 0.05
    assert len(np.unique(played.velocities)) > 300
    assert_same(played, grid.rehumanised(np.random.default_rng(3)))


@pytest.mark.parametrize("seed", range(40))
def test_stress_pattern_is_playable_and_seeded(seed):
    clip = stress_pattern(np.random.default_rng(seed), 6.0)
    assert clip.duration_s == 6.0
    assert_playable(clip)
    assert_same(clip, stress_pattern(np.random.default_rng(seed), 6.0))


@pytest.fixture(scope="module")
def many_patterns() -> list[Performance]:
    return [stress_pattern(np.random.default_rng(1000 + seed), 8.0) for seed in range(400)]


def test_stress_patterns_hold_every_class_and_every_pair(many_patterns):
    pairs = np.zeros((len(CODES), len(CODES)), dtype=int)
    for clip in many_patterns:
        together = np.abs(clip.times_s[:, None] - clip.times_s) <= MIN_SAME_CLASS_GAP_S
        first, second = np.nonzero(together)
        np.add.at(pairs, (clip.classes[first], clip.classes[second]), 1)
    counts = np.diag(pairs)
    assert counts.min() > 0.01 * counts.sum(), dict(zip(CODES, counts, strict=True))
    assert pairs.min() > 0, "some two classes are never struck together"


def test_stress_patterns_hold_flams_ghost_notes_and_all_densities(many_patterns):
    rates = np.array([len(clip) / clip.duration_s for clip in many_patterns])
    assert rates.min() < 1.5
    assert rates.max() > 14
    velocities = np.concatenate([clip.velocities for clip in many_patterns])
    assert np.mean(velocities < 40 / 127) > 0.1
    assert velocities.min() >= 5 / 127 - 1e-6
    gaps = np.concatenate([np.diff(c.times_s[c.classes == k]) for c in many_patterns for k in range(len(CODES))])
    assert np.mean((gaps > 0.015) & (gaps < 0.06)) > 0.01
