"""What `export-model` prints: the plan, and at the end a card of what was made, compared, and left to do."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..runtime.manifest import Manifest
from ..runtime.terminal import plain
from .parity import ParityReport
from .pipeline import Artifact
from .request import Request

__all__ = ["show_card", "show_parity", "show_plan"]


def show_plan(lines: Sequence[str]) -> None:
    """The stages to come."""
    console = _console()
    console.print("Plan", style="bold")
    for line in lines:
        console.print(plain(f"  {line}"), soft_wrap=True)


def show_card(artifacts: Sequence[Artifact], request: Request) -> None:
    """Parity of every artifact, the files, how they are called, and the next command to run."""
    for artifact in artifacts:
        if artifact.report:
            show_parity(artifact.report, artifact.manifest.precision)
    console = _console()
    console.print(_files(artifacts))
    for line in _signature(artifacts[-1].manifest):
        console.print(plain(line))
    for artifact in artifacts:
        for remark in artifact.remarks:
            console.print(plain(f"{artifact.path.name}: {remark}"), soft_wrap=True)
    console.print(plain(f"Next: {_next(artifacts[-1], request)}"), soft_wrap=True)


def show_parity(report: ParityReport, precision: str) -> None:
    """The table of outputs, the hits, and how differences went over a long stream."""
    console = _console()
    title = f"Parity of {precision}, {report.chunks} live chunks, recordings, {report.drift_s:.0f} s of stream"
    caption = plain(f"by {report.executed_by}", "table.caption")
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for column in ("output", "max |diff|", "mean |diff|", "tolerance", ""):
        table.add_column(column, justify="left" if column == "output" else "right", no_wrap=True)
    for row in report.outputs:
        table.add_row(
            plain(row.name), f"{row.max_abs:.1e}", f"{row.mean_abs:.1e}", f"{row.tolerance:.1e}", _verdict(row.passed)
        )
    console.print(table)
    hits, tolerance = report.hits, report.tolerance
    console.print(
        f"hits: {hits.same} of {hits.reference} the same, {hits.ties} decided by a tie, {hits.unexplained} different; "
        f"F {hits.f:.4f} (at least {tolerance.hits_f:g}) {_verdict(hits.f >= tolerance.hits_f)}; velocities differ by "
        f"{hits.mean_velocity_difference:.4f} (at most {tolerance.velocity:g}) "
        f"{_verdict(hits.mean_velocity_difference <= tolerance.velocity)}",
        highlight=False,
        soft_wrap=True,
    )
    if report.drift:
        spans = " ".join(f"{value:.1e}" for value in report.drift)
        console.print(
            f"drift: mean |diff| of the logits, tenths of the stream: {spans}", highlight=False, soft_wrap=True
        )


def _verdict(passed: bool) -> str:
    return "[green]PASS[/green]" if passed else "[red]FAIL[/red]"


def _files(artifacts: Sequence[Artifact]) -> Table:
    table = Table(title="Artifacts", title_justify="left")
    for column in ("file", "size", "products by type", "verified"):
        table.add_column(column, overflow="fold")
    for artifact in artifacts:
        table.add_row(
            plain(artifact.path),
            _size(artifact.path),
            plain(_products(artifact)),
            "yes" if artifact.manifest.verified else "no",
        )
    return table


def _size(path: Path) -> str:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"


def _products(artifact: Artifact) -> str:
    return ", ".join(
        f"{kind}: " + " + ".join(f"{count} {operator}" for operator, count in operators.items())
        for kind, operators in artifact.products.items()
    )


def _signature(manifest: Manifest) -> list[str]:
    m = manifest
    kinds: dict[str, list[str]] = {}
    for name in m.states:
        kinds.setdefault(name.rstrip("0123456789"), []).append(name)
    states = ", ".join(_state(m, names) for names in kinds.values())
    frames = f"T*{m.frames_per_token}"
    return [
        f"inputs:  audio [B, T*{m.samples_per_token}] float32, delay [B, 1] int64 (0..{len(m.delays_ms) - 1})",
        f"outputs: onset_logits, velocity, offset [B, {frames}, {m.n_classes}] float32",
        f"states:  {states}; NAME_out goes back in as NAME, zeros begin a stream",
    ]


def _state(m: Manifest, names: list[str]) -> str:
    """One state, or those of all layers, which are alike."""
    first, last = names[0], names[-1]
    shape = ", ".join(map(str, m.states[first]))
    return f"{first if first == last else f'{first} to {last}'} [B, {shape}] {m.state_type(first)}"


def _next(artifact: Artifact, request: Request) -> str:
    """The command that most users want to run now."""
    last, quoted = artifact.path, shlex.quote(str(artifact.path))
    if last.is_dir():
        return f"tritonserver --model-repository {shlex.quote(str(last.parent))}"
    if last.suffix == ".plan" and not artifact.manifest.verified:
        return f"ghostnote inspect {quoted}; copy it with its .json to a machine that has the GPU"
    if last == request.graph and not request.precision.on_cpu:
        original = shlex.quote(str(request.float32))
        return f"export-model {original} --target tensorrt --precision {request.precision}, on the GPU's machine"
    return f"rt-transcribe --engine {quoted} input.wav"


def _console() -> Console:
    return Console()
