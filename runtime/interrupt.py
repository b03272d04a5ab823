"""SIGINT, SIGTERM and SIGHUP as a polite request: finish the current step, write what is known, leave.

A signal only sets a flag, so that no write is cut in half; while waiting for input, which may take for ever, it raises
`Interrupted`. A second signal has its usual effect. Who does not read what is written to them is waited for a little
longer, and no more: the other outputs shall be complete before whoever sent the signal loses patience.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

__all__ = ["READ_BY_OTHERS", "Interrupted", "Interruption"]

T = TypeVar("T")

# Descriptors of ours that somebody else reads: a write may wait for them for ever.
READ_BY_OTHERS = {1, 2}
_PATIENCE_S = 3.0  # of a signal; those who send one (systemd, Docker, a shell's user) wait for 10 s or more
# SIGHUP: the terminal was closed, or the connection to it was lost. Windows has none.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """Raised inside `Interruption.wait_for` when a signal arrives or has arrived."""


class Interruption:
    """Context manager that listens for these signals; outside the main thread it hears nothing."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._waiting = False
        self._previous: dict[int, Any] = {}
        self._alarm: Any = None  # who was called by it before

    @property
    def exit_code(self) -> int:
        """128 + signal number, 0 without a signal."""
        return 0 if self.signum is None else 128 + self.signum

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for signum in _SIGNALS:
                # Who started us with a signal ignored (nohup, a shell's background job) wants it ignored.
                if signal.getsignal(signum) is not signal.SIG_IGN:
                    self._previous[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disarm()
        self._restore()

    def wait_for(self, call: Callable[[], T]) -> T:
        """call(), during which a signal raises Interrupted."""
        if self.signum is not None:
            raise Interrupted
        self._waiting = True
        try:
            return call()
        finally:
            self._waiting = False

    def until_signalled(self, blocks: Iterable[T]) -> Iterator[T]:
        """The blocks, ending early when a signal arrives."""
        iterator = iter(blocks)
        while True:
            try:
                block = self.wait_for(lambda: next(iterator))
            except (Interrupted, StopIteration):
                return
            yield block

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()
        _let_go_of_lost_terminals()
        self._lose_patience_later()
        if self._waiting:
            raise Interrupted

    def _lose_patience_later(self) -> None:
        """A write that waits is woken by the alarm, and goes on where its descriptor then leads."""
        if hasattr(signal, "setitimer"):
            self._alarm = signal.signal(signal.SIGALRM, lambda *_: _let_go_of_stalled_readers())
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S, _PATIENCE_S)

    def _disarm(self) -> None:
        if self._alarm is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._alarm)
            self._alarm = None

    def _restore(self) -> None:
        while self._previous:
            signum, handler = self._previous.popitem()
            signal.signal(signum, handler)


def _let_go_of_lost_terminals() -> None:
    """After SIGHUP: what is written to a terminal that is gone goes nowhere, instead of failing and ending the rest."""
    for descriptor in (1, 2):
        try:
            os.get_terminal_size(descriptor)
        except OSError as error:
            if error.errno in (errno.EIO, errno.ENXIO):  # of a pipe it is ENOTTY
                _let_go_of(descriptor)


def _let_go_of_stalled_readers() -> None:
    """What is written to a pipe that is full, as nobody reads it, goes nowhere from now on."""
    stalled = [descriptor for descriptor in READ_BY_OTHERS if _is_full(descriptor)]
    for descriptor in stalled:
        _let_go_of(descriptor)
    if stalled:
        with contextlib.suppress(OSError):  # not by Python's own streams, which a signal may find at work
            os.write(2, b"warning: nobody reads an output; what is left for it is lost\n")


def _is_full(descriptor: int) -> bool:
    try:
        return not select.select([], [descriptor], [], 0)[1]
    except (OSError, ValueError):  # closed
        return False


def _let_go_of(descriptor: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
