"""Which streams are heard together, and when: by a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from click_model import TOKEN, make_manifest

from ghostnote.runtime.engines.protocol import StepOutput
from ghostnote.runtime.streams import schedule as pool_schedule
from ghostnote.runtime.streams.schedule import Member, Schedule
from ghostnote.runtime.streams.stream import Stream

WAIT_S = 0.010


class Desk:
    """A schedule, its clock, and streams by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, names: str) -> None:
        self.now = 0.0
        monkeypatch.setattr(pool_schedule, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.schedule = Schedule(WAIT_S)
        monkeypatch.setattr(self.schedule._work, "wait", lambda _: pytest.fail("nobody is due"))
        self.members: dict[str, Member] = {}
        for name in names:
            self.join(name)

    def join(self, name: str) -> None:
        self.members[name] = self.schedule.join(Stream(make_manifest(), capacity_tokens=8), None)

    def feed(self, names: str, at: float) -> None:
        """A token each."""
        self.now = at
        with self.schedule.lock:
            for name in names:
                self.members[name].push(np.zeros(TOKEN, np.float32))
                self.schedule.offer(self.members[name])

    def heard(self, at: float) -> str:
        """Who is in the call that begins at this time, which must be due; it is over at once."""
        self.now = at
        chosen = self.schedule.next_call()
        silent = np.full((len(chosen), 2, 18), -9.0, np.float32)
        with self.schedule.lock:
            for row, member in enumerate(chosen):
                member.busy = False
                member.take(1, StepOutput(silent, silent, silent, None), row)
                self.schedule.offer(member)
        return "".join(name for name, member in self.members.items() if member in chosen)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Desk]:
    return lambda names: Desk(monkeypatch, names)


@pytest.fixture
def two_groups(desk: Callable[[str], Desk]) -> Desk:
    """a and b, which are fed together, and c and d half a token later."""
    made = desk("abcd")
    made.feed("ab", 0.0)
    assert made.heard(WAIT_S) == "ab"
    made.feed("cd", 0.010)
    assert made.heard(0.010 + WAIT_S) == "cd"
    return made


def test_everybody_has_a_token(desk: Callable[[str], Desk]) -> None:
    """There is nobody to wait for."""
    made = desk("abc")
    made.feed("abc", 0.0)
    assert made.heard(0.0) == "abc"


def test_a_group_is_heard_when_it_is_complete_and_alone(two_groups: Desk) -> None:
    for period in (1, 2):
        two_groups.feed("abc", 0.02 * period + 0.001)
        assert two_groups.heard(two_groups.now) == "ab"
        two_groups.feed("d", 0.02 * period + 0.010)
        assert two_groups.heard(two_groups.now) == "cd"


def test_a_group_that_is_complete_a_little_late_stays_as_it_is(two_groups: Desk) -> None:
    two_groups.feed("a", 0.020)
    two_groups.feed("bc", 0.029)
    assert two_groups.heard(0.020 + 1.4 * WAIT_S) == "ab"


def test_who_is_late_is_heard_in_larger_calls(two_groups: Desk) -> None:
    two_groups.feed("ab", 0.020)
    two_groups.feed("c", 0.030)
    assert two_groups.heard(0.020 + 1.6 * WAIT_S) == "abc"


def test_who_is_new_joins_the_next_call(two_groups: Desk) -> None:
    two_groups.join("e")
    two_groups.feed("ea", 0.020)
    two_groups.feed("b", 0.021)
    assert two_groups.heard(0.021) == "abe"
    two_groups.feed("abe", 0.040)
    assert two_groups.heard(0.040) == "abe"


def test_who_has_no_token_is_not_waited_for_twice(two_groups: Desk) -> None:
    """b is silent for a token; c, which happens to have one, is heard with a and stays with it."""
    two_groups.feed("ac", 0.020)
    assert two_groups.heard(0.020 + WAIT_S) == "ac"
    two_groups.feed("ac", 0.040)
    assert two_groups.heard(0.040) == "ac"
    two_groups.feed("bac", 0.060)
    assert two_groups.heard(0.060) == "abc"  # b is like new


def test_who_leaves_is_not_waited_for(two_groups: Desk) -> None:
    two_groups.feed("a", 0.020)
    with two_groups.schedule.lock:
        two_groups.schedule.leave(two_groups.members["b"])
    assert two_groups.heard(0.021) == "a"


def test_what_gathers_while_a_call_lasts_is_due_at_once(two_groups: Desk) -> None:
    two_groups.feed("ab", 0.020)
    two_groups.feed("ab", 0.040)
    assert two_groups.heard(0.040) == "ab"
    assert two_groups.heard(0.040) == "ab"


def test_who_left_most_of_its_group_behind_finds_back(desk: Callable[[str], Desk]) -> None:
    """a and b are heard without c, d and e, which come too late; the next call of these is one of all again."""
    made = desk("abcde")
    made.feed("abcde", 0.0)
    assert made.heard(0.0) == "abcde"
    made.feed("ab", 0.020)
    assert made.heard(0.020 + WAIT_S) == "ab"
    made.feed("cde", 0.031)
    assert made.heard(0.031) == "cde"
    made.feed("abcd", 0.045)
    made.feed("e", 0.051)
    assert made.heard(0.051) == "abcde"
    made.feed("abcde", 0.070)
    assert made.heard(0.070) == "abcde"


def test_streams_that_were_heard_alone_come_together(desk: Callable[[str], Desk]) -> None:
    """One alone is no group, which would always be complete."""
    made = desk("abc")
    made.feed("a", 0.0)
    assert made.heard(WAIT_S) == "a"
    made.feed("b", 0.011)
    assert made.heard(0.011 + WAIT_S) == "b"
    made.feed("ab", 0.030)
    assert made.heard(0.030 + WAIT_S) == "ab"
    made.feed("ab", 0.050)
    assert made.heard(0.050) == "ab"


def test_every_token_of_a_call_tells_when_it_was_complete(desk: Callable[[str], Desk]) -> None:
    made = desk("ab")
    for at in (0.0, 0.020, 0.040):
        made.feed("a", at)
    silent = np.full((1, 4, 18), -9.0, np.float32)
    with made.schedule.lock:
        assert made.members["a"].take(2, StepOutput(silent, silent, silent, None), 0) == [0.0, 0.020]
    assert made.members["a"].ready_since == 0.040
