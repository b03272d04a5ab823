"""Which hits of two lists are the same hit: used wherever two engines, systems or runs are compared.

Scores against annotations are `models.evaluation.scores`, by mir_eval's rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from .events import Hit

__all__ = ["paired", "same_hits"]

T = TypeVar("T")
Place = tuple[str, float]  # class and time


def paired(one: Sequence[T], other: Sequence[T], within_s: float, place: Callable[[T], Place]) -> list[tuple[int, int]]:
    """Indices (into `one`, into `other`) of pairs of one class, at most `within_s` apart; nobody has two partners.

    In the order of time the first that fit are taken, which on a line makes as many pairs as can be made.
    """
    a, b = (sorted((*place(hit), number) for number, hit in enumerate(hits)) for hits in (one, other))
    pairs, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        (code, time_s, first), (other_code, other_s, second) = a[i], b[j]
        if code == other_code and abs(time_s - other_s) <= within_s:
            pairs.append((first, second))
            i, j = i + 1, j + 1
        elif (code, time_s) < (other_code, other_s):
            i += 1
        else:
            j += 1
    return pairs


def same_hits(one: Sequence[Hit], other: Sequence[Hit], within_s: float) -> tuple[list[tuple[Hit, Hit]], list[Hit]]:
    """The pairs of two lists of hits, and those of either list that have no partner in the other."""
    pairs = paired(one, other, within_s, _place)
    firsts, seconds = {i for i, _ in pairs}, {j for _, j in pairs}
    alone = [hit for i, hit in enumerate(one) if i not in firsts]
    alone += [hit for j, hit in enumerate(other) if j not in seconds]
    return [(one[i], other[j]) for i, j in pairs], alone


def _place(hit: Hit) -> Place:
    return hit.code, hit.time_s
