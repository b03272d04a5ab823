"""Any external transcriber next to ours over one folder: accuracy, cost, memory, latency.

usage: python -m ghostnote.benchmarks.peers AUDIO LABELS --peer "NAME=COMMAND {audio} {out}" [--engine MODEL]

A peer is a command that reads {audio} and writes what it found to {out}: a MIDI file, or lines of time, TAB, class,
by the ending it is given (`--ending NAME=mid`). Every recording starts the command anew, as a user would; the time by
the clock that the command takes for a second of silence is its start and is shown beside the cost, not taken off it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import typer

from ..models.evaluation.inputs import check_labels, references
from ..models.evaluation.notes import Note, labels_of, read_notes
from ..models.evaluation.scores import score
from ..runtime.engines.opening import open_engine
from ..runtime.errors import GhostnoteError, InputError, UsageError
from ..runtime.number import finite
from .machine import machine_card
from .measuring import ONE_THREAD, labelled_recordings, matrix_product_gflops, peak_memory_mb
from .options import ClassesOption
from .result import cell

__all__ = ["Peer", "Row", "measure", "peers"]

PLACES = re.compile(r"\{(?:audio|out|python)\}")  # other braces are the command's own
WINDOWS_S = (0.05, 0.025)
OURS = "{python} -m ghostnote.runtime.command {audio} --engine {model} --latency-ms {latency} -o {out}"


@dataclass(frozen=True)
class Peer:
    """A transcriber: its command with {audio} and {out}, the ending of what it writes, its latency if it is live."""

    name: str
    command: str
    ending: str = "txt"
    latency_ms: float | None = None

    def words(self, audio: Path, out: Path) -> list[str]:
        """The command line for one recording."""
        values = {"{audio}": str(audio), "{out}": str(out), "{python}": sys.executable}
        return [PLACES.sub(lambda place: values[place[0]], word) for word in shlex.split(self.command)]


@dataclass(frozen=True)
class Row:
    """What was measured of one transcriber. Cost: CPU seconds per second of audio times the matrix product's speed."""

    name: str
    f: Mapping[str, float]  # by window in ms
    mean_abs_ms: float | None
    cpu_per_s: float
    gflop_equivalents: float
    start_s: float
    peak_mb: float | None
    latency_ms: float | None  # None: hears the whole file first


def peers(
    audio: Annotated[Path, typer.Argument(help="Recordings NAME.*")],
    labels: Annotated[Path, typer.Argument(help="Their labels, NAME.txt or NAME.mid.")],
    peer: Annotated[list[str] | None, typer.Option(help="NAME=COMMAND with {audio} and {out}.")] = None,
    ending: Annotated[list[str] | None, typer.Option(help="NAME=mid where a peer writes MIDI.")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="Ours, also a file. Default: base, small.")] = None,
    latency_ms: Annotated[float, typer.Option(callback=finite, help="Total latency of ours.")] = 100,
    classes: ClassesOption = "five",
) -> None:
    """Measure transcribers side by side; print a table, and one line of JSON."""
    if sys.platform == "win32":
        raise UsageError("peers needs the CPU time of other commands, which Windows does not tell; use Linux or macOS")
    found = _peers(_named("peer", peer or ()), _named("ending", ending or ()))
    ours = [_ours(model, latency_ms) for model in engine or ("base", "small")]
    wanted = references(labels)
    for track, each in wanted.items():
        check_labels(labels, track, each, classes)
    recordings = labelled_recordings(audio, labels, wanted)
    rows = [measure(each, recordings, wanted, classes) for each in [*ours, *found]]
    sys.stdout.write(as_markdown(rows))
    sys.stdout.write(json.dumps({"card": machine_card(), "rows": [asdict(row) for row in rows]}) + "\n")


