"""All figures of an evaluation as plain data, ready for JSON: what the report draws and what `--json` writes.

Letters: K thresholds, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...runtime.manifest import Manifest
from ...runtime.vocabulary import five_class
from .bootstrap import paired_bootstrap
from .confusion import FAMILIES, confusion
from .curves import THRESHOLDS, curve_of
from .hearing import Heard, Listener, Source, WholeFile, at_threshold, hear, notes_at, stream
from .notes import Note, labels_of, matched
from .scores import LabelError, class_names, classes_of, match, rates, score, track_counts
from .timing import emission_times, timing_errors
from .velocity import velocity_errors, velocity_f

__all__ = [
    "Findings",
    "Rules",
    "Track",
    "analyse",
    "compare",
    "forgiven",
    "gap",
    "groups_for",
    "have_velocity",
    "listen",
]

NoteSets = Mapping[str, Sequence[Note]]

FEWEST_HITS = 20  # of a class that counts in `frequent`
_FREQUENT = "pooled F, frequent classes of 18"
LIMIT_MS = 100.0  # the total latency that "live" is judged at
FORGIVING_S = 0.05  # an estimate this near to an ignored hit is neither right nor wrong


@dataclass(frozen=True)
class Rules:
    """What counts as a hit found. The first group and window are those of every figure that has only one.

    groups: ways of grouping classes, keys of `GROUPS`. windows_s: seconds. labelled: classes that the corpus labels,
    see `class_names`; empty means all.
    """

    groups: tuple[str, ...] = ("five",)
    windows_s: tuple[float, ...] = (0.05, 0.025)
    labelled: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """The first group."""
        return self.groups[0]

    @property
    def window_s(self) -> float:
        """The first window."""
        return self.windows_s[0]

    def names(self, group: str) -> tuple[str, ...]:
        """The classes of a group that count."""
        return class_names(group, self.labelled)

    def counts(
        self, estimates: NoteSets, references: NoteSets, group: str, window_s: float | None = None
    ) -> np.ndarray:
        """[tracks, C, (tp, estimates, references)]."""
        window_s = window_s or self.window_s
        return track_counts(
            _labels(estimates), _labels(references), window_s=window_s, group=group, labelled=self.labelled
        )

    def scores(self, estimates: NoteSets, references: NoteSets, group: str) -> list[dict[str, Any]]:
        """One result of `score` per window."""
        both = _labels(estimates), _labels(references)
        return [score(*both, window_s=w, group=group, labelled=self.labelled) for w in self.windows_s]

    def pairs(self, estimates: NoteSets, references: NoteSets) -> list[tuple[str, Note, Note]]:
        """Matched hits of all tracks: (class, reference, estimate)."""
        names = self.names(self.group)
        return [
            pair
            for track, notes in references.items()
            for pair in matched(notes, estimates[track], names, self.group, self.window_s)
        ]


@dataclass(frozen=True)
class Track:
    """Something to transcribe with its references; `ignored` hits are too faint to be missed or falsely found."""

    name: str
    source: Source
    references: Sequence[Note]
    ignored: Sequence[Note] = ()


@dataclass
class Findings:
    """What an engine reported: hits by track, and the figures that need more than one transcription."""

    references: NoteSets = field(default_factory=dict)
    estimates: NoteSets = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


def groups_for(group: str, *sides: NoteSets) -> tuple[str, ...]:
    """The group asked for, and all 18 classes where the labels of every side are fine enough."""
    try:
        for notes in (notes for side in sides for notes in side.values()):
            classes_of(labels_of(notes), "all")
    except LabelError:
        return (group,)
    return tuple(dict.fromkeys((group, "all")))


def listen(engine: Listener, tracks: Iterable[Track], delay: int, rules: Rules, *, thorough: bool) -> Findings:
    """Transcribe every track at a delay; `thorough`: also at all others, at all thresholds, and live.

    Its figures are then `curves`, `delays` and `emission`; of a whole-file model, which has no latency, `curves` alone.
    """
    manifest = engine.manifest
    references: dict[str, Sequence[Note]] = {}
    by_delay: list[dict[str, Sequence[Note]]] = [{} for _ in manifest.delays_ms]
    live: dict[str, Sequence[Note]] = {}
    swept = {group: np.zeros((len(THRESHOLDS), len(rules.names(group)), 3), int) for group in rules.groups}
    for track in tracks:
        references[track.name] = track.references
        for d in range(len(by_delay)) if thorough else [delay]:
            heard = hear(engine, track.source, d)
            by_delay[d][track.name] = forgiven(notes_at(heard, manifest, d), track)
            if thorough and d == delay:
                _sweep(swept, heard, track, manifest, delay, rules)
        if thorough and not isinstance(engine, WholeFile):
            live[track.name] = forgiven(stream(engine, track.source, delay), track)
    found = Findings(references, by_delay[delay])
    if thorough:
        found.figures["curves"] = {g: _curves(counts, found, rules, g) for g, counts in swept.items()}
    if thorough and not isinstance(engine, WholeFile):
        found.figures["delays"] = _delays(by_delay, references, manifest, rules)
        latency_ms = manifest.total_latency_ms(delay)
        hits = [note for notes in live.values() for note in notes]
        found.figures["emission"] = emission_times(hits, rules.pairs(live, references), latency_ms)
    return found


def analyse(
    estimates: NoteSets, references: NoteSets, rules: Rules, velocities: NoteSets | None = None
) -> dict[str, Any]:
    """What one list of hits per track tells: scores, timing, velocity, confusions.

    Velocity is compared with `velocities`, or with the references where they have any. Raises LabelError where an
    estimate is missing.
    """
    fine = "all" in rules.groups
    struck = {t: notes for t, notes in (velocities or references).items() if have_velocity({t: notes})}
    return {
        "tracks": len(references),
        "window_s": rules.window_s,
        "group": rules.group,
        "scores": {group: rules.scores(estimates, references, group) for group in rules.groups},
        "frequent": _frequent(rules.counts(estimates, references, "all").sum(0), rules.names("all")) if fine else None,
        "timing": timing_errors(rules.pairs(estimates, references), rules.window_s),
        "velocity": _velocity(estimates, struck, rules) if struck and have_velocity(estimates) else None,
        "confusion": _confusions(estimates, references, rules) if fine else None,
    }


def compare(ours: NoteSets, theirs: NoteSets, references: NoteSets, rules: Rules) -> list[dict[str, Any]]:
    """Paired bootstrap against a second system, for every window."""
    return [
        {"window_s": window_s}
        | paired_bootstrap(
            rules.counts(ours, references, rules.group, window_s),
            rules.counts(theirs, references, rules.group, window_s),
            rules.names(rules.group),
        )
        for window_s in rules.windows_s
    ]


def gap(recordings: Mapping[str, Any], renders: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures that both analyses have of the same classes, side by side."""
    columns = [_headlines(recordings), _headlines(renders)]
    frequent = [(analysis["frequent"] or {}).get("classes") for analysis in (recordings, renders)]
    return [
        {"figure": name, "recordings": columns[0][name], "renders": columns[1][name]}
        for name in columns[0]
        if columns[0][name] is not None and columns[1].get(name) is not None
        if name != _FREQUENT or frequent[0] == frequent[1]
    ]


