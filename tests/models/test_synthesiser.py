"""Laws of the synthesised kits: attack where the recorded kits have it, sane levels, velocity that changes sound."""

from itertools import pairwise

import numpy as np
import pytest

from ghostnote.models.data.drums.synthesiser import synthesise_kit
from ghostnote.models.data.music.accompaniment import synthesise_backing
from ghostnote.models.data.packed import ATTACK_SAMPLE
from ghostnote.runtime.vocabulary import CODES

RATE = 44100
SEEDS = range(12)


@pytest.fixture(scope="module")
def kits():
    return [synthesise_kit(np.random.default_rng(seed)) for seed in SEEDS]


def centroid_hz(wave: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(wave, 2**17)) ** 2
    return float((power * np.fft.rfftfreq(2**17, 1 / RATE)).sum() / power.sum())


def decay_s(wave: np.ndarray) -> float:
    """Time until 1 % of the energy is left."""
    left = np.cumsum(wave[::-1].astype(np.float64) ** 2)[::-1]
    return float(np.argmax(left < 0.01 * left[0])) / RATE


def test_all_classes_with_two_or_three_layers(kits):
    for kit in kits:
        assert set(kit) == set(CODES)
        for layers in kit.values():
            ranks = [rank for rank, _ in layers]
            assert ranks in ([1.0, 0.0], [1.0, 0.5, 0.0])


def test_waveforms_are_finite_mono_float32_within_full_scale(kits):
    for kit in kits:
        peaks = [np.abs(wave).max() for layers in kit.values() for _, wave in layers]
        assert max(peaks) == pytest.approx(1.0, abs=1e-4)
        for layers in kit.values():
            for _, wave in layers:
                assert wave.dtype == np.float32
                assert wave.ndim == 1
                assert np.isfinite(wave).all()
                assert ATTACK_SAMPLE + 200 < len(wave) < ATTACK_SAMPLE + 3.5 * RATE


def test_the_attack_is_at_sample_220(kits):
    for kit in kits:
        for code, layers in kit.items():
            for _, wave in layers:
                peak = np.abs(wave).max()
                assert np.abs(wave[:ATTACK_SAMPLE]).max() < 0.01 * peak, code
                assert np.abs(wave[ATTACK_SAMPLE]) > 0.03 * peak, code


def test_the_same_seed_gives_the_same_kit_and_another_seed_another():
    first, again, other = (synthesise_kit(np.random.default_rng(seed)) for seed in (7, 7, 8))
    for code in CODES:
        for (_, wave), (_, same) in zip(first[code], again[code], strict=True):
            np.testing.assert_array_equal(wave, same)
        assert not np.array_equal(first[code][0][1][:1000], other[code][0][1][:1000])


def test_a_harder_stroke_is_louder(kits):
    for kit in kits:
        for code, layers in kit.items():
            peaks = [np.abs(wave).max() for _, wave in layers]
            assert peaks == sorted(peaks, reverse=True), code


@pytest.mark.parametrize("code", ["BD", "SD", "LT", "CHH", "OHH", "CRC"])
def test_a_harder_stroke_is_brighter_and_has_more_energy(kits, code):
    for kit in kits:
        waves = [wave for _, wave in kit[code]]
        for harder, softer in pairwise(waves):
            assert np.sum(harder**2) > np.sum(softer**2)
            assert centroid_hz(harder) > centroid_hz(softer)


def test_classes_are_ordered_as_in_real_kits(kits):
    for kit in kits:
        loud = {code: layers[0][1] for code, layers in kit.items()}
        assert decay_s(loud["CHH"]) < decay_s(loud["OHH"])
        assert decay_s(loud["CL"]) < decay_s(loud["CRC"])
        assert centroid_hz(loud["BD"]) < centroid_hz(loud["SD"]) < centroid_hz(loud["TB"])
        assert centroid_hz(loud["LT"]) < centroid_hz(loud["CHH"])
    median = {code: np.median([decay_s(kit[code][0][1]) for kit in kits]) for code in CODES}
    assert median["SPC"] < median["CRC"]
    pitches = [[centroid_hz(kit[code][0][1]) for kit in kits] for code in ("LT", "MT", "HT")]
    assert np.median(pitches[0]) < np.median(pitches[1]) < np.median(pitches[2])


def test_another_sample_rate_moves_nothing_in_hertz():
    kit = synthesise_kit(np.random.default_rng(1), sample_rate=48000)
    assert np.abs(kit["BD"][0][1][:ATTACK_SAMPLE]).max() == 0
    assert all(np.isfinite(wave).all() for layers in kit.values() for _, wave in layers)


@pytest.mark.parametrize("n_samples", [0, 1, 1000, 3 * RATE])
def test_backing_has_the_length_asked_for(n_samples):
    for seed in range(4):
        wave = synthesise_backing(np.random.default_rng(seed), n_samples, RATE)
        assert wave.shape == (n_samples,)
        assert wave.dtype == np.float32
        assert np.isfinite(wave).all()
        assert np.abs(wave).max(initial=0) <= 1
        np.testing.assert_array_equal(wave, synthesise_backing(np.random.default_rng(seed), n_samples, RATE))


def test_backing_is_tonal():
    """Most of its energy lies in a few narrow lines, unlike drums or noise."""
    for seed in range(6):
        power = np.sort(np.abs(np.fft.rfft(synthesise_backing(np.random.default_rng(seed), 2 * RATE, RATE))) ** 2)[::-1]
        if power.sum() > 0:
            assert power[: len(power) // 20].sum() > 0.7 * power.sum()
