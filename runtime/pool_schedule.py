"""Which streams of a pool have audio, and when the next call begins: what a stream and its pool meet at.

Streams come here from their owners' threads, the pool's thread waits here. One lock guards all of it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .engines.protocol import StepOutput
from .errors import EngineError, GhostnoteError
from .events import Hit
from .pool_states import Place
from .stream import Stream

__all__ = ["Member", "Schedule"]

_UNREAD_HITS = 10_000  # a stream whose hits nobody reads is not listened to any further


class Member:
    """A stream in a pool. Everything here is read and changed under the schedule's lock."""

    def __init__(self, stream: Stream, number: int, lock: threading.RLock, notify: Callable[[], None] | None) -> None:
        self.stream = stream
        self.number = number  # in the order in which they came
        self.notify = notify  # called, without the lock, after changes by the pool
        self.changed = threading.Condition(lock)  # what the stream's owner waits on
        self.hits: deque[Hit] = deque()  # not yet read
        self.error: GhostnoteError | None = None  # why it left
        self.busy = False  # in a call now
        self.fed_at = time.monotonic()  # who has just come is waited for: streams that begin together stay together
        self.place: Place | None = None  # of its state
        self._arrivals: deque[float] = deque()  # when each waiting token was complete

    @property
    def ready_since(self) -> float:
        """When the first of the waiting tokens was complete."""
        return self._arrivals[0]

    @property
    def unread(self) -> bool:
        """Whether so many hits wait to be read that no more is heard until they are."""
        return len(self.hits) >= _UNREAD_HITS and not self.stream.finished

    @property
    def ready(self) -> bool:
        """Whether there is a token to hear, and somebody who reads what comes of it."""
        return self.stream.tokens > 0 and not self.unread

    def push(self, pcm: NDArray[np.float32]) -> int:
        """Take as many of the samples [n] as there is room for; how many."""
        taken = min(self.stream.room, len(pcm))
        self.stream.push(pcm[:taken])
        self.fed_at = time.monotonic()
        self._note_arrivals()
        return taken

    def finish(self) -> None:
        """No more samples will come."""
        self.stream.finish()
        self._note_arrivals()

    def take(self, tokens: int, output: StepOutput, row: int) -> None:
        """What the network said of the next tokens."""
        for _ in range(tokens):
            self._arrivals.popleft()
        self.hits += self.stream.advance(tokens, output.onset_logits[row], output.velocity[row], output.offset[row])
        self._note_arrivals()
        self.changed.notify_all()

    def rewind(self) -> None:
        """Forget everything: the next sample is the first of a new stream."""
        self.stream.reset()
        self.hits.clear()
        self._arrivals.clear()
        self.place = None

    def _note_arrivals(self) -> None:
        now = time.monotonic()
        self._arrivals.extend([now] * (self.stream.tokens - len(self._arrivals)))


class Schedule:
    """A call begins when all streams that are being fed have a token, or `max_wait_s` after the first had one.

    A stream that was not fed for `quiet_s` is not waited for. All but `next_call` want the caller to hold the lock.
    """

    def __init__(self, max_wait_s: float, quiet_s: float) -> None:
        self.lock = threading.RLock()
        self.members: set[Member] = set()
        self.closed = False
        self._max_wait_s = max_wait_s
        self._quiet_s = quiet_s
        self._work = threading.Condition(self.lock)  # what the pool's thread waits on
        self._ready: set[Member] = set()  # that have a token and are not in a call
        self._expected = 0  # how many of them make it useless to wait for more
        self._joined = 0

    def join(self, stream: Stream, notify: Callable[[], None] | None) -> Member:
        """A new stream."""
        self._joined += 1
        member = Member(stream, self._joined, self.lock, notify)
        self.members.add(member)
        return member

    def offer(self, member: Member) -> None:
        """The stream may have a token now: call for work."""
        if member.busy or not member.ready or member in self._ready or member.error is not None:
            return
        self._ready.add(member)
        if len(self._ready) == 1 or len(self._ready) >= self._expected:
            self._work.notify()

    def rewind(self, member: Member) -> None:
        """The stream, which is in no call, begins anew."""
        self._ready.discard(member)
        member.rewind()

    def leave(self, member: Member, error: GhostnoteError | None = None) -> None:
        """The stream leaves, because it wants to or because of an error."""
        self.members.discard(member)
        self._ready.discard(member)
        if not member.busy:  # otherwise its call is going on, and the pool sees in the end that it has left
            member.place = None
        member.error = member.error or error or EngineError("this stream was closed")
        member.changed.notify_all()

    def close(self, error: GhostnoteError) -> None:
        """All streams leave; no call begins any more."""
        self.closed = True
        for member in list(self.members):
            self.leave(member, error)
        self._work.notify()

    def next_call(self) -> list[Member]:
        """Wait for the streams of the next call: at least one, in the order in which they came; none after `close`.

        They are busy from then on.
        """
        with self.lock:
            while not self.closed:
                if not self._ready:
                    self._work.wait()
                elif (left_s := self._left_s()) > 0:
                    self._work.wait(left_s)
                else:
                    return self._choose()
        return []

    def _left_s(self) -> float:
        """How long to wait for others; 0 or less: not at all."""
        now = time.monotonic()
        fed = [member for member in self.members if now - member.fed_at < self._quiet_s]
        self._expected = max(1, len(fed))
        if self._ready.issuperset(fed):
            return 0.0
        return min(member.ready_since for member in self._ready) + self._max_wait_s - now

    def _choose(self) -> list[Member]:
        chosen = sorted(self._ready, key=lambda member: member.number)
        self._ready.clear()
        for member in chosen:
            member.busy = True
        return chosen
