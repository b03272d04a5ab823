"""What transcribing costs on one core: whole-file time, chunk latency, memory, time to the first hit.

usage: python -m ghostnote.benchmarks.cost [--engine MODEL.onnx] [--chunks N] [--minutes N]

Everything runs pinned to one core (where the system can) and with one thread. Conventions:
  whole-file cost in GFLOP-equivalents per second of audio: CPU seconds per second of audio times the speed of a float32
  matrix product (numpy, one thread) measured before and after in the same run. It makes machines comparable.
  chunk latency: wall clock of one `StreamingTranscriber.feed`, decoder included; live audio is not waited for. Its CPU
  time beside it tells computing from waiting for the core.
  memory: the peak resident size (VmHWM) of the command `rt-transcribe`.
  first hit: wall clock from starting the command to its first line on a pipe.
Wall-clock numbers mean nothing on a busy machine: the card shows the load at the start and the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ..export.signals import drum_like
from ..runtime.engines.opening import model_file, open_engine
from ..runtime.engines.protocol import Engine
from ..runtime.job import transcribe_file
from ..runtime.stream import StreamingTranscriber

__all__ = ["Figure", "bench"]

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
class Limits:
    """What a model may cost at most; None: shown for information."""

    file_gflop_eq: float | None = None  # per second of audio, whole file
    chunk_p99_ms: float | None = None  # 40 ms of audio


LIMITS = {"base": Limits(0.75, 4.0), "small": Limits(0.45, 2.0)}


@dataclass(frozen=True)
class Figure:
    """One measured number, with the limit that it must not exceed (None: shown for information)."""

    name: str
    value: float | None
    unit: str
    limit: float | None = None

    @property
    def verdict(self) -> str:
        """pass, FAIL, or empty without a limit; what could not be measured has not passed."""
        if self.limit is None:
            return ""
        return "pass" if self.value is not None and self.value <= self.limit else "FAIL"


def bench(
    engine: Annotated[
        Path | None, typer.Option(help="A model.onnx, or a bundled model: base (default), small.")
    ] = None,
    chunks: Annotated[int, typer.Option(min=100, help="Chunks of each size to time.")] = 3000,
    minutes: Annotated[float, typer.Option(min=1, help="Length of the long input, for memory.")] = 60,
) -> None:
    """Measure what transcribing costs on one core; print a card, a table, and one line of JSON."""
    pin_to_one_core()
    opened = open_engine(engine, threads=1)
    card = machine_card() | model_card(opened, engine)
    with tempfile.TemporaryDirectory() as folder:
        figures = [
            *whole_file_figures(opened, Path(folder)),
            *chunk_figures(opened, chunks),
            *command_figures(engine, opened.manifest.sample_rate, Path(folder), minutes),
        ]
    card["load_at_end"] = load_average()
    show(card, figures)
    print(json.dumps({"card": card, "figures": [asdict(figure) for figure in figures]}))


def limits_of(engine: Engine) -> Limits:
    """The limits of the model with this name; none for a model that is not ours."""
    return LIMITS.get(engine.manifest.name, Limits())


def whole_file_figures(engine: Engine, folder: Path, seconds: float = 60, repeats: int = 5) -> list[Figure]:
    """CPU time of a file of `seconds`, from reading to hits, the model already loaded; the median of `repeats`."""
    wav = write_wav(folder / "file.wav", seconds, engine.manifest.sample_rate)
    speeds = [matrix_product_gflops()]
    costs = []
    for _ in range(repeats):
        start = time.process_time()
        transcribe_file(wav, engine)
        costs.append((time.process_time() - start) / seconds)
    speeds.append(matrix_product_gflops())
    cost, speed = statistics.median(costs), statistics.mean(speeds)
    return [
        Figure("matrix product, float32", speed, "GFLOP/s"),
        Figure("whole file, CPU time per s of audio", 1000 * cost, "ms"),
        Figure("whole file, cost per s of audio", cost * speed, "GFLOP-eq", limits_of(engine).file_gflop_eq),
    ]


def chunk_figures(engine: Engine, count: int) -> list[Figure]:
    """Latency of chunks of one and two tokens (20 and 40 ms), in milliseconds."""
    figures = []
    for tokens in (1, 2):
        samples = tokens * engine.manifest.samples_per_token
        wall_ms, cpu_ms = chunk_times_ms(engine, samples, count)
        label = f"{1000 * samples / engine.manifest.sample_rate:.0f} ms chunk"
        for name, value in percentiles(wall_ms).items():
            limit = limits_of(engine).chunk_p99_ms if tokens == 2 and name == "p99" else None
            figures.append(Figure(f"{label}, {name}", value, "ms", limit))
        figures.append(Figure(f"{label}, p99 of CPU time", percentiles(cpu_ms)["p99"], "ms"))
    return figures


def command_figures(engine: Path | None, sample_rate: int, folder: Path, minutes: float) -> list[Figure]:
    """Peak memory of the command for one minute and `minutes`, and the time to its first hit."""
    options = [] if engine is None else ["--engine", str(engine)]
    short = write_wav(folder / "short.wav", 60, sample_rate)
    long = write_wav(folder / "long.wav", 60 * minutes, sample_rate)
    waits_s = [first_line_s([*TRANSCRIBE, str(short), *options]) for _ in range(7)]
    midi = ["-o", str(folder / "hits.mid")]
    return [
        Figure("peak memory, 1 minute", peak_memory_mb([*TRANSCRIBE, str(short), *midi, *options]), "MB", 150),
        Figure(
            f"peak memory, {minutes:g} minutes", peak_memory_mb([*TRANSCRIBE, str(long), *midi, *options]), "MB", 150
        ),
        Figure("start to first hit, median", _median(waits_s), "s", 1.5),
        Figure("start to first hit, slowest", None if None in waits_s else max(filter(None, waits_s)), "s"),
    ]


def matrix_product_gflops(size: int = 1024, seconds: float = 1.0) -> float:
    """Speed of a float32 matrix product on one thread, by CPU time."""
    command = [sys.executable, "-c", MATRIX_PRODUCT, str(size), str(seconds)]
    environment = os.environ | ONE_THREAD
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def chunk_times_ms(engine: Engine, samples: int, count: int, warm_up: int = 100) -> tuple[list[float], list[float]]:
    """Wall-clock and CPU milliseconds of each of `count` calls of `feed` with `samples` samples."""
    audio = drum_like(0, 30, engine.manifest.sample_rate)
    pieces = [audio[i : i + samples] for i in range(0, len(audio) - samples + 1, samples)]
    transcriber = StreamingTranscriber(engine)
    wall_ms, cpu_ms = [], []
    for i in range(warm_up + count):
        wall, cpu = time.perf_counter(), time.process_time()
        transcriber.feed(pieces[i % len(pieces)])
        wall_ms.append(1000 * (time.perf_counter() - wall))
        cpu_ms.append(1000 * (time.process_time() - cpu))
    return wall_ms[warm_up:], cpu_ms[warm_up:]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max."""
    p50, p95, p99 = np.percentile(values, (50, 95, 99)).tolist()
    return {"p50": p50, "p95": p95, "p99": p99, "max": max(values)}


