"""A published corpus as `ghostnote evaluate` takes it: references, recordings, and the classes that count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...runtime.errors import InputError
from .hearing import Source
from .notes import Note

if TYPE_CHECKING:
    from ..corpora import Recording

__all__ = ["CorpusTracks", "corpus_tracks"]


@dataclass(frozen=True)
class CorpusTracks:
    """The tracks of a corpus by name.

    `labelled` are the classes that every track labels, codes and five-class names: others do not count. `adtof`: the
    snare holds side-stick and clap.
    """

    references: dict[str, list[Note]]
    audio: dict[str, Source]
    labelled: tuple[str, ...]
    adtof: bool


def corpus_tracks(
    spec: str, *, split: str | None = None, kind: str = "drums", names: Iterable[str] = ()
) -> CorpusTracks:
    """Read the corpus of KIND=FOLDER: its tracks, or those of `names`, that have audio of `kind` ("drums" or "mix").

    Recordings that are one file are given by their path, others as samples at 44.1 kHz.
    Raises UsageError for a spec that is none, InputError where there is nothing of that kind, split or name.
    """
    from ..corpora import corpus_folder, open_corpus
    from ..corpora.audio import duration_s, load_audio
    from ..data.packed import SAMPLE_RATE

    corpus, folder = corpus_folder(spec)
    found = open_corpus(corpus, folder, split)
    wanted = set(names)
    recordings = {r.name: r for r in found if kind in r.audio and (not wanted or r.name in wanted)}
    if missing := sorted(wanted - set(recordings)):
        raise InputError(f"{folder}: no {kind} of {', '.join(missing)}")
    if not recordings:
        kinds = sorted({name for recording in found for name in recording.audio})
        raise InputError(f"{folder}: no recording has {kind!r}; there is {' and '.join(kinds)}")
    audio: dict[str, Source] = {}
    for name, recording in recordings.items():
        sources = recording.audio[kind]
        if len(sources) == 1 and sources[0].gain == 1:
            audio[name] = sources[0].path
        else:
            samples = max(round(duration_s(source.path) * SAMPLE_RATE) for source in sources)
            audio[name] = load_audio(sources, SAMPLE_RATE, 0, samples)
    return CorpusTracks(
        {name: _notes(recording) for name, recording in recordings.items()},
        audio,
        tuple(sorted(frozenset.intersection(*(recording.labelled for recording in recordings.values())))),
        any(recording.adtof for recording in recordings.values()),
    )


def _notes(recording: Recording) -> list[Note]:
    """What certainly was struck. Estimates of doubtful hits count as mistakes: only a model's own labels have such."""
    return [Note(label.time_s, label.name, label.velocity) for label in recording.labels if label.certain]
