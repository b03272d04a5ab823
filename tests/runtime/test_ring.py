"""The ring buffer: nothing reordered, nothing invented, time never shortened."""

from __future__ import annotations

import sys
import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ghostnote.runtime.live.ring import RingBuffer

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 9)),
        st.tuples(st.just("skip"), st.integers(0, 20)),
        st.tuples(st.just("take"), st.integers(1, 12)),
    ),
    max_size=60,
)


def _drain(ring: RingBuffer, limit: int = 5) -> list[np.ndarray]:
    blocks = []
    while (block := ring.take(limit)) is not None:
        blocks.append(block)
    return blocks


@given(size=st.integers(4, 16), steps=_STEPS)
def test_every_frame_comes_out_in_its_place_or_as_silence(size: int, steps: list[tuple[str, int]]) -> None:
    """Frame i carries the number i + 1; what was lost is 0 and counted."""
    ring, position, out = RingBuffer(size, 2), 0, []
    for what, n in steps:
        if what == "take":
            block = ring.take(n)
            assert block is None or 0 < len(block) <= n
            out += [] if block is None else [block]
            continue
        if what == "write":
            numbers = np.arange(position + 1, position + n + 1, dtype=np.float32)
            ring.write(np.stack((numbers, -numbers), 1))
        else:
            ring.skip(n)
        position += n
        assert ring.position == position
    ring.seal()
    heard = np.concatenate([np.zeros((0, 2), np.float32), *out, *_drain(ring)])
    assert len(heard) == position
    there = heard[:, 0] != 0
    assert np.array_equal(heard[there, 0], np.arange(1, position + 1)[there])
    assert np.array_equal(heard[:, 1], -heard[:, 0])
    assert np.count_nonzero(~there) == ring.lost_frames
    assert bool(ring.overruns) >= bool(ring.lost_frames)


def test_a_full_ring_drops_whole_blocks_and_counts_runs_of_them() -> None:
    ring = RingBuffer(10, 1)
    block = np.ones((4, 1), np.float32)
    for _ in range(4):
        ring.write(block)
    assert (ring.overruns, ring.lost_frames, ring.position) == (1, 8, 16)
    assert ring.take(8) is not None
    ring.write(block)
    ring.write(block)
    ring.write(block)
    assert (ring.overruns, ring.lost_frames) == (2, 12)
    ring.seal()
    assert np.concatenate(_drain(ring))[:, 0].tolist() == [0] * 8 + [1] * 8 + [0] * 4


def test_two_threads() -> None:
    """A writer that never waits beside a reader that cannot keep up."""
    ring, written = RingBuffer(500, 1), 60_000
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:

        def write() -> None:
            for start in range(0, written, 20):
                ring.write(np.arange(start + 1, start + 21, dtype=np.float32)[:, None])

        thread = threading.Thread(target=write)
        thread.start()
        blocks = []
        while thread.is_alive():
            blocks += _drain(ring, 37)
        ring.seal()
        blocks += _drain(ring, 37)
    finally:
        sys.setswitchinterval(before)
    heard = np.concatenate(blocks)[:, 0]
    there = heard != 0
    assert len(heard) == written
    assert np.array_equal(heard[there], np.arange(1, written + 1)[there])
    assert np.count_nonzero(~there) == ring.lost_frames
