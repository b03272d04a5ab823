"""Peak picking: the rule, its edges, and independence of how the stream is cut."""

from __future__ import annotations

from dataclasses import replace

import click_model
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostnote.runtime import Hit, Manifest, StreamingDecoder, decode
from ghostnote.runtime.decoder import close_calls
from ghostnote.runtime.vocabulary import PARENTS, index_of

MANIFEST = click_model.make_manifest()
DELAY = 0  # 10 ms: one frame
C = MANIFEST.n_classes


def hits_of(probabilities: list[float], *, offset: float = 0.0, manifest: Manifest = MANIFEST) -> list[Hit]:
    """Decode one class (SD) with the given probability per frame; all frames but the last are decided."""
    p = np.full((len(probabilities), C), 1e-6)
    p[:, 1] = probabilities
    logits = (np.log(p) - np.log1p(-p)).astype(np.float32)
    return decode(logits, np.full_like(logits, 0.7), np.full_like(logits, offset), manifest, DELAY)


def frames(hits: list[Hit]) -> list[int]:
    """Picked frames, for offset 0 and the delay of one frame."""
    return [round(hit.time_s * 100 + 0.5) for hit in hits]


def test_a_hit_and_its_values() -> None:
    (hit,) = hits_of([0.1, 0.1, 0.9, 0.2, 0.1], offset=0.25)
    assert hit.code == "SD"
    assert hit.time_s == pytest.approx((2 + 0.5 + 0.25) * 0.01 - 0.01, abs=1e-12)
    assert hit.velocity == pytest.approx(0.7)
    assert hit.confidence == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.1, 0.6, 0.7, 0.8, 0.6, 0.1], [3]),  # the maximum only
        ([0.1, 0.8, 0.8, 0.8, 0.1], [1]),  # a plateau: its first frame
        ([0.1, 0.5, 0.1], [1]),  # the threshold itself counts
        ([0.1, 0.49, 0.1], []),
        ([0.1, 0.1, 0.9], []),  # the last frame waits for its successor
        ([0.1, 0.9, 0.1, 0.9, 0.1], [1]),  # inside the refractory time of 3 frames
        ([0.1, 0.9, 0.1, 0.1, 0.9, 0.1], [1, 4]),  # exactly 3 frames apart
        ([0.1, 0.9, 0.1, 0.95, 0.1, 0.9, 0.1], [1, 5]),  # what was suppressed suppresses nothing
        ([0.9, 0.1, 0.1], [0]),  # frame 0 ends at time 0: an attack at the very start may lie there
    ],
)
def test_the_rule(probabilities: list[float], expected: list[int]) -> None:
    assert frames(hits_of(probabilities)) == expected


def test_the_last_frame_before_time_zero_counts_and_no_earlier_one() -> None:
    first = MANIFEST.delays_ms[1] // 10  # the frame that starts at time 0
    logits = np.full((first + 3, C), -9, np.float32)
    logits[first - 1, 0] = logits[: first - 1, 1] = 9
    hits = decode(logits, np.zeros_like(logits), np.full_like(logits, 0.4), MANIFEST, 1)
    assert [(hit.code, hit.time_s) for hit in hits] == [(MANIFEST.codes[0], 0.0)]  # -1 ms is the start
    assert decode(logits, np.zeros_like(logits), np.full_like(logits, 0.7), MANIFEST, 1)[0].time_s == pytest.approx(
        0.002
    )


def test_first_frame_of_a_stream_without_delay() -> None:
    manifest = replace(MANIFEST, delays_ms=(0, *MANIFEST.delays_ms[1:]))
    (hit,) = hits_of([0.9, 0.1], manifest=manifest)
    assert hit.time_s == pytest.approx(0.005)


@pytest.mark.parametrize("index", range(6))
def test_an_attack_at_time_zero_is_not_rounded_below_it(index: int) -> None:
    first = MANIFEST.delays_ms[index] // 10
    logits = np.full((first + 2, C), -9, np.float32)
    logits[first] = 9
    offset = np.full_like(logits, -0.5)
    hits = decode(logits, offset, offset, MANIFEST, index)
    assert [hit.time_s for hit in hits] == [0.0] * C


def test_values_outside_the_contract_are_held_to_it() -> None:
    (hit,) = hits_of([0.1, 0.1, 0.9, 0.1], offset=-3.0)
    assert hit.time_s == pytest.approx(0.01)  # not before the picked frame: reports stay within the total latency
    low = decode(
        np.array([[9.0] * C, [9.5] * C, [0.0] * C], np.float32), *[np.full((3, C), -2, np.float32)] * 2, MANIFEST, 0
    )
    assert {hit.velocity for hit in low} == {0.0}


