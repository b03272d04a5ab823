"""What is done to a band's parts: nothing sounds before it is played, nothing breaks, and each unit does its own."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostnote.models.data.effects import compression
from ghostnote.models.data.music import outboard

RATE = 44100


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tone(hz: float = 220.0, seconds: float = 2.0) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, RATE), st.floats(0, 1))
def test_nothing_sounds_before_it_is_played(seed, samples, where):
    """Whatever is drawn, at any length, silence stays silence until the first sample that sounds."""
    first = int(where * (samples - 1))
    bus = np.zeros(samples, dtype=np.float32)
    bus[first:] = 0.5 * rng(seed).standard_normal(samples - first)
    for unit in (outboard.strip, outboard.amplified, outboard.tilted, in_place(outboard.echoed)):
        out = unit(rng(seed), bus.copy())
        assert (out.dtype, out.shape) == (np.float32, bus.shape)
        assert np.isfinite(out).all()
        assert not out[:first].any()


def in_place(unit):
    def applied(draws, bus):
        unit(draws, bus)
        return bus

    return applied


@pytest.mark.parametrize("unit", [outboard.strip, outboard.amplified, outboard.in_a_hall, in_place(outboard.in_a_room)])
def test_silence_stays_silent(unit):
    for seed in range(20):
        assert not unit(rng(seed), np.zeros(RATE, dtype=np.float32)).any()


def test_strips_differ_from_part_to_part():
    """The same piano through many strips: no two alike, and most louder or softer by some dB in some octave."""
    noise = rng().standard_normal(RATE).astype(np.float32)
    spectra = np.array([octaves(outboard.strip(rng(seed), noise)) for seed in range(60)])
    spectra -= spectra.mean(axis=1, keepdims=True)
    assert np.median(np.ptp(spectra - octaves(noise) + octaves(noise).mean(), axis=1)) > 3


def octaves(wave: np.ndarray) -> np.ndarray:
    """Level in dB of the octaves from 100 Hz to 12.8 kHz."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    edges = (100 * 2 ** np.arange(8) * len(wave) / RATE).astype(int)
    return 10 * np.log10([power[a:b].mean() for a, b in itertools.pairwise(edges)])


def test_a_compressor_takes_loud_moments_down_without_steps():
    loud = tone() * np.where(np.arange(2 * RATE) < RATE, 0.05, 1).astype(np.float32)
    for seed in range(10):
        gain = compression(torch.from_numpy(loud), rng(seed), outboard.COMPRESSOR).numpy()
        assert gain.max() <= 1
        assert gain[: RATE // 2].min() > 1.3 * gain[3 * RATE // 2 :].max()
        assert np.abs(np.diff(gain)).max() < 0.01  # no step that would be an attack of its own


def test_a_hall_rings_on_after_the_sound_and_leaves_it_alone_before():
    burst = np.zeros(4 * RATE, dtype=np.float32)
    burst[RATE : RATE + 400] = rng().standard_normal(400)
    for seed in range(10):
        out = outboard.in_a_hall(rng(seed), burst)
        # The tail begins 5 ms later or more, but for what Fourier transforms round.
        np.testing.assert_allclose(out[: RATE + 200], burst[: RATE + 200], atol=1e-5)
        early, late = (np.square(out[a : a + RATE // 4]).sum() for a in (RATE + RATE // 8, 3 * RATE))
        assert 0 < late < 0.5 * early
