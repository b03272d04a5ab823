"""`ghostnote listen`: a blind listening test of a transcription, or of two against each other, as one HTML file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ...runtime.errors import UsageError
from ...runtime.files import check_page, spare, text_file

__all__ = ["listen"]


def listen(
    recording: Annotated[Path, typer.Argument(help="What was transcribed: an audio file.")],
    hits: Annotated[Path, typer.Option(help="Hits found in it: .mid .jsonl .csv .labels or .txt.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write, .html.")],
    against: Annotated[Path | None, typer.Option(help="Another system's hits. Default: the recording itself.")] = None,
    mode: Annotated[str, typer.Option(help="abx, preference (needs --against) or both.")] = "both",
    trials: Annotated[int, typer.Option(min=1, help="Trials of each mode.")] = 12,
    excerpt_s: Annotated[float, typer.Option(min=1.0, help="Length of an excerpt in seconds.")] = 6.0,
    seed: Annotated[int, typer.Option(min=0, help="Draws the excerpts and the kit.")] = 0,
) -> None:
    """Write a page for listeners: excerpts in random order, versions unnamed, answers saved as JSON."""
    from ...runtime.input.audio import read_audio
    from .listening import MODES, SAMPLE_RATE, page, read_hits

    if mode not in (*MODES, "both"):
        raise UsageError(f"unknown mode {mode!r}; expected {', '.join(MODES)} or both")
    if not math.isfinite(excerpt_s):
        raise UsageError(f"--excerpt-s {excerpt_s:g}: expected seconds")
    check_page("--out", out)
    files = [("recording", recording), ("hits", hits), *([("other system's hits", against)] if against else [])]
    spare([out], files)
    systems = {str(path): read_hits(path) for path in (hits, against) if path is not None}
    if against is not None and len(systems) < 2:
        raise UsageError(f"{hits} is compared with itself; name another file with --against")
    with text_file(out) as write:
        audio = read_audio(recording, SAMPLE_RATE)
        html = page(
            audio,
            systems,
            title=recording.name,
            modes=MODES if mode == "both" else (mode,),
            trials=trials,
            length_s=min(excerpt_s, len(audio) / SAMPLE_RATE),
            seed=seed,
        )
        write(html)
    typer.echo(f"{out}: {len(html) / 1e6:.1f} MB; open it in a browser")
