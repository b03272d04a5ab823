"""Several sinks as one: what fails is left behind, the others go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

from ..errors import OutputError
from ..events import Hit
from .writers import Sink

__all__ = ["Sinks"]

Failure = OutputError | BrokenPipeError  # the latter of a reader who has seen enough


class Sinks:
    """Passes hits on to every sink that was added. One that fails is discarded and gets nothing more.

    An optional one costs a warning by that. A required one's failure is raised in the end: by `close`, once the others
    are complete, or by `write`, as soon as no sink is left that needs the rest.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._optional: list[Sink] = []
        self._required: list[Sink] = []
        self._failures: list[Failure] = []

    def add(self, sink: Sink, *, optional: bool = False) -> None:
        """One more, from the next hit on."""
        (self._optional if optional else self._required).append(sink)

    def write(self, hits: Iterable[Hit]) -> None:
        """Take hits in the order in which they were found. Raises OutputError, BrokenPipeError."""
        hits = list(hits)
        failures = self._each(lambda sink: sink.write(hits))
        if not self._optional and not self._required:  # without a failure there never was any
            self._raise_failures()
        for failure in failures:
            if isinstance(failure, OutputError):
                self._warn(f"{failure}; the other outputs go on")

    def close(self) -> None:
        """Complete all that work, then raise what has failed: OutputError, BrokenPipeError."""
        self._each(lambda sink: sink.close())
        self._raise_failures()

    def discard(self) -> None:
        """Forget all."""
        for sink in (*self._optional, *self._required):
            _discard(sink)

    def _each(self, action: Callable[[Sink], None]) -> list[Failure]:
        """Act on all, optional ones first: they are the ones that play. Returns failures of required ones."""
        self._optional, dropped = _attempt(action, self._optional)
        self._required, failures = _attempt(action, self._required)
        for failure in dropped:
            self._warn(f"{failure}; going on without it")
        self._failures += failures
        return failures

    def _raise_failures(self) -> None:
        errors = [str(failure) for failure in self._failures if isinstance(failure, OutputError)]
        if errors:
            rest = "; the other outputs are complete" if self._optional or self._required else ""
            raise OutputError("; ".join(errors) + rest)
        if self._failures:
            raise self._failures[0]


def _attempt(action: Callable[[Sink], None], sinks: Sequence[Sink]) -> tuple[list[Sink], list[Failure]]:
    """Act on each; those that work, and the failures of the others, which are discarded."""
    working: list[Sink] = []
    failures: list[Failure] = []
    for sink in sinks:
        try:
            action(sink)
        except (OutputError, BrokenPipeError) as failure:
            _discard(sink)
            failures.append(failure)
        else:
            working.append(sink)
    return working, failures


def _discard(sink: Sink) -> None:
    """Whatever goes wrong: the failure that led here is told, and the other sinks wait for their turn."""
    with contextlib.suppress(Exception):
        sink.discard()
