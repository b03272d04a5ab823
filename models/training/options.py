"""The options of `ghostnote train`, as typer reads them, and what they ask for. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..corpora import Recording
    from .steps import Recipe

__all__ = ["CourseOptions", "RecordingOptions"]


@dataclass(frozen=True, slots=True)
class CourseOptions:
    """How is trained; see `Recipe`."""

    steps: Annotated[int, typer.Option(min=1, help="Steps of the whole run (the schedule's length).")] = 8000
    one_delay_steps: Annotated[
        int, typer.Option(min=0, help="First steps that train total latency 100 ms only; later ones all latencies.")
    ] = 0
    margin_ms: Annotated[
        float, typer.Option(min=0, max=4, help="Attacks this little after a frame's start count as the one before.")
    ] = 0.0
    clips: Annotated[int, typer.Option(min=1, help="Clips per step, all processes together.")] = 8
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Peak of the schedule.")] = None
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16 (mixed precision).")] = "no"
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and data.")] = 0

    def recipe(self) -> Recipe:
        """What they name; what they do not is as `Recipe` has it."""
        from .steps import Recipe

        given = {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) is not None}
        return Recipe(**given)


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """Recordings to train on beside renders."""

    corpus: Annotated[
        list[str] | None, typer.Option(help="KIND=FOLDER: recordings to learn from, too; may be repeated.")
    ] = None
    corpus_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the batches that are recordings, with --corpus.")
    ] = 0.5

    def settings(self) -> dict[str, Any]:
        """What they make of `Sources`. Raises UsageError and InputError."""
        return {"corpora": _corpora(self.corpus or ()), "corpus_share": self.corpus_share}


def _corpora(specs: Sequence[str]) -> dict[str, list[Recording]]:
    """Recordings by kind of corpus: those of the split `train` where there is one, else all."""
    from ..corpora import corpus_folder, open_corpus

    corpora: dict[str, list[Recording]] = {}
    for spec in specs:
        kind, folder = corpus_folder(spec)
        found = open_corpus(kind, folder)
        corpora.setdefault(kind, []).extend([r for r in found if r.split == "train"] or found)
    return corpora
