"""Which streams of a pool have audio, and when the next call begins: what a stream and its pool meet at.

Streams come here from their owners' threads, the pool's thread waits here. One lock guards all of it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from ..engines.protocol import StepOutput
from ..errors import EngineError, GhostnoteError
from ..events import Hit
from .states import Block, Place
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
        self.waiting = 0  # owners that wait for a change
        self.together: frozenset[Member] | None = None  # whom it was heard with last, itself too; None: it is new
        self.place: Place | None = None  # of its state
        self._arrivals: deque[float] = deque()  # when each waiting token was complete

    @property
    def movable(self) -> bool:
        """Whether nothing has happened yet that another schedule would have to know of."""
        begun = self.stream.fed or self.stream.finished or self.together is not None
        return not begun and not self.waiting and self.error is None

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
        self._note_arrivals()
        return taken

    def finish(self) -> None:
        """No more samples will come."""
        self.stream.finish()
        self._note_arrivals()

    def take(self, tokens: int, output: StepOutput, row: int) -> list[float]:
        """What the network said of the next tokens; when each of them was complete."""
        arrivals = [self._arrivals.popleft() for _ in range(tokens)]
        self.hits += self.stream.advance(tokens, output.onset_logits[row], output.velocity[row], output.offset[row])
        self._note_arrivals()
        self.changed.notify_all()
        return arrivals

    def rewind(self) -> None:
        """Forget everything: the next sample is the first of a new stream."""
        self.stream.reset()
        self.hits.clear()
        self._arrivals.clear()

    def _note_arrivals(self) -> None:
        now = time.monotonic()
        self._arrivals.extend([now] * (self.stream.tokens - len(self._arrivals)))


class Schedule:
    """A call begins when streams that were heard together have a token each, and is theirs alone.

    So live streams fall into groups that stay as they are, and nobody's state is copied. Where a stream waits longer
    than `max_wait_s`, because it is new or one of its group has none, all that have a token are heard, and are a group
    then; who left most of its own behind finds back to it, and new ones join any call before. All but `next_call` want
    the caller to hold the lock.
    """

    def __init__(self, max_wait_s: float) -> None:
        self.lock = threading.RLock()
        self.members: set[Member] = set()
        self.closed: GhostnoteError | None = None  # why
        self._max_wait_s = max_wait_s
        self._work = threading.Condition(self.lock)  # what the pool's thread waits on
        self._ready: set[Member] = set()  # that have a token and are not in a call
        self._vacated: WeakSet[Block] = WeakSet()  # blocks of states that some have left and others have not
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
        if len(self._ready) in (1, len(self.members)) or self._is_complete(member):
            self._work.notify()

    def rewind(self, member: Member) -> None:
        """The stream, which is in no call, begins anew."""
        self._ready.discard(member)
        self.vacate(member)
        member.rewind()

    def leave(self, member: Member, error: GhostnoteError | None = None) -> None:
        """The stream leaves, because it wants to or because of an error."""
        self.members.discard(member)
        self._ready.discard(member)
        if member.together is not None:
            left = member.together - {member}
            for other in left:
                other.together = left
            member.together = None
        self._work.notify()  # nobody waits for it any more
        if not member.busy:  # otherwise its call is going on, and the pool sees in the end that it has left
            self.vacate(member)
        member.error = member.error or error or EngineError("this stream was closed")
        member.changed.notify_all()

    def close(self, error: GhostnoteError) -> None:
        """All streams leave; no call begins any more."""
        self.closed = error
        for member in list(self.members):
            self.leave(member, error)
        self._work.notify()

    def vacate(self, member: Member) -> None:
        """The stream needs its state no more."""
        if member.place is not None:
            self._vacated.add(member.place.block)
            member.place = None

    def take_vacated(self) -> list[Block]:
        """Blocks of states that some streams have left, and others not, since this was asked last."""
        blocks = list(self._vacated)
        self._vacated.clear()
        return blocks

    def next_call(self) -> list[Member]:
        """Wait for the streams of the next call: at least one, in the order in which they came; none after `close`.

        They are busy from then on.
        """
        with self.lock:
            while not self.closed:
                if not self._ready:
                    self._work.wait()
                    continue
                group, left_s = self._due()
                if group:
                    return self._choose(group)
                self._work.wait(min(left_s, threading.TIMEOUT_MAX))
        return []

    def _due(self) -> tuple[frozenset[Member], float]:
        """Whom to hear now; where nobody, how long there is to wait for others."""
        everybody = frozenset(self._ready)
        oldest, *_ = in_time = sorted(everybody, key=lambda member: member.ready_since)
        left_s = oldest.ready_since + self._max_wait_s - time.monotonic()
        first = next((member for member in in_time if self._is_complete(member)), None)
        # A group that is complete a little late stays as it is; later than that, larger calls are what helps.
        if first is not None and (left_s > 0 or (first is oldest and left_s > -self._max_wait_s / 2)):
            new = {member for member in everybody if member.together is None}
            return (first.together or everybody) | new, 0.0
        if left_s <= 0 or len(everybody) == len(self.members):
            return everybody, 0.0
        return frozenset(), left_s

    def _is_complete(self, member: Member) -> bool:
        """Whether everybody whom it was heard with last has a token."""
        return member.together is not None and member.together <= self._ready

    def _choose(self, chosen: frozenset[Member]) -> list[Member]:
        self._ready -= chosen
        strayed = _split_groups(chosen)
        # Who is new does not become a group by coming along with strays alone.
        group = frozenset(member for member in chosen - strayed if member.together is not None or not strayed)
        for member in chosen:
            # One alone is no group: it would be heard alone for ever, however near others are.
            member.together = group if member in group and len(group) > 1 else None
            member.busy = True
        return sorted(chosen, key=lambda member: member.number)


def _split_groups(chosen: frozenset[Member]) -> set[Member]:
    """Choosing these splits groups. Returns those who leave most of theirs behind: like new ones, they find back to it.

    Where only the smaller part of a group is left behind, that part is like new.
    """
    strayed: set[Member] = set()
    for old in {member.together or chosen for member in chosen} - {chosen}:
        left = old - chosen
        most = 2 * len(left) > len(old)
        strayed |= old & chosen if most else set()
        for member in left:
            member.together = left if most else None
    return strayed