def test_saturated_probabilities_still_have_an_order() -> None:
    logits = np.full((6, C), -9, np.float32)
    logits[2:5, 0] = 30, 50, 40  # all 1.0 as float32 probabilities
    (hit,) = decode(logits, logits * 0, logits * 0, MANIFEST, DELAY)
    assert frames([hit]) == [3]
    assert hit.confidence == 1.0


def test_extreme_thresholds() -> None:
    logits = np.array([[-50.0] * C, [60.0] * C, [-50.0] * C], np.float32)
    for threshold, count in ((0.0, C), (1.0, 0)):
        decoder = replace(MANIFEST.decoder, thresholds=((threshold,) * C,) * 6)
        assert len(decode(logits, logits, logits * 0, replace(MANIFEST, decoder=decoder), DELAY)) == count


def test_hits_at_or_after_the_end_are_dropped() -> None:
    logits = np.full((40, C), -9, np.float32)
    logits[10, 0] = logits[20, 0] = 9
    zeros = np.zeros_like(logits)
    for end, count in ((0.195, 1), (0.1951, 2), (0.05, 0)):
        assert len(decode(logits, zeros, zeros, MANIFEST, DELAY, duration_s=end)) == count


def with_parents(threshold: float = 0.5) -> Manifest:
    """The manifest with the shipped parents (which tom, which hi-hat, which cymbal)."""
    rows = ((threshold,) * len(PARENTS),) * len(MANIFEST.delays_ms)
    return replace(MANIFEST, decoder=replace(MANIFEST.decoder, parents=PARENTS, thresholds=rows))


def cymbals(ride: list[float], crash: list[float], threshold: float = 0.5) -> list[Hit]:
    p = np.full((len(ride), C), 1e-6)
    p[:, index_of("RD")], p[:, index_of("CRC")] = ride, crash
    logits = (np.log(p) - np.log1p(-p)).astype(np.float32)
    return decode(logits, np.full_like(logits, 0.7), np.zeros_like(logits), with_parents(threshold), DELAY)


def test_doubt_between_two_classes_does_not_cost_the_hit() -> None:
    (hit,) = cymbals([0.0001, 0.0001, 0.40, 0.0001], [0.0001, 0.0001, 0.35, 0.0001])
    assert hit.code == "RD"
    assert hit.confidence == pytest.approx(1 - 0.6 * 0.65, abs=1e-3)  # that some cymbal was struck


def test_two_classes_of_a_parent_can_be_struck_together() -> None:
    hits = cymbals([0.0001, 0.0001, 0.9, 0.0001], [0.0001, 0.0001, 0.6, 0.0001])
    assert {hit.code for hit in hits} == {"RD", "CRC"}


def test_a_parent_has_one_refractory_time() -> None:
    hits = cymbals([0.0001, 0.9, 0.0001, 0.0001, 0.0001, 0.0001], [0.0001, 0.0001, 0.0001, 0.8, 0.0001, 0.0001])
    assert [hit.code for hit in hits] == ["RD"]


def test_close_calls_are_thresholds_and_plateaus_above_them() -> None:
    logits = np.full((4, C), -9, np.float32)
    logits[:, :2] = [[-3.0, 0.0], [1.0, 5.0], [1.0, -5.0], [-2.0, -5.0]]
    close = close_calls(logits, MANIFEST, DELAY, 1e-4)[:, :2]
    assert close.T.tolist() == [[False, True, True, False], [True, False, False, False]]


def test_close_calls_know_doubt_about_the_class() -> None:
    logits = np.full((3, C), -9, np.float32)
    logits[1, [index_of("RD"), index_of("CRC")]] = 1.0, 1.00001
    close = close_calls(logits, with_parents(), DELAY, 1e-4)
    assert close[1, index_of("RD")]
    assert not close[1, index_of("BD")]


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.integers(0, 5),
    st.sampled_from([MANIFEST, with_parents(), with_parents(0.9)]),
)
def test_any_cutting_gives_the_same_hits(seed: int, sizes: list[int], delay_index: int, manifest: Manifest) -> None:
    rng = np.random.default_rng(seed)
    shape = (sum(sizes), C)
    # Coarse steps, so that plateaus and hits at the threshold occur.
    logits = rng.integers(-4, 4, shape).astype(np.float32)
    velocity, offset = rng.random(shape, np.float32), rng.uniform(-0.5, 1.5, shape).astype(np.float32)
    whole = StreamingDecoder(manifest, delay_index).push(logits, velocity, offset)
    decoder = StreamingDecoder(manifest, delay_index)
    for _ in range(2):  # the second time after a reset
        pieces, start = [], 0
        for size in sizes:
            part = slice(start, start + size)
            pieces += decoder.push(logits[part], velocity[part], offset[part])
            start += size
        assert pieces == whole
        decoder.reset()
    assert sorted(whole, key=lambda hit: hit.time_s) == decode(logits, velocity, offset, manifest, delay_index)
