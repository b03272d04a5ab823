"""`ghostnote evaluate`: transcribe labelled recordings, or take estimates already made, and score them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ...runtime.engines.opening import open_engine
from ...runtime.engines.protocol import Engine
from ...runtime.errors import InputError, OutputError, UsageError
from .analysis import Findings, Rules, Track, analyse, compare, gap, groups_for, listen
from .hearing import Listener, Source, WholeFile
from .notes import Note, labels_of, read_note_folder
from .scores import GROUPS
from .summary import show

__all__ = ["about", "audio_files", "delay_for", "engine_for", "estimate", "evaluate", "references"]


def evaluate(
    audio_dir: Annotated[
        Path | None, typer.Argument(help="Recordings NAME.*, or estimates already made, NAME.txt.")
    ] = None,
    labels_dir: Annotated[Path | None, typer.Argument(help="References NAME.txt or NAME.mid.")] = None,
    corpus: Annotated[str, typer.Option(help="KIND=FOLDER: a published corpus instead (docs/training.md).")] = "",
    split: Annotated[str | None, typer.Option(help="Split of the corpus. Default: all.")] = None,
    sound: Annotated[str, typer.Option("--audio", help="Which audio of the corpus: drums or mix.")] = "drums",
    engine: Annotated[Path | None, typer.Option(help="A .onnx or .pt file, or bundled: base (default), small.")] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Largest total latency. Default: most accurate.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 1,
    estimates: Annotated[Path | None, typer.Option(help="Write what was found to this folder, NAME.txt.")] = None,
    window: Annotated[list[float] | None, typer.Option(help="Seconds; may be repeated. Default: .05 .025")] = None,
    classes: Annotated[str, typer.Option(help="five, three or all (18).")] = "five",
    adtof: Annotated[bool, typer.Option("--adtof", help="Count side-stick and clap as snare.")] = False,
    labelled: Annotated[str, typer.Option(help="Classes that the corpus labels, BD,SD,... Default: all.")] = "",
    tracks: Annotated[str, typer.Option(help="Names of the tracks to score, A,B. Default: all.")] = "",
    per_track: Annotated[bool, typer.Option("--per-track", help="Show F of every track.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with every figure to this file, .html.")] = None,
    velocities: Annotated[Path | None, typer.Option(help="References with velocities, where LABELS have none.")] = None,
    against: Annotated[Path | None, typer.Option(help="Estimates NAME.txt of a second system to compare with.")] = None,
    renders: Annotated[int, typer.Option(min=0, help="Score this many validation renders, too.")] = 0,
    kits: Annotated[Path | None, typer.Option(help="Kits folder of the renders.")] = None,
    grooves: Annotated[Path | None, typer.Option(help="Grooves folder of the renders.")] = None,
    backing: Annotated[Path | None, typer.Option(help="Backing folder of the renders.")] = None,
    recipe: Annotated[
        str, typer.Option(help="Recipe of the renders: plain, solo, production, or a TOML file.")
    ] = "production",
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded sounds and MIDI.")] = None,
) -> None:
    """Score an engine, or a folder of estimates, against labelled recordings: F per class, pooled, and timing."""
    rules = Rules((_group(classes, adtof=adtof),), tuple(window or (0.05, 0.025)), _list(labelled))
    rules.names(rules.group)  # refuses classes that do not exist before anything is transcribed
    if corpus or split:
        wanted, audio, rules = _of_corpus(corpus, split, sound, audio_dir, labels_dir, tracks, rules)
    else:
        wanted, audio = _inputs(audio_dir, labels_dir, tracks, optional=renders > 0)
    rules = replace(rules, groups=groups_for(rules.group, wanted))
    if audio_dir and not audio and (engine or latency_ms is not None or renders):
        raise UsageError(
            f"{audio_dir} holds estimates, no recordings of these tracks; leave out the engine's options and --renders"
        )
    system = _System.open(engine, threads, latency_ms) if audio or renders else None
    document: dict[str, Any] = about(system.engine, system.delay) if system else {"estimates": str(audio_dir)}
    document |= {"corpus": corpus, "classes": rules.group, "labelled": list(rules.labelled)}
    if wanted:
        others = {folder: _complete(folder, wanted) for folder in (velocities, against) if folder}
        if system:
            items = [Track(name, path, wanted[name]) for name, path in audio.items()]
            found = system.listen(items, rules, "Transcribing", thorough=bool(report))
        else:
            found = Findings(wanted, read_note_folder(audio_dir, wanted))
        if estimates:
            _write_estimates(estimates, found.estimates)
        analysis = analyse(found.estimates, wanted, rules, others.get(velocities)) | found.figures
        document |= {"results": analysis["scores"][rules.group], "recordings": analysis}
        if against:
            compared = compare(found.estimates, others[against], wanted, rules)
            document["against"] = {"estimates": str(against), "results": compared}
    if renders and system:
        sources = {"kits": kits, "grooves": grooves, "backing": backing, "cache": cache}
        document |= {"recipe": recipe} | _score_renders(system, sources, recipe, renders, rules, thorough=bool(report))
        if wanted:
            document["gap"] = gap(document["recordings"], document["renders"])
    show(document, per_track=per_track)
    if json_file:
        _write(json_file, json.dumps(document, indent=1) + "\n")
    if report:
        from .report import page

        _write(report, page(document))


@dataclass(frozen=True)
class _System:
    """An engine at one of its delays."""

    engine: Listener
    delay: int

    @classmethod
    def open(cls, path: Path | None, threads: int, latency_ms: float | None) -> _System:
        opened = engine_for(path, threads)
        return cls(opened, delay_for(opened, latency_ms))

    def listen(self, tracks: Iterable[Track], rules: Rules, what: str, *, thorough: bool, total: int = 0) -> Findings:
        """`analysis.listen` with a progress bar on a terminal."""
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        shown = track(tracks, what, total or None, console=console, disable=not console.is_terminal, transient=True)
        return listen(self.engine, shown, self.delay, rules, thorough=thorough)


def _score_renders(
    system: _System, sources: Mapping[str, Path | None], recipe: str, clips: int, rules: Rules, *, thorough: bool
) -> dict[str, Any]:
    """Validation renders, scored with the same code; every class is labelled there."""
    from .renders import rendered_tracks

    rules = Rules(tuple(dict.fromkeys((rules.group, "all"))), rules.windows_s)
    items = rendered_tracks(system.engine.manifest, sources, recipe, clips)
    found = system.listen(items, rules, "Rendering", thorough=thorough, total=clips)
    return {"renders": analyse(found.estimates, found.references, rules) | found.figures}


def _of_corpus(
    corpus: str,
    split: str | None,
    sound: str,
    audio_dir: Path | None,
    labels_dir: Path | None,
    tracks: str,
    rules: Rules,
) -> tuple[dict[str, list[Note]], dict[str, Source], Rules]:
    """References, recordings (none where `audio_dir` holds estimates), and the rules narrowed to what is labelled."""
    if not corpus or labels_dir:
        raise UsageError(
            "--corpus KIND=FOLDER brings labels and splits; give it without LABELS_DIR, and --split with it"
        )
    from .corpus_tracks import corpus_tracks

    chosen = corpus_tracks(corpus, split=split, kind=sound, names=_list(tracks))
    group = "five-adtof" if chosen.adtof and rules.group == "five" else rules.group
    narrowed = replace(rules, groups=(group,), labelled=rules.labelled or chosen.labelled)
    return chosen.references, {} if audio_dir else chosen.audio, narrowed


def _inputs(
    audio_dir: Path | None, labels_dir: Path | None, tracks: str, *, optional: bool
) -> tuple[dict[str, list[Note]], Mapping[str, Source]]:
    """References and recordings by track; no recordings where the folder holds estimates."""
    if audio_dir is None and optional:
        return {}, {}
    if audio_dir is None or labels_dir is None:
        raise UsageError("nothing to score; give recordings (or estimates) and their labels, or --renders N")
    wanted = read_references(labels_dir, tracks)
    return wanted, audio_files(audio_dir, wanted)


def engine_for(path: Path | None, threads: int = 1) -> Listener:
    """Open a model: a checkpoint (.pt) of any kind on PyTorch, anything else as the runtime does."""
    if path is not None and path.suffix == ".pt":
        from ..checkpoint import load
        from ..kinds import STREAMING
        from ..torch_engine import TorchEngine

        loaded = load(path, kind=None)
        return TorchEngine.of(loaded) if loaded.config.kind == STREAMING else WholeFile(loaded)
    return open_engine(path, threads=threads)


def delay_for(engine: Listener, latency_ms: float | None) -> int:
    """Index of the delay that `--latency-ms` asks for. Raises UsageError where none meets it."""
    manifest = engine.manifest
    if latency_ms is None:
        return manifest.default_delay
    if isinstance(engine, WholeFile):
        raise UsageError(f"model '{manifest.name}' hears the whole file and has no latency; leave out --latency-ms")
    return manifest.delay_for_latency(latency_ms)


def about(engine: Listener, delay: int) -> dict[str, Any]:
    """What produces the estimates; an accuracy without its latency (None: whole file) says nothing."""
    manifest = engine.manifest
    return {
        "engine": engine.describe(),
        "weights_sha256": manifest.weights_sha256,
        "total_latency_ms": None if isinstance(engine, WholeFile) else manifest.total_latency_ms(delay),
    }


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
    return {name: labels_of(notes) for name, notes in read_references(labels_dir, tracks).items()}


def read_references(labels_dir: Path, tracks: str = "") -> dict[str, list[Note]]:
    """Notes of the named tracks (A,B), or of all. Raises InputError where there are none."""
    found = _complete(labels_dir, _list(tracks))
    if not found:
        raise InputError(f"{labels_dir}: holds no references NAME.txt or NAME.mid")
    return found


def _complete(folder: Path, wanted: Iterable[str]) -> dict[str, list[Note]]:
    """Notes of all the wanted tracks (none: of all there are). Raises InputError where one is missing."""
    found = read_note_folder(folder, wanted)
    if missing := sorted(set(wanted) - set(found)):
        raise InputError(f"{folder}: no labels for {', '.join(missing)}")
    return found


def _list(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


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


def _write_estimates(folder: Path, found: Mapping[str, Sequence[Note]]) -> None:
    for name, notes in found.items():
        lines = [
            f"{note.time_s:.6f}\t{note.label}" + ("" if note.velocity is None else f"\t{note.velocity:.4f}") + "\n"
            for note in notes
        ]
        _write(folder / f"{name}.txt", "".join(lines))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
