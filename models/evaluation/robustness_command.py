"""`ghostnote robustness`: an engine's score on recordings after codecs, band limits, clipping, rooms and the like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ...runtime.errors import InputError
from ...runtime.files import text_file
from ...runtime.option_groups import flattened
from ...runtime.terminal import plain
from .options import ListenerOptions
from .scores import known_group

__all__ = ["robustness"]

WINDOW_S = 0.05
VIEWS = ("tone", "attack", "wave")  # rows that are there, if empty, for engines whose views cannot be silenced


@flattened
def robustness(
    audio_dir: Annotated[Path, typer.Argument(help="Recordings NAME.*")],
    labels_dir: Annotated[Path, typer.Argument(help="References NAME.txt or NAME.mid.")],
    *,
    hearing: ListenerOptions,
    classes: Annotated[str, typer.Option(help="five, three or all (18).")] = "five",
    tracks: Annotated[str, typer.Option(help="Names of the tracks to score, A,B. Default: all.")] = "",
    backing: Annotated[
        Path | None, typer.Option(help="Notes with backing.csv to demix from; none: synthesised ones.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded notes.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write all numbers to this file, .json.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Show the table as Markdown.")] = False,
) -> None:
    """Score an engine after each channel that a recording may have gone through: F and its drop, at +-50 ms."""
    from . import robustness as measure
    from .channels import channels, music
    from .hearing import WholeFile
    from .inputs import audio_files, read_references
    from .opening import about, delay_for, engine_for

    group = known_group(classes)
    wanted = read_references(labels_dir, tracks)
    audio = audio_files(audio_dir, wanted)
    if not audio:
        raise InputError(f"{audio_dir}: holds no recordings of {', '.join(sorted(wanted))}")
    listener = engine_for(hearing.engine, hearing.threads)
    delay = delay_for(listener, hearing.latency_ms)
    path = hearing.engine
    has_views = path is not None and path.suffix == ".pt" and not isinstance(listener, WholeFile)
    blinded: Mapping[str, Any] = measure.without_views(path) if path and has_views else {}
    with text_file(out) as write:
        rows = measure.table(
            listener,
            blinded or dict.fromkeys(VIEWS),
            measure.recordings(audio, wanted, listener.manifest.sample_rate),
            channels(backing, cache),
            delay,
            window_s=WINDOW_S,
            group=group,
            watch=_tell,
        )
        _tell("music without drums")
        false = measure.hits_per_minute(listener, music(backing, cache), delay)
        facts = about(listener, delay) | {
            "hits_per_minute_without_drums": false,
            "window_s": WINDOW_S,
            "classes": group,
            "tracks": sorted(wanted),
        }
        write(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    _show(facts, rows, as_markdown=as_markdown)


def _tell(name: str) -> None:
    """The row that begins, on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        console.print(plain(f"  {name}", "dim"))


def _show(facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, as_markdown: bool) -> None:
    from .robustness import figures, markdown
    from .timing import latency_text

    heading = (
        f"{facts['engine']}, {latency_text(facts['total_latency_ms'])}, "
        f"±{1000 * facts['window_s']:g} ms, {len(facts['tracks'])} tracks"
    )
    false = f"In music without drums: {facts['hits_per_minute_without_drums']:.1f} hits per minute."
    if as_markdown:
        typer.echo(f"{heading}\n\n{markdown(rows)}\n{false}")
        return
    from rich.console import Console
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row.get("classes", ())))
    shown = Table()
    for column in ("channel", "F", "drop", "P", "R", *names):
        shown.add_column(column, justify="left" if column == "channel" else "right", no_wrap=True)
    for row in rows:
        shown.add_row(row["channel"], *figures(row, names))
    console = Console(highlight=False)
    console.print(plain(heading), soft_wrap=True)
    console.print(shown)
    console.print(plain(false))
    for row in rows:
        if "not_available" in row:
            console.print(plain(f"{row['channel']}: {row['not_available']}"), soft_wrap=True)
