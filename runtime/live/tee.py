"""Several sinks on one transcription: what breaks is left out, the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..errors import OutputError
from ..events import Hit
from ..writers import Sink

__all__ = ["Tee"]


class Tee:
    """A sink made of sinks.

    An `optional` one that fails is dropped with a warning. A `required` one that fails is dropped with a warning, too,
    but its error is raised by `close` once all others are complete; at once where no sink is left that needs the rest.
    """

    def __init__(self, required: Sequence[Sink], optional: Sequence[Sink], warn: Callable[[str], None]) -> None:
        self._required = list(required)
        self._optional = list(optional)
        self._warn = warn
        self._error: OutputError | BrokenPipeError | None = None

    def write(self, hits: Iterable[Hit]) -> None:
        """Optional ones first: they are the ones that play."""
        hits = list(hits)
        self._each(lambda sink: sink.write(hits))
        if self._error is not None and not self._required and not self._optional:
            raise self._error

    def close(self) -> None:
        """Complete all, then raise the first error of a required one."""
        self._each(lambda sink: sink.close())
        self._required, self._optional = [], []
        if self._error is not None:
            raise self._error

    def discard(self) -> None:
        """Discard all that are left."""
        for sink in (*self._optional, *self._required):
            sink.discard()

    def _each(self, action: Callable[[Sink], None]) -> None:
        for sink in list(self._optional):
            try:
                action(sink)
            except OutputError as error:
                self._optional.remove(sink)
                sink.discard()
                self._warn(f"{error}; going on without it")
        for sink in list(self._required):
            try:
                action(sink)
            except (OutputError, BrokenPipeError) as error:  # a closed pipe: its reader has seen enough
                self._required.remove(sink)
                sink.discard()
                self._error = self._error or error
                if isinstance(error, OutputError) and (self._required or self._optional):
                    self._warn(f"{error}; the other outputs go on")
