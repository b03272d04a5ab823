"""Hypothesis strategies for tempo maps."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import strategies as st

from ghostnote.runtime.output.tempo import Anchor, Meter, TempoMap

meters = st.builds(Meter, st.integers(1, 13), st.sampled_from((2, 4, 8, 16)))
_steps = st.tuples(st.floats(0.02, 40), st.floats(10, 1000), st.none() | meters)


def _anchors(start_s: float, steps: list[tuple[float, float, Meter | None]]) -> list[Anchor]:
    times = accumulate((step[0] for step in steps[1:]), initial=start_s)
    return [Anchor(time_s, bpm, meter) for time_s, (_, bpm, meter) in zip(times, steps, strict=True)]


anchors = st.builds(_anchors, st.just(0.0) | st.floats(0.01, 30), st.lists(_steps, min_size=1, max_size=12))
tempo_maps = anchors.map(TempoMap.through)
