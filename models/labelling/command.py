"""`ghostnote label-recordings`: a model's hits beside recordings that nobody labelled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ...runtime.errors import InputError, UsageError
from ...runtime.files import text_file

__all__ = ["label_recordings"]


def label_recordings(
    checkpoint: Annotated[Path, typer.Argument(help="The model that labels.")],
    folder: Annotated[Path, typer.Argument(help="Recordings; NAME.csv is written beside each.")],
    *,
    licence: Annotated[str, typer.Option(help="Of the recordings: told by whatever is trained on them.")],
) -> None:
    """Label recordings by a model, to train another on them: `ghostnote train --corpus heard=FOLDER`.

    A recording with a NAME.csv is left as it is, so that an interrupted run goes on with the same model.
    """
    from ...runtime.input.audio import read_audio
    from ...runtime.output.writers import write_hits
    from .. import checkpoint as checkpoints
    from ..corpora.folders import AUDIO_SUFFIXES, audio_by_stem
    from ..corpora.heard import FACTS_FILE
    from .teacher import Teacher

    recordings = audio_by_stem(folder)
    if not recordings:
        raise InputError(f"{folder}: holds no recordings; expected {', '.join(sorted(AUDIO_SUFFIXES))}")
    loaded = checkpoints.load(checkpoint, kind=None)
    _tell(folder / FACTS_FILE, {"licence": licence, "labelled_by": loaded.weights_sha256()})
    teacher = Teacher(loaded)
    for name, path in recordings.items():
        labels = folder / f"{name}.csv"
        if not labels.exists():
            hits = teacher.hits(read_audio(path, teacher.manifest.sample_rate))
            write_hits(hits, labels, teacher.manifest)
            typer.echo(f"{name}: {len(hits)} hits")


def _tell(path: Path, facts: Mapping[str, str]) -> None:
    """Write down what is true of all labels of the folder. Raises UsageError where other facts stand there."""
    text = json.dumps(facts, indent=1) + "\n"
    if path.exists() and path.read_bytes() != text.encode():
        raise UsageError(
            f"{path} tells of labels by other weights, or of another licence; give the same ones, or remove it "
            "together with the labels beside it"
        )
    with text_file(path) as write:
        write(text)