def _headlines(analysis: Mapping[str, Any]) -> dict[str, float | None]:
    """A few numbers of an analysis by name."""
    results = analysis["scores"][analysis["group"]]
    figures: dict[str, float | None] = {f"pooled F, ±{1000 * r['window_s']:g} ms": r["micro"]["F"] for r in results}
    figures |= {f"F of {n}": row["F"] for n, row in results[0]["classes"].items() if row["tp"] + row["fn"]}
    figures[_FREQUENT] = (analysis["frequent"] or {}).get("F")
    figures["mean absolute timing error, ms"] = analysis["timing"].get("mean_abs_ms")
    velocity = (analysis["velocity"] or {}).get("classes", {}).get("pooled", {})
    return figures | {"velocity, mean absolute error": velocity.get("mean_abs"), "velocity, r": velocity.get("r")}


def _sweep(
    swept: dict[str, np.ndarray], heard: Heard, track: Track, manifest: Manifest, delay: int, rules: Rules
) -> None:
    """Add a track's counts at every threshold to [K, C, 3] per group."""
    for k, threshold in enumerate(THRESHOLDS):
        notes = forgiven(notes_at(heard, at_threshold(manifest, threshold), delay), track)
        for group, counts in swept.items():
            counts[k] += rules.counts({track.name: notes}, {track.name: track.references}, group)[0]


