"""Made-up hits for the tests of evaluation: references and estimates of a few tracks."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from ghostnote.models.evaluation.notes import Note

# Times on a 10 ms grid, so that hits meet the edge of a 50 ms window exactly.
times = st.integers(0, 200).map(lambda n: n / 100)
unit = st.floats(0, 1, allow_nan=False).map(lambda v: round(v, 3))
notes = st.lists(
    st.builds(
        Note, times, st.sampled_from(("BD", "SD", "SS", "CHH", "OHH", "PHH", "RD", "CRC", "LT")), unit, st.none()
    ),
    max_size=25,
)
tracks = st.fixed_dictionaries({"a": notes, "b": notes})
law = settings(deadline=None, max_examples=40)


def as_ours(golden: dict) -> dict:
    """A golden without its offset, and without its empty track in the mean: the one convention that is our own."""
    heard = [f for name, f in golden["tracks"].items() if name != "silent"]
    return {key: value for key, value in golden.items() if key != "offset_s"} | {"mean_track_F": float(np.mean(heard))}