def measure(peer: Peer, recordings: Mapping[str, Path], wanted: Mapping[str, Any], classes: str) -> Row:
    """Run a transcriber over all recordings. Raises InputError or EngineError with its own message where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        silence = Path(folder) / "silence.wav"
        soundfile.write(silence, np.zeros(44100, np.float32), 44100)
        began = time.perf_counter()
        _run(peer, silence, Path(folder) / f"silence.{peer.ending}")
        start_s = time.perf_counter() - began
        speed = matrix_product_gflops()
        cpu_s, found = 0.0, {}
        for name, path in recordings.items():
            out = Path(folder) / f"{name}.{peer.ending}"
            cpu_s += _run(peer, path, out)
            found[name] = labels_of(_written(peer, out))
            check_labels(f"hits of {peer.name}", name, found[name], classes)
        longest = max(recordings.values(), key=lambda path: soundfile.info(str(path)).duration)
        command = peer.words(longest, Path(folder) / f"peak.{peer.ending}")
        peak_mb = peak_memory_mb(command, environment=os.environ | ONE_THREAD)
    audio_s = sum(soundfile.info(str(path)).duration for path in recordings.values())
    results = {window_s: score(found, wanted, window_s=window_s, group=classes)["micro"] for window_s in WINDOWS_S}
    return Row(
        peer.name,
        {f"{1000 * window_s:g}": result["F"] for window_s, result in results.items()},
        results[WINDOWS_S[0]]["mean_abs_ms"],
        cpu_s / audio_s,
        cpu_s / audio_s * speed,
        start_s,
        peak_mb,
        peer.latency_ms,
    )


def as_markdown(rows: Sequence[Row]) -> str:
    """A table, one line per transcriber."""
    lines = [
        "| transcriber | latency | F 50 ms | F 25 ms | error | CPU per s of audio | GFLOP-eq | start | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        latency = "whole file" if r.latency_ms is None else f"{r.latency_ms:g} ms"
        error = "-" if r.mean_abs_ms is None else f"{r.mean_abs_ms:.1f} ms"
        memory = "-" if r.peak_mb is None else f"{r.peak_mb:.0f} MB"
        lines.append(
            f"| {cell(r.name)} | {latency} | {r.f['50']:.3f} | {r.f['25']:.3f} | {error} | {1000 * r.cpu_per_s:.1f} ms "
            f"| {r.gflop_equivalents:.2f} | {r.start_s:.2f} s | {memory} |"
        )
    return "\n".join(lines) + "\n\n"


def _peers(commands: Mapping[str, str], endings: Mapping[str, str]) -> list[Peer]:
    """Raises UsageError for commands that cannot be run, and for endings of none of them."""
    if unknown := sorted(set(endings) - set(commands)):
        raise UsageError(
            f"--ending {', '.join(unknown)}: no such --peer; expected one of {', '.join(commands) or 'none'}"
        )
    found = [Peer(name, command, endings.get(name, "txt")) for name, command in commands.items()]
    for peer in found:
        try:
            program, *_ = shlex.split(peer.command)
        except ValueError as error:
            raise UsageError(f"--peer {peer.name}: not a command line ({error}): {peer.command}") from None
        if not {"{audio}", "{out}"} <= set(PLACES.findall(peer.command)):
            raise UsageError(f"--peer {peer.name}: expected a command with {{audio}} and {{out}}, found {peer.command}")
        if PLACES.search(program) is None and shutil.which(program) is None:
            raise UsageError(f"--peer {peer.name}: no command {program} here; install it, or give its path")
    return found


def _ours(model: str, latency_ms: float) -> Peer:
    """Ours at the largest total latency of its own within `latency_ms`. Raises UsageError where it has none."""
    command = OURS.replace("{model}", shlex.quote(model)).replace("{latency}", f"{latency_ms:g}")
    manifest = open_engine(model).manifest
    return Peer(f"ghostnote {model}", command, "txt", manifest.total_latency_ms(manifest.delay_for_latency(latency_ms)))


def _run(peer: Peer, audio: Path, out: Path) -> float:
    """CPU seconds, of the command and its children, on one thread."""
    before = _children_cpu_s()
    try:
        done = subprocess.run(peer.words(audio, out), env=os.environ | ONE_THREAD, capture_output=True, check=False)
    except OSError as error:  # a script that does not say what runs it
        raise InputError(f"{peer.name} cannot be started: {error.strerror}; name what runs it in its command") from None
    if done.returncode:
        message = (done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f"{peer.name} failed on {audio} with exit code {done.returncode}: {message}")
    return _children_cpu_s() - before


def _written(peer: Peer, out: Path) -> list[Note]:
    """The hits in what it wrote. Raises InputError: a peer that wrote nothing has not said that there are no hits."""
    if not out.exists():
        raise InputError(
            f"{peer.name} ended well and wrote no {out}; check where its command has {{out}}, or what --ending it needs"
        )
    return read_notes(out)


def _children_cpu_s() -> float:
    import resource  # not on Windows, where `peers` says so

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _named(option: str, items: Iterable[str]) -> dict[str, str]:
    """Values by name. Raises UsageError for what is not NAME=VALUE, and for a name that comes twice."""
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not value:
            raise UsageError(f"'{item}': expected NAME=VALUE")
        if name in found:
            raise UsageError(f"--{option} {name} is given twice; give each a name of its own")
        found[name] = value
    return found


def main() -> None:
    """Run the command with the exit codes of docs/architecture.md."""
    try:
        typer.run(peers)
    except GhostnoteError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