def _curves(swept: np.ndarray, found: Findings, rules: Rules, group: str) -> dict[str, Any]:
    chosen = rules.counts(found.estimates, found.references, group).sum(0)
    return curve_of(swept, THRESHOLDS, rules.names(group), chosen)


def _delays(by_delay: Sequence[NoteSets], references: NoteSets, manifest: Manifest, rules: Rules) -> dict[str, Any]:
    """Scores at every delay; the best of all, and the best within `LIMIT_MS`, by F at the first window."""
    rows: list[dict[str, Any]] = [
        {
            "delay_ms": manifest.delays_ms[d],
            "total_latency_ms": manifest.total_latency_ms(d),
            "windows": [_row(result) for result in rules.scores(notes, references, rules.group)],
        }
        for d, notes in enumerate(by_delay)
    ]
    within = [row for row in rows if row["total_latency_ms"] <= LIMIT_MS]
    best, best_within = (max(some, key=lambda row: row["windows"][0]["F"], default=None) for some in (rows, within))
    return {"rows": rows, "best": best, "limit_ms": LIMIT_MS, "best_within_limit": best_within}


def _row(result: Mapping[str, Any]) -> dict[str, Any]:
    """The pooled rates of a result, and F by class."""
    micro = {key: result["micro"][key] for key in ("P", "R", "F", "mean_abs_ms")}
    return {"window_s": result["window_s"], **micro, "classes": {n: row["F"] for n, row in result["classes"].items()}}


def _frequent(counts: np.ndarray, names: Sequence[str]) -> dict[str, Any] | None:
    """Pooled rates over the classes with enough references, from counts [C, 3]; None where no class has."""
    enough = counts[:, 2] >= FEWEST_HITS
    if not enough.any():
        return None
    tp, estimates, wanted = counts[enough].sum(0).tolist()
    chosen = [name for name, kept in zip(names, enough, strict=True) if kept]
    return {"fewest_hits": FEWEST_HITS, "classes": chosen} | rates(tp, estimates - tp, wanted - tp)


def _velocity(estimates: NoteSets, references: NoteSets, rules: Rules) -> dict[str, Any]:
    names = rules.names(rules.group)
    errors = velocity_errors(rules.pairs(estimates, references), names)
    return errors | {"transcription_velocity": velocity_f(estimates, references, names, rules.group, rules.window_s)}


def have_velocity(tracks: NoteSets) -> bool:
    """Whether any of the notes says how hard it was struck."""
    return any(note.velocity is not None for notes in tracks.values() for note in notes)


def _confusions(estimates: NoteSets, references: NoteSets, rules: Rules) -> dict[str, Any]:
    """A table per family of which the references hold a hit."""
    names = rules.names("all")
    found = classes_of((label for notes in references.values() for label in labels_of(notes)), "all")
    families = {title: [code for code in codes if code in names] for title, codes in FAMILIES.items()}
    return {
        title: confusion(estimates, references, codes, rules.window_s)
        for title, codes in families.items()
        if found & set(codes)
    }


def forgiven(notes: Sequence[Note], track: Track) -> list[Note]:
    """Without the estimates that belong to an ignored hit: those near it that no counted reference explains.

    Kinds of drum, not classes: what is too faint to be heard is too faint to be told from its kin.
    """
    if not track.ignored:
        return list(notes)
    dropped: set[Note] = set()
    for kind in {_kind(note) for note in track.ignored}:
        est, ref, faint = (
            sorted({n for n in some if _kind(n) == kind}, key=lambda n: n.time_s)
            for some in (notes, track.references, track.ignored)
        )
        explained = {e for _, e in _near(ref, est)}
        rest = [note for i, note in enumerate(est) if i not in explained]
        dropped |= {rest[e] for _, e in _near(faint, rest)}
    return [note for note in notes if note not in dropped]


def _near(references: Sequence[Note], estimates: Sequence[Note]) -> list[tuple[int, int]]:
    return match(np.array([n.time_s for n in references]), np.array([n.time_s for n in estimates]), FORGIVING_S)


def _kind(note: Note) -> str:
    """The five-class name of a class code, or the code itself."""
    return five_class(note.label) or note.label


def _labels(sets: NoteSets) -> dict[str, list[tuple[float, str]]]:
    return {track: labels_of(notes) for track, notes in sets.items()}
