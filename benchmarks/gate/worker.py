"""One build under the gate: a process that measures on request. Run as a script with that build on PYTHONPATH.

Reads one word per line, answers with one line of JSON. `file`: CPU seconds of transcribing some audio with large calls;
`live`: of the same in single tokens; `hits`: of every recording at three latencies; `facts`: what else does not vary
from run to run. It uses nothing but the library's documented interface, because BASE may be any earlier build.

usage: python worker.py MODEL RECORDING...
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from ghostnote.runtime import Engine, StreamingTranscriber, open_engine, transcribe_file

FILE_TOKENS = 50
FILE_S, LIVE_S = 20.0, 2.0
LATENCY_MS = 100
LIVE_CHUNKS, WARM_CHUNKS = 50, 10
# perf_event_open(2): its number by architecture, and what counts instructions of this thread outside the kernel.
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
HARDWARE, SIZE, INSTRUCTIONS = 0, 64, 1
NO_KERNEL_NO_HYPERVISOR = 1 << 5 | 1 << 6

Floats = np.ndarray
Work = Callable[[], None]


def main() -> None:
    """Answer requests until the input ends."""
    if hasattr(os, "sched_setaffinity"):  # the builds take turns: on one core neither has the better one
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    model, *files = sys.argv[1:]
    recordings = sorted(map(Path, files))
    engine = open_engine(model)
    rate = engine.manifest.sample_rate
    pcm = np.concatenate([_pcm(path, rate) for path in recordings])[: round(FILE_S * rate)]
    answers = {
        "file": lambda: _file_s(engine, pcm),
        "live": lambda: _live_s(engine, pcm[: round(LIVE_S * rate)]),
        "hits": lambda: _hits(engine, recordings),
        "facts": lambda: _facts(engine, pcm),
    }
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answers[line.strip()]()) + "\n")
        sys.stdout.flush()


def _pcm(path: Path, rate: int) -> Floats:
    audio, found = soundfile.read(str(path), dtype="float32", always_2d=True)
    return soxr.resample(audio.mean(1), found, rate)


def _file_s(engine: Engine, pcm: Floats) -> float:
    start = time.process_time()
    _fed(engine, pcm)
    return time.process_time() - start


def _fed(engine: Engine, pcm: Floats) -> None:
    transcriber = StreamingTranscriber(engine, latency_ms=LATENCY_MS, tokens_per_call=FILE_TOKENS)
    transcriber.feed(pcm)
    transcriber.flush()


def _live_s(engine: Engine, pcm: Floats) -> float:
    token = engine.manifest.samples_per_token
    transcriber = StreamingTranscriber(engine, latency_ms=LATENCY_MS)
    start = time.process_time()
    for position in range(0, len(pcm) - token + 1, token):
        transcriber.feed(pcm[position : position + token])
    return time.process_time() - start


def _hits(engine: Engine, recordings: list[Path]) -> dict[str, Any]:
    manifest = engine.manifest
    found = {
        f"{path.stem} at {latency_ms:g} ms": [
            [hit.time_s, hit.code, hit.velocity, hit.confidence]
            for hit in transcribe_file(path, engine, latency_ms=latency_ms)
        ]
        for path in recordings
        for latency_ms in _latencies_ms(manifest.total_latency_ms(i) for i in range(len(manifest.delays_ms)))
    }
    return {"weights": manifest.weights_sha256, "thresholds": manifest.decoder.thresholds, "hits": found}


def _latencies_ms(all_ms: Iterable[float]) -> list[float]:
    """The least, the most, and what is nearest to the main one."""
    known = sorted(all_ms)
    return sorted({known[0], min(known, key=lambda each: abs(each - LATENCY_MS)), known[-1]})


def _facts(engine: Engine, pcm: Floats) -> dict[str, Any]:
    return {
        "python_calls": python_calls(_live_work(engine, pcm)),
        "live_pages": pages(_live_work(engine, pcm)),
        "file_pages": pages(lambda: _fed(engine, pcm)),
        "instructions": instructions(_live_work(engine, pcm)),
    }


def _live_work(engine: Engine, pcm: Floats) -> Work:
    """The next 50 chunks of a live stream that has begun."""
    token = engine.manifest.samples_per_token
    transcriber = StreamingTranscriber(engine, latency_ms=LATENCY_MS)
    pieces = [pcm[i * token : (i + 1) * token] for i in range(WARM_CHUNKS + LIVE_CHUNKS)]

    def feed(chosen: list[Floats]) -> None:
        for piece in chosen:
            transcriber.feed(piece)

    feed(pieces[:WARM_CHUNKS])
    return lambda: feed(pieces[WARM_CHUNKS:])


def python_calls(work: Work) -> int:
    """Calls of functions, Python's and C's."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    work()
    sys.setprofile(None)
    return count


def pages(work: Work) -> int | None:
    """Pages of memory that the work has the system map (minor faults): buffers that are kept need none.

    None on Windows, which does not say.
    """
    if sys.platform == "win32":
        return None
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def instructions(work: Work) -> int | None:
    """Instructions of this thread, counted by the processor; None where it, or the system, does not let us."""
    number = PERF_EVENT_OPEN.get(platform.machine()) if sys.platform == "linux" else None
    if number is None:
        return None
    attributes = struct.pack("=2I7Q", HARDWARE, SIZE, INSTRUCTIONS, 0, 0, 0, NO_KERNEL_NO_HYPERVISOR, 0, 0)
    counter = ctypes.CDLL(None).syscall(number, attributes, 0, -1, -1, 0)
    if counter < 0:
        return None
    try:
        before = os.read(counter, 8)
        work()
        return int.from_bytes(os.read(counter, 8), sys.byteorder) - int.from_bytes(before, sys.byteorder)
    finally:
        os.close(counter)


if __name__ == "__main__":
    main()
