"""The options of `ghostnote evaluate`, as typer reads them, and what they ask for. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ...runtime.engines.options import ThreadsOption
from ...runtime.errors import UsageError
from ...runtime.files import check_page, spare
from ..source_options import SourceOptions
from .analysis import Rules
from .scores import GROUPS

__all__ = ["CorpusOptions", "ListenerOptions", "RenderOptions", "ResultOptions", "ScoringOptions", "listed"]


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """A published corpus in place of two folders."""

    corpus: Annotated[str, typer.Option(help="KIND=FOLDER: a published corpus instead (docs/training.md).")] = ""
    split: Annotated[str | None, typer.Option(help="Split of the corpus. Default: all.")] = None
    sound: Annotated[str, typer.Option("--audio", help="Which audio of the corpus: drums or mix.")] = "drums"

    def check(self, labels_dir: Path | None) -> None:
        """Raise UsageError unless there is a corpus, and nothing else that brings labels."""
        if not self.corpus or labels_dir:
            raise UsageError(
                "--corpus KIND=FOLDER brings labels and splits; give it without LABELS_DIR, and --split with it"
            )


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """What hears."""

    engine: Annotated[Path | None, typer.Option(help="A .onnx or .pt file, or bundled: base (default), small.")] = None
    latency_ms: Annotated[float | None, typer.Option(help="Largest total latency. Default: most accurate.")] = None
    threads: ThreadsOption = 1


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """What counts as a hit found, and what is compared with what."""

    window: Annotated[list[float] | None, typer.Option(help="Seconds; may be repeated. Default: .05 .025")] = None
    classes: Annotated[str, typer.Option(help="five, three or all (18).")] = "five"
    adtof: Annotated[bool, typer.Option("--adtof", help="Count side-stick and clap as snare.")] = False
    labelled: Annotated[str, typer.Option(help="Classes that the corpus labels, BD,SD,... Default: all.")] = ""
    tracks: Annotated[str, typer.Option(help="Names of the tracks to score, A,B. Default: all.")] = ""
    velocities: Annotated[Path | None, typer.Option(help="References with velocities, where LABELS have none.")] = None
    against: Annotated[Path | None, typer.Option(help="Estimates NAME.txt of a second system to compare with.")] = None

    def rules(self) -> Rules:
        """Raises UsageError for classes and windows that make no sense, before anything is transcribed."""
        windows_s = tuple(self.window or (0.05, 0.025))
        if not all(0 < window_s < math.inf for window_s in windows_s):  # NaN neither
            raise UsageError(f"--window {' '.join(f'{w:g}' for w in windows_s)}: expected seconds above 0, such as .05")
        rules = Rules((self._group(),), windows_s, listed(self.labelled))
        rules.names(rules.group)
        return rules

    def _group(self) -> str:
        group = f"{self.classes}-adtof" if self.adtof else self.classes
        if group not in GROUPS:
            hint = "--adtof goes with five classes only" if self.classes in GROUPS else "choose five, three or all"
            raise UsageError(f"cannot score classes '{group}'; {hint}")
        return group


@dataclass(frozen=True, slots=True)
class RenderOptions(SourceOptions):
    """Validation renders to score, too, and where they come from."""

    renders: Annotated[int, typer.Option(min=0, help="Score this many validation renders, too.")] = 0


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """Where the result goes."""

    estimates: Annotated[Path | None, typer.Option(help="Write what was found to this folder, NAME.txt.")] = None
    per_track: Annotated[bool, typer.Option("--per-track", help="Show F of every track.")] = False
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None
    report: Annotated[Path | None, typer.Option(help="Write a page with every figure to this file, .html.")] = None

    def check(self, tracks: Iterable[str], read: Iterable[tuple[str, Path]]) -> None:
        """Raise UsageError where a result would replace what is read: (what it is, its name) of each file."""
        check_page("--report", self.report)
        found = [self.estimates / f"{name}.txt" for name in tracks] if self.estimates else []
        spare([*found, *filter(None, (self.json_file, self.report))], read)


def listed(text: str) -> tuple[str, ...]:
    """A,B as ("A", "B")."""
    return tuple(name for name in text.split(",") if name)
