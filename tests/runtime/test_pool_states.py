"""States of a pool's streams: nothing is copied while the same ones meet, and nothing kept for who has left."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ghostnote.runtime.streams.states import gather, settle


class Rows(np.ndarray):
    """A state: a number per row. (Unlike its base, it can be referred to weakly.)"""


class Engine:
    """States are numbers, so that it can be seen whose they are; counts the rows that it copies."""

    def __init__(self) -> None:
        self.copied = 0

    def zero_state(self, batch: int) -> Rows:
        return np.zeros(batch).view(Rows)

    def select(self, rows: Any) -> Rows:
        self.copied += len(rows)
        return np.array([state[row] for state, row in rows]).view(Rows)


@pytest.fixture
def engine() -> Engine:
    return Engine()


def streams(count: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(place=None) for _ in range(count)]


def call(engine: Any, members: list[SimpleNamespace], add: float) -> Rows:
    """A call of a network that adds to each state; the state it made."""
    state = (gather(engine, members) + add).view(Rows)
    settle(engine, members, state)
    return state


def test_each_keeps_its_own_whoever_meets(engine: Engine) -> None:
    a, b, c = streams(3)
    call(engine, [a, b], 1)
    call(engine, [c], 10)
    call(engine, [c, a], 100)
    assert list(gather(engine, [a, b, c])) == [101, 1, 110]


def test_the_same_ones_again_copy_nothing(engine: Engine) -> None:
    members = streams(3)
    call(engine, members, 1)
    copied = engine.copied  # they met
    for _ in range(5):
        state = call(engine, members, 1)
    assert engine.copied == copied
    assert gather(engine, members) is state
    assert gather(engine, members[::-1]) is not state  # rows are in the order of the call
    assert gather(engine, members[:2]) is not state


def test_who_begins_anew_begins_with_zeros(engine: Engine) -> None:
    a, b = streams(2)
    call(engine, [a, b], 1)
    a.place = None
    assert list(gather(engine, [a, b])) == [0, 1]


def test_who_cannot_be_copied_out_stays(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    members = streams(8)
    call(engine, members, 1)
    monkeypatch.setattr(engine, "select", lambda _: 1 / 0)
    for member in members[2:]:
        member.place = None
    settle(engine, members[:1], np.ones(1).view(Rows))
    monkeypatch.undo()
    assert list(gather(engine, members[1:2])) == [1]


def test_few_survivors_do_not_keep_a_large_state(engine: Engine) -> None:
    """After most streams of a call have gone or stalled, the rest is copied out and the large state let go."""
    members = streams(8)
    large = weakref.ref(call(engine, members, 1))
    for member in members[3:]:
        member.place = None
    call(engine, members[:1], 1)
    gc.collect()
    assert large() is None
    assert list(gather(engine, members[:3])) == [2, 1, 1]


def test_many_survivors_are_left_where_they_are(engine: Engine) -> None:
    members = streams(8)
    call(engine, members, 1)
    copied = engine.copied
    call(engine, members[:1], 1)
    assert engine.copied == copied + 1  # the one that went on without the others