def peak_memory_mb(command: Sequence[str], interval_s: float = 0.02) -> float | None:
    """Peak resident memory of a command that must succeed, in MB (10^6 bytes); None where there is no /proc."""
    peak_kib = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak_kib = max(peak_kib, resident_peak_kib(process.pid))
            time.sleep(interval_s)
        message = process.stderr.read() if process.stderr else ""
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with exit code {process.returncode}: {message.strip()}")
    return peak_kib * 1024 / 1e6 or None


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


def machine_card() -> dict[str, Any]:
    """Machine, versions, commit, load."""
    versions = {name: _version(name) for name in ("ghostnote", "numpy", "onnxruntime", "soundfile", "soxr")}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version for name, version in versions.items() if version},
        "commit": _commit(),
        "load_at_start": load_average(),
    }


def model_card(engine: Engine, path: Path | None) -> dict[str, Any]:
    """The model, by name and by hashes of its weights and its file."""
    return {
        "model": engine.manifest.name,
        "weights_sha256": engine.manifest.weights_sha256,
        "file_sha256": hashlib.sha256(model_file(path).read_bytes()).hexdigest(),
        "engine": engine.describe(),
    }


def load_average() -> float | None:
    """Processes that wanted to run, mean over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def show(card: dict[str, Any], figures: Sequence[Figure]) -> None:
    """Print the card and the table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for key, value in card.items():
        console.print(f"{key:15s} {value}", soft_wrap=True)
    table = Table(title="One core, one thread", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("what", "measured", "limit", "unit", ""):
        table.add_column(column, justify="right" if column in ("measured", "limit") else "left")
    for figure in figures:
        value = "-" if figure.value is None else f"{figure.value:.3g}"
        limit = "" if figure.limit is None else f"{figure.limit:g}"
        table.add_row(figure.name, value, limit, figure.unit, figure.verdict)
    console.print(table)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if len(known) == len(values) else None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    """Short hash of the checkout that runs, with a + where files differ from it."""
    try:
        return _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a git checkout)"


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    typer.run(bench)
