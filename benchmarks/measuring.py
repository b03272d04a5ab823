"""What benchmarks measure with: figures, percentiles, the machine's speeds, memory of a command, audio.

Conventions:
  cost in GFLOP-equivalents per second of audio: CPU seconds per second of audio times the speed of a float32 matrix
  product (numpy, one thread) measured before and after in the same run. It makes machines comparable.
  chunk latency: wall clock of one `StreamingTranscriber.feed`, decoder included; live audio is not waited for. Its CPU
  time beside it tells computing from waiting for the core.
  memory: the peak resident size (VmHWM) of the command `rt-transcribe`.
  first hit: wall clock from starting the command to its first line on a pipe.
Wall-clock numbers mean nothing on a busy machine: the card shows the load at the start and the end.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..export.signals import drum_like
from ..models.evaluation.inputs import audio_files
from ..runtime.engines.protocol import zero_arrays
from ..runtime.errors import EngineError, InputError
from ..runtime.manifest import Manifest

__all__ = [
    "GENERATED",
    "ONE_THREAD",
    "TRANSCRIBE",
    "Figure",
    "copy_gigabytes_per_s",
    "first_line_s",
    "labelled_recordings",
    "matrix_product_gflops",
    "median",
    "peak_memory_mb",
    "percentiles",
    "pin_to_one_core",
    "resident_mb",
    "state_bytes",
    "write_wav",
]

GENERATED = Path(__file__).parent / "generated"  # clips with exact labels: audio/, labels/
TRANSCRIBE = (sys.executable, "-m", "ghostnote.runtime.command")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# Run by a process of its own, because numpy's threads are settled when it is imported.
MATRIX_PRODUCT = """
import sys, time
import numpy as np
n, seconds = int(sys.argv[1]), float(sys.argv[2])
a, b = np.random.default_rng(0).standard_normal((2, n, n), np.float32)
c = a @ b
speeds, end = [], time.perf_counter() + seconds
while not speeds or time.perf_counter() < end:
    start = time.process_time()
    for _ in range(8):
        np.matmul(a, b, out=c)
    speeds.append(8 * 2 * n**3 / (time.process_time() - start) / 1e9)
print(float(np.median(speeds)))
"""


@dataclass(frozen=True)
class Figure:
    """One measured number; `limit` must not be exceeded, `theory` is the best the machine allows (None: unknown).

    `better` says which way is better of a number steady enough to be held against the stored one of the same device,
    and `tolerance` which share of it is noise; None of what is a tail, a fact or a difference with a limit.
    """

    name: str
    value: float | None
    unit: str
    limit: float | None = None
    theory: float | None = None
    better: Literal["less", "more"] | None = None
    tolerance: float = 0.1

    @property
    def verdict(self) -> str:
        """pass, FAIL, or empty without a limit; what could not be measured has not passed."""
        if self.limit is None:
            return ""
        return "pass" if self.value is not None and self.value <= self.limit else "FAIL"


def matrix_product_gflops(size: int = 1024, seconds: float = 1.0) -> float:
    """Speed of a float32 matrix product on one thread, by CPU time."""
    command = [sys.executable, "-c", MATRIX_PRODUCT, str(size), str(seconds)]
    environment = os.environ | ONE_THREAD
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def copy_gigabytes_per_s(megabytes: int = 64, repeats: int = 9) -> float:
    """Speed at which one thread copies, by wall clock: the median of some copies far larger than the caches."""
    source = np.ones(megabytes * 1_000_000 // 4, np.float32)
    target = np.empty_like(source)
    times_s = []
    for _ in range(repeats):
        start = time.perf_counter()
        np.copyto(target, source)
        times_s.append(time.perf_counter() - start)
    return source.nbytes / statistics.median(times_s) / 1e9


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max."""
    p50, p95, p99 = np.percentile(values, (50, 95, 99)).tolist()
    return {"p50": p50, "p95": p95, "p99": p99, "max": max(values)}


def peak_memory_mb(
    command: Sequence[str], interval_s: float = 0.02, environment: Mapping[str, str] | None = None
) -> float | None:
    """Peak resident memory of a command, in MB (10^6 bytes); None where there is no /proc.

    Of a command that starts others it is the sum of what each had at most: no less than the peak of all together.
    Raises EngineError where the command fails.
    """
    peaks_kib: dict[int, int] = {}
    with tempfile.TemporaryFile() as said:  # a pipe that nobody reads would stop who says much
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment) as process:
            while process.poll() is None:
                for pid in with_descendants(process.pid):
                    peaks_kib[pid] = max(peaks_kib.get(pid, 0), resident_peak_kib(pid))
                time.sleep(interval_s)
        said.seek(0)
        message = said.read().decode(errors="replace")
    if process.returncode:
        last = (message.strip().splitlines() or ["it said nothing"])[-1]
        raise EngineError(f"{' '.join(command)} failed with exit code {process.returncode}: {last}")
    return sum(peaks_kib.values()) * 1024 / 1e6 or None


def with_descendants(pid: int) -> list[int]:
    """A process and all that it started, directly or not; without /proc, or once it has ended, it alone."""
    found = [pid]
    for parent in found:  # grows as children are found
        for children in Path("/proc").glob(f"{parent}/task/*/children"):
            with contextlib.suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def resident_peak_kib(pid: int) -> int:
    """VmHWM of a process in KiB; 0 where it cannot be read (the process has ended, or this is not Linux)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def first_line_s(command: Sequence[str]) -> float | None:
    """Seconds from starting a command to its first line on a pipe; None if it ends without one."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        line = process.stdout.readline() if process.stdout else b""
        elapsed_s = time.perf_counter() - start
        process.terminate()
    return elapsed_s if line else None


def labelled_recordings(audio: Path, labels: Path, names: Iterable[str]) -> dict[str, Path]:
    """The recording in `audio` of each track that `labels` names. Raises InputError where any is missing."""
    recordings = audio_files(audio, names)
    if not recordings:
        raise InputError(f"{audio}: no recordings NAME.* of the labels in {labels}; give the folder that holds them")
    return recordings


def write_wav(path: Path, seconds: float, sample_rate: int) -> Path:
    """A 16-bit mono WAV of drum-like sounds; half a minute of them, repeated, so that any length is written at once."""
    import soundfile

    block = drum_like(0, min(seconds, 30), sample_rate)
    left = round(seconds * sample_rate)
    with soundfile.SoundFile(str(path), "w", sample_rate, 1, "PCM_16") as file:
        while left:
            part = block[:left]
            file.write(part)
            left -= len(part)
    return path


def pin_to_one_core() -> None:
    """Keep this process and its children on one core, where the system can; and to one thread."""
    os.environ.update(ONE_THREAD)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def resident_mb() -> float | None:
    """Resident size of this process, in MB (10^6 bytes); None where there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024 / 1e6


def state_bytes(manifest: Manifest) -> int:
    """Bytes of one stream's states, in the types that the manifest gives them."""
    return sum(state.nbytes for state in zero_arrays(manifest, 1).values())


def median(values: Sequence[float | None]) -> float | None:
    """The median; None where any value is missing."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if len(known) == len(values) else None
