"""Several sinks as one, and what is left when one of them fails."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ghostnote.runtime import Hit, OutputError
from ghostnote.runtime.output.sinks import Sinks
from ghostnote.runtime.output.writers import Sink

HITS = [Hit(0.5, "BD", 0.9, 0.8), Hit(0.75, "CHH", 0.25, 0.7)]
FULL, GONE = OutputError("it: cannot be written (full)"), BrokenPipeError()


class Recorder:
    """A sink that remembers its calls and hits, and fails where it is told to."""

    def __init__(self, fails: str = "", error: Exception = FULL) -> None:
        self.calls: list[str] = []
        self.hits: list[Hit] = []
        self._fails, self._error = fails, error

    def write(self, hits: Iterable[Hit]) -> None:
        self._call("write")
        self.hits += hits

    def close(self) -> None:
        self._call("close")

    def discard(self) -> None:
        self.calls.append("discard")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self._fails:
            raise self._error


class Warned(Sinks):
    """Sinks that keep their warnings."""

    def __init__(self, *required: Sink, optional: Iterable[Sink] = ()) -> None:
        self.warnings: list[str] = []
        super().__init__(self.warnings.append)
        for sink in required:
            self.add(sink)
        for sink in optional:
            self.add(sink, optional=True)


def test_all_get_everything() -> None:
    recorders = [Recorder() for _ in range(4)]
    sinks = Warned(*recorders[:2], optional=recorders[2:])
    sinks.write(iter(HITS))
    sinks.write([])
    sinks.close()
    assert [(r.hits, r.calls) for r in recorders] == [(HITS, ["write", "write", "close"])] * 4


def test_those_that_play_come_first() -> None:
    order: list[str] = []

    class Ordered(Recorder):
        def write(self, hits: Iterable[Hit]) -> None:
            order.extend(self.calls)

    file, port = Ordered(), Ordered()
    file.calls, port.calls = ["file"], ["port"]
    Warned(file, optional=[port]).write(HITS)
    assert order == ["port", "file"]


@pytest.mark.parametrize("fails", ["write", "close"])
def test_a_failing_sink_does_not_stop_the_others(fails: str) -> None:
    bad, good = Recorder(fails), Recorder()
    sinks = Warned(bad, good)
    sinks.write(HITS)
    sinks.write(HITS)
    with pytest.raises(OutputError, match=r"^it: cannot be written \(full\); the other outputs are complete$"):
        sinks.close()
    assert good.calls == ["write", "write", "close"]
    assert good.hits == HITS * 2
    assert bad.calls[-2:] == [fails, "discard"]
    assert sinks.warnings == [f"{FULL}; the other outputs go on"] * (fails == "write")


@pytest.mark.parametrize("fails", ["write", "close"])
def test_an_optional_sink_that_fails_is_dropped_with_one_warning(fails: str) -> None:
    good, bad = Recorder(), Recorder(fails)
    sinks = Warned(good, optional=[bad])
    sinks.write(HITS)
    sinks.write(HITS)
    sinks.close()
    assert bad.calls[-2:] == [fails, "discard"]
    assert good.calls == ["write", "write", "close"]
    assert sinks.warnings == [f"{FULL}; going on without it"]


def test_without_any_sink_hits_go_nowhere_and_without_optional_ones_too() -> None:
    for sinks in (Warned(), Warned(optional=[Recorder("write")])):
        sinks.write(HITS)
        sinks.write(HITS)
        sinks.close()


@pytest.mark.parametrize("error", [FULL, GONE])
def test_when_none_is_left_the_work_stops(error: Exception) -> None:
    sinks = Warned(Recorder("write", GONE), Recorder("write", error))
    with pytest.raises(type(error)) as raised:
        sinks.write(HITS)
    assert str(raised.value) == str(error)
    assert sinks.warnings == []


@pytest.mark.parametrize("optional", [False, True])
def test_a_reader_who_has_seen_enough_is_no_warning_and_the_rest_goes_on(optional: bool) -> None:
    gone, other = Recorder("write", GONE), Recorder()
    sinks = Warned(gone, optional=[other]) if optional else Warned(gone, other)
    sinks.write(HITS)
    sinks.write(HITS)
    with pytest.raises(BrokenPipeError):
        sinks.close()
    assert other.calls == ["write", "write", "close"]
    assert sinks.warnings == []


@pytest.mark.parametrize("fails", ["write", "close"])
def test_what_cannot_be_discarded_does_not_keep_the_others(fails: str) -> None:
    class Stubborn(Recorder):
        def discard(self) -> None:
            raise AttributeError("no such thing")

    bad, good = Stubborn(fails), Recorder()
    sinks = Warned(bad, good)
    sinks.write(HITS)
    with pytest.raises(OutputError, match=r"^it: cannot be written"):
        sinks.close()
    assert good.calls == ["write", "close"]
    Warned(Stubborn(), good).discard()
    assert good.calls == ["write", "close", "discard"]


def test_discard_leaves_nothing_behind() -> None:
    first, second = Recorder(), Recorder()
    Warned(first, optional=[second]).discard()
    assert first.calls == second.calls == ["discard"]
