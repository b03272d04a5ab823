"""Hits of two lists are paired one to one, and as many as can be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ghostnote.runtime.events import Hit
from ghostnote.runtime.pairing import same_hits

WITHIN_S = 0.25  # a number that floats hold exactly, like the times
HITS = st.lists(st.builds(lambda step, code: Hit(step / 8, code, 0.5, 0.9), st.integers(0, 24), st.sampled_from("ab")))


def test_hits_of_another_class_or_time_have_no_partner() -> None:
    one = [Hit(1.0, "BD", 1, 1), Hit(2.0, "SD", 1, 1)]
    assert same_hits(one, one, 1e-4)[1] == []
    assert same_hits(one, [Hit(1.00005, "BD", 1, 1)], 1e-4)[1] == [one[1]]
    other = [Hit(1.0, "SD", 1, 1), Hit(2.0, "SD", 1, 1)]
    assert same_hits(one, other, 1e-4)[1] == [one[0], other[0]]


def test_a_hit_has_one_partner() -> None:
    one, twice = [Hit(1.0, "BD", 1, 1)], [Hit(1.0, "BD", 1, 1), Hit(1.001, "BD", 0.5, 1)]
    assert len(same_hits(one, twice, 0.01)[0]) == 1
    assert same_hits(one, twice, 0.01)[1] == twice[1:]


@given(HITS, HITS)
def test_as_many_pairs_as_can_be_made(one: list[Hit], other: list[Hit]) -> None:
    pairs = same_hits(one, other, WITHIN_S)[0]
    assert all(a.code == b.code and abs(a.time_s - b.time_s) <= WITHIN_S for a, b in pairs)
    assert len(pairs) == _most_pairs(one, other) == len(same_hits(other, one, WITHIN_S)[0])
    assert len(same_hits(one, other, WITHIN_S)[1]) == len(one) + len(other) - 2 * len(pairs)


def _most_pairs(one: list[Hit], other: list[Hit]) -> int:
    """By augmenting paths (Berge 1957), which needs no order."""
    partner: dict[int, int] = {}

    def placed(i: int, seen: set[int]) -> bool:
        for j, twin in enumerate(other):
            fits = twin.code == one[i].code and abs(twin.time_s - one[i].time_s) <= WITHIN_S
            if fits and j not in seen:
                seen.add(j)
                if j not in partner or placed(partner[j], seen):
                    partner[j] = i
                    return True
        return False

    return sum(placed(i, set()) for i in range(len(one)))
