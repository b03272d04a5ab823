"""`ghostnote evaluate`: transcribe labelled recordings, or take estimates already made, and score them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...runtime.errors import InputError, OutputError, UsageError
from .scores import GROUPS, Labels, read_folder, score

if TYPE_CHECKING:
    from rich.console import Console

    from ...runtime.engine import Engine

__all__ = ["audio_files", "engine_for", "estimate", "evaluate", "references"]


def evaluate(
    audio_dir: Annotated[Path, typer.Argument(help="Recordings NAME.*, or estimates already made, NAME.txt.")],
    labels_dir: Annotated[Path, typer.Argument(help="References NAME.txt: lines of seconds and label.")],
    engine: Annotated[Path | None, typer.Option(help="A .onnx or .pt file. Default: the bundled model.")] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Largest total latency. Default: most accurate.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 1,
    estimates: Annotated[Path | None, typer.Option(help="Write what was found to this folder, NAME.txt.")] = None,
    window: Annotated[list[float] | None, typer.Option(help="Seconds; may be repeated. Default: .05 .025")] = None,
    classes: Annotated[str, typer.Option(help="five, three or all (18).")] = "five",
    adtof: Annotated[bool, typer.Option("--adtof", help="Count side-stick and clap as snare.")] = False,
    tracks: Annotated[str, typer.Option(help="Names of the tracks to score, A,B. Default: all.")] = "",
    per_track: Annotated[bool, typer.Option("--per-track", help="Show F of every track.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
) -> None:
    """Score an engine, or a folder of estimates, against labelled recordings: F per class, pooled, and timing."""
    group = _group(classes, adtof=adtof)
    wanted = references(labels_dir, tracks)
    audio = audio_files(audio_dir, wanted)
    if audio:
        opened = engine_for(engine, threads)
        found = {name: estimate(opened, path, latency_ms) for name, path in _progress(audio)}
        about = _about(opened, latency_ms)
    else:
        if engine or latency_ms is not None:
            raise UsageError(
                f"{audio_dir} holds estimates, no recordings of these tracks; leave out the engine's options"
            )
        found = read_folder(audio_dir, wanted)
        about = {"estimates": str(audio_dir)}
    if estimates:
        _write_estimates(estimates, found)
    results = [score(found, wanted, window_s=seconds, group=group) for seconds in window or (0.05, 0.025)]
    _show(results, about, per_track=per_track)
    if json_file:
        _write(json_file, json.dumps({**about, "classes": group, "results": results}, indent=1) + "\n")


def engine_for(path: Path | None, threads: int = 1) -> Engine:
    """Open a model: a checkpoint (.pt) on PyTorch, anything else as the runtime does."""
    if path is not None and path.suffix == ".pt":
        from ..checkpoint import load
        from ..torch_engine import TorchEngine

        return TorchEngine.of(load(path))
    from ...runtime.engine import open_engine

    return open_engine(path, threads=threads)


def estimate(engine: Engine, recording: Path, latency_ms: float | None = None) -> list[tuple[float, str]]:
    """Transcribe a recording: (seconds, class code), sorted; times in whole microseconds, as label files hold them."""
    from ...runtime.job import transcribe_file

    hits = transcribe_file(recording, engine, latency_ms=latency_ms)
    return sorted((float(f"{hit.time_s:.6f}"), hit.code) for hit in hits)


def _group(classes: str, *, adtof: bool) -> str:
    group = f"{classes}-adtof" if adtof else classes
    if group not in GROUPS:
        hint = "--adtof goes with five classes only" if classes in GROUPS else "choose five, three or all"
        raise UsageError(f"cannot score classes '{group}'; {hint}")
    return group


def references(labels_dir: Path, tracks: str = "") -> dict[str, list[tuple[float, str]]]:
    """Labels of the named tracks (A,B), or of all. Raises InputError where there are none."""
    wanted = {name for name in tracks.split(",") if name}
    found = read_folder(labels_dir, wanted)
    if missing := sorted(wanted - set(found)):
        raise InputError(f"{labels_dir}: no references for {', '.join(missing)}")
    if not found:
        raise InputError(f"{labels_dir}: holds no label files NAME.txt")
    return found


def audio_files(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """The recording of each track; none at all where the folder holds estimates."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected recordings NAME.* or estimates NAME.txt")
    wanted = set(names)
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.stem in wanted and path.suffix != ".txt"}
    missing = sorted(wanted - set(files))
    if files and missing:
        raise InputError(f"{folder}: no recordings of {', '.join(missing)}")
    return files


def _about(engine: Engine, latency_ms: float | None) -> dict[str, Any]:
    """What produced the estimates; an accuracy without its latency says nothing."""
    manifest = engine.manifest
    index = manifest.default_delay if latency_ms is None else manifest.delay_for_latency(latency_ms)
    return {
        "engine": engine.describe(),
        "weights_sha256": manifest.weights_sha256,
        "total_latency_ms": manifest.total_latency_ms(index),
    }


def _progress(audio: Mapping[str, Path]) -> Iterable[tuple[str, Path]]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    items = list(audio.items())
    return track(items, "Transcribing", console=console, disable=not console.is_terminal, transient=True)


def _write_estimates(folder: Path, found: Mapping[str, Labels]) -> None:
    for name, labels in found.items():
        _write(folder / f"{name}.txt", "".join(f"{time_s:.6f}\t{label}\n" for time_s, label in labels))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None


def _show(results: list[dict[str, Any]], about: Mapping[str, Any], *, per_track: bool) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    source = about.get("engine") or f"estimates in {about['estimates']}"
    latency = f", total latency {about['total_latency_ms']:g} ms" if "total_latency_ms" in about else ""
    console.print(f"{source}{latency}", soft_wrap=True)
    for result in results:
        _show_result(console, result)
        if per_track:
            for name, f in result["tracks"].items():
                console.print(f"  {name:24s} {f:.3f}")


def _show_result(console: Console, result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=f"±{1000 * result['window_s']:g} ms, {len(result['tracks'])} tracks", title_justify="left")
    for column in ("class", "n", "P", "R", "F", "|error| ms", "median ms"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for name, row in [*result["classes"].items(), ("pooled", result["micro"])]:
        rates = [f"{row[key]:.3f}" for key in "PRF"]
        timing = ["-" if row[key] is None else f"{row[key]:.1f}" for key in ("mean_abs_ms", "median_ms")]
        table.add_row(
            name, str(row["tp"] + row["fn"]), *rates, *timing, end_section=name == list(result["classes"])[-1]
        )
    console.print(table)
    console.print(f"mean of per-track F {result['mean_track_F']:.3f}")
