"""When the machine itself does not run who wants to run: pauses, which no program on it can do anything about.

A process beside sleeps a millisecond at a time, one thread on each processor and ahead of all others where that is
allowed (Linux, with the right to real-time scheduling). Whoever sleeps longer than that was kept waiting: by the host
of a virtual machine, mostly. Without the right it may have waited for other programs, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["PAUSE_S", "Pauses", "watching"]

PAUSE_S = 0.01  # shorter ones are not told
# Waits for its input to end, then prints [longest oversleep in s, [[begin, end] of each pause by `time.monotonic`]].
_SLEEPERS = """
import contextlib, json, os, sys, threading, time
shortest_s, longest, pauses, done = float(sys.argv[1]), [0.0], [], threading.Event()
def sleep_on(cpu):
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {cpu})
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    while not done.is_set():
        begin = time.monotonic()
        time.sleep(0.001)
        end = time.monotonic()
        over_s = end - begin - 0.001
        longest[0] = max(longest[0], over_s)
        if over_s > shortest_s:
            pauses.append([begin, end])
cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
threads = [threading.Thread(target=sleep_on, args=(cpu,)) for cpu in cpus]
for thread in threads:
    thread.start()
sys.stdin.read()
done.set()
for thread in threads:
    thread.join()
print(json.dumps([longest[0], sorted(pauses)]))
"""


@dataclass(frozen=True)
class Pauses:
    """What was seen: the longest oversleep, and each one over `PAUSE_S` as (begin, end) by `time.monotonic`.

    A pause of all processors is told once by each: they are counted together where they overlap.
    """

    longest_s: float
    intervals: tuple[tuple[float, float], ...]

    @property
    def count(self) -> int:
        """How many there were."""
        total, latest = 0, float("-inf")
        for begin, end in self.intervals:
            total += begin > latest
            latest = max(latest, end)
        return total

    def touch(self, begin: float, end: float) -> bool:
        """Whether one of them overlaps this time."""
        return any(begin <= its_end and its_begin <= end for its_begin, its_end in self.intervals)


@contextmanager
def watching() -> Iterator[Callable[[], Pauses]]:
    """Watch until asked, once."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SLEEPERS, str(PAUSE_S)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def told() -> Pauses:
        longest_s, intervals = json.loads(process.communicate()[0])
        return Pauses(longest_s, tuple((begin, end) for begin, end in intervals))

    with process:
        yield told  # leaving closes its input, which ends it, if nobody asked
