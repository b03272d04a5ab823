"""`ghostnote evaluate`: transcribe labelled recordings, or take estimates already made, and score them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...runtime.errors import InputError, UsageError
from ...runtime.files import make_folder, text_file
from ...runtime.option_groups import flattened
from .analysis import Findings, Rules, Track, analyse, compare, gap, groups_for, have_velocity, listen
from .hearing import Listener, Source
from .inputs import audio_files, check_labels, complete, read_references
from .notes import Note, labels_of, read_note_folder
from .opening import about, delay_for, engine_for
from .options import CorpusOptions, ListenerOptions, RenderOptions, ResultOptions, ScoringOptions, listed
from .summary import show

if TYPE_CHECKING:
    from ..data.dataset import Sources

__all__ = ["evaluate"]


@flattened
def evaluate(
    audio_dir: Annotated[
        Path | None, typer.Argument(help="Recordings NAME.*, or estimates already made, NAME.txt.")
    ] = None,
    labels_dir: Annotated[Path | None, typer.Argument(help="References NAME.txt or NAME.mid.")] = None,
    *,
    origin: CorpusOptions,
    hearing: ListenerOptions,
    scoring: ScoringOptions,
    rendering: RenderOptions,
    results: ResultOptions,
) -> None:
    """Score an engine, or a folder of estimates, against labelled recordings: F per class, pooled, and timing."""
    for library in ("mir_eval", *(["matplotlib"] if results.report else [])):
        importlib.import_module(library)  # one that is missing is told before the work that it is needed after
    task = _Task.of(audio_dir, labels_dir, origin, scoring, optional=rendering.renders > 0)
    if audio_dir and not task.audio and (hearing.engine or hearing.latency_ms is not None or rendering.renders):
        raise UsageError(
            f"{audio_dir} holds estimates, no recordings of these tracks; leave out the engine's options and --renders"
        )
    system = _System.open(hearing) if task.audio or rendering.renders else None
    sources = rendering.sources() if rendering.renders else None
    results.check(task.wanted, _files_read(audio_dir, labels_dir, origin, hearing, scoring))
    if results.estimates:
        make_folder(results.estimates)
    with text_file(results.json_file) as write_json, text_file(results.report) as write_report:
        document: dict[str, Any] = system.about() if system else {"estimates": str(audio_dir)}
        document |= {"corpus": origin.corpus, "classes": task.rules.group, "labelled": list(task.rules.labelled)}
        thorough = results.report is not None
        if task.wanted:
            document |= _score_recordings(task, system, audio_dir, scoring, results.estimates, thorough=thorough)
        if sources and system:
            rendered, alike = _score_renders(system, sources, rendering.renders, task.rules, thorough=thorough)
            document |= rendered
            if task.wanted:
                document["gap"] = gap(document["recordings"], alike)
        show(document, per_track=results.per_track)
        write_json(json.dumps(document, indent=1) + "\n")
        if thorough:
            from .report import page

            write_report(page(document))


def _files_read(
    audio_dir: Path | None,
    labels_dir: Path | None,
    origin: CorpusOptions,
    hearing: ListenerOptions,
    scoring: ScoringOptions,
) -> Iterator[tuple[str, Path]]:
    """What each file is that may be read, and its name; all that lies in the folders given."""
    folders = ((audio_dir, "input"), (labels_dir, "reference"), (scoring.velocities, "reference"))
    for folder, what in (*folders, (scoring.against, "other system's estimate")):
        yield from ((f"{what} {path.name}", path) for path in (folder.iterdir() if folder and folder.is_dir() else ()))
    if origin.corpus:
        yield from (("corpus's", path) for path in Path(origin.corpus.partition("=")[2]).rglob("*"))
    if hearing.engine:
        yield "model", hearing.engine


@dataclass(frozen=True)
class _Task:
    """What is to be found, in which recordings (none where estimates are given), and what counts."""

    wanted: dict[str, list[Note]]
    audio: Mapping[str, Source]
    rules: Rules

    @classmethod
    def of(
        cls,
        audio_dir: Path | None,
        labels_dir: Path | None,
        origin: CorpusOptions,
        scoring: ScoringOptions,
        *,
        optional: bool,
    ) -> _Task:
        """Read the references. Raises UsageError and InputError; nothing to score is allowed where `optional`."""
        rules = scoring.rules()
        if origin.corpus or origin.split:
            origin.check(labels_dir)
            task = cls._of_corpus(origin, has_estimates=audio_dir is not None, tracks=scoring.tracks, rules=rules)
        elif audio_dir is not None and labels_dir is not None:
            wanted = read_references(labels_dir, scoring.tracks)
            task = cls(wanted, audio_files(audio_dir, wanted), rules)
        elif audio_dir is None and optional:
            task = cls({}, {}, rules)
        else:
            raise UsageError("nothing to score; give recordings (or estimates) and their labels, or --renders N")
        for name, notes in task.wanted.items():
            check_labels(labels_dir or origin.corpus, name, labels_of(notes), task.rules.group)
        return replace(task, rules=replace(task.rules, groups=groups_for(task.rules.group, task.wanted)))

    @classmethod
    def _of_corpus(cls, origin: CorpusOptions, *, has_estimates: bool, tracks: str, rules: Rules) -> _Task:
        """The rules narrowed to what the corpus labels."""
        from .corpus_tracks import corpus_tracks

        chosen = corpus_tracks(origin.corpus, split=origin.split, kind=origin.sound, names=listed(tracks))
        group = "five-adtof" if chosen.adtof and rules.group == "five" else rules.group
        narrowed = replace(rules, groups=(group,), labelled=rules.labelled or chosen.labelled)
        return cls(chosen.references, {} if has_estimates else chosen.audio, narrowed)


@dataclass(frozen=True)
class _System:
    """An engine at one of its delays."""

    engine: Listener
    delay: int

    @classmethod
    def open(cls, options: ListenerOptions) -> _System:
        opened = engine_for(options.engine, options.threads)
        return cls(opened, delay_for(opened, options.latency_ms))

    def about(self) -> dict[str, Any]:
        """What it is and how late it may be."""
        return about(self.engine, self.delay)

    def listen(self, tracks: Iterable[Track], rules: Rules, what: str, *, thorough: bool, total: int = 0) -> Findings:
        """`analysis.listen` with a progress bar on a terminal."""
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        shown = track(tracks, what, total or None, console=console, disable=not console.is_terminal, transient=True)
        return listen(self.engine, shown, self.delay, rules, thorough=thorough)


def _score_recordings(
    task: _Task,
    system: _System | None,
    estimates_dir: Path | None,
    scoring: ScoringOptions,
    kept: Path | None,
    *,
    thorough: bool,
) -> dict[str, Any]:
    """The recordings' part of the document: the system's hits, or the estimates' in a folder; written to `kept`."""
    wanted, rules = task.wanted, task.rules
    others = {folder: complete(folder, wanted) for folder in (scoring.velocities, scoring.against) if folder}
    for folder, tracks in others.items():
        for name, notes in tracks.items():
            check_labels(folder, name, labels_of(notes), rules.group)
    if scoring.velocities and not have_velocity(others[scoring.velocities]):
        raise InputError(
            f"{scoring.velocities}: no velocities in its files; expected a third column, 0..1 or 1..127, or MIDI"
        )
    if task.audio and system:
        items = [Track(name, source, wanted[name]) for name, source in task.audio.items()]
        found = system.listen(items, rules, "Transcribing", thorough=thorough)
    else:
        assert estimates_dir is not None, "a task without recordings is one with estimates"
        found = Findings(wanted, read_note_folder(estimates_dir, wanted))
        rules = replace(rules, groups=groups_for(rules.group, wanted, found.estimates))
    if kept:
        _write_estimates(kept, found.estimates)
    velocities = others[scoring.velocities] if scoring.velocities else None
    analysis = analyse(found.estimates, wanted, rules, velocities) | found.figures
    scored: dict[str, Any] = {"results": analysis["scores"][rules.group], "recordings": analysis}
    if scoring.against:
        compared = compare(found.estimates, others[scoring.against], wanted, rules)
        scored["against"] = {"estimates": str(scoring.against), "results": compared}
    return scored


def _score_renders(
    system: _System, sources: Sources, clips: int, rules: Rules, *, thorough: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Validation renders, scored with the same code: the document's part, where every class is labelled, and the
    analysis of the classes that the recordings have labels of.
    """
    from .renders import rendered_tracks

    all_labelled = Rules(tuple(dict.fromkeys((rules.group, "all"))), rules.windows_s)
    items = rendered_tracks(system.engine.manifest.sample_rate, sources, clips)
    found = system.listen(items, all_labelled, "Rendering", thorough=thorough, total=clips)
    figures = analyse(found.estimates, found.references, all_labelled) | found.figures
    alike = analyse(found.estimates, found.references, rules) if rules.labelled else figures
    return {"recipe": sources.recipe.name, "renders": figures}, alike


def _write_estimates(folder: Path, found: Mapping[str, Sequence[Note]]) -> None:
    for name, notes in found.items():
        lines = [
            f"{note.time_s:.6f}\t{note.label}" + ("" if note.velocity is None else f"\t{note.velocity:.4f}") + "\n"
            for note in notes
        ]
        with text_file(folder / f"{name}.txt") as write:
            write("".join(lines))
