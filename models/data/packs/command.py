"""`ghostnote import-sounds`: a SoundFont, a drum kit of Hydrogen, or recordings without drums, for the renderer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["import_sounds"]


def import_sounds(
    source: Annotated[
        Path,
        typer.Argument(
            help="General MIDI SoundFont (.sf2, .sf3), a Hydrogen drum kit's folder, or a folder of recordings without "
            "drums: speech, songs, stems of other instruments."
        ),
    ],
    out_dir: Annotated[Path, typer.Argument(help="Folder whose kits/ and backing/ are added to.")],
    *,
    name: Annotated[str, typer.Option(help="Short name, with which kits, instruments and recordings begin.")],
    licence: Annotated[str, typer.Option(help="The sounds' licence, which becomes a column of the tables.")],
) -> None:
    """Add sounds to a data folder; `--kits OUT/kits --backing OUT/backing` then play them, too.

    Drum sounds that the folder holds already are left out: fonts share recordings.
    """
    from ..music.passages import TABLE
    from .hydrogen import KIT_FILE, hydrogen_sounds
    from .pack import Recordings, write_pack
    from .passages import passages

    kits, backing = out_dir / "kits", out_dir / "backing"
    if source.is_dir() and not (source / KIT_FILE).exists():
        count = write_pack(backing, TABLE, passages(source, name), licence)
        typer.echo(f"{count} recordings without drums in {out_dir}")
        return
    recordings, notes = Recordings(kits), 0
    if source.is_dir():
        strokes = write_pack(kits, "kits.csv", hydrogen_sounds(source, name, recordings), licence)
    else:
        from .soundfont import SoundFont, drum_sounds, instrument_notes

        synth = SoundFont(source)
        strokes = write_pack(kits, "kits.csv", drum_sounds(synth, name, recordings), licence)
        notes = write_pack(backing, "backing.csv", instrument_notes(synth, name), licence)
    typer.echo(f"{strokes} strokes of drums and {notes} notes of instruments in {out_dir}")
