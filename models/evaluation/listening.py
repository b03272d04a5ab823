"""A blind listening test as one HTML file: does a listener tell two versions of an excerpt apart, and which is nearer?

Hits are played again by our synthesiser, the same kit for every system; what differs is what the systems heard. Two
questions, asked in trials of random order:
  ABX         X is A or B; which? (Can listeners tell them apart at all.)
  preference  which of A and B is nearer to the recording? (Which is better; needs two systems.)
Which version is A, and which trial comes when, is drawn by the browser, so that nobody knows before the answer.
Audio is mono float32 [N] at 44.1 kHz, embedded as Ogg Vorbis, all versions of an excerpt at equal RMS.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...runtime.errors import InputError, UsageError
from ...runtime.events import Hit
from ...runtime.output.writers import format_for
from ...runtime.pairing import same_hits
from ..data.drums.synthesiser import Layers, synthesise_kit
from ..data.packed import ATTACK_SAMPLE
from .notes import read_notes
from .scores import code_of_label

__all__ = ["MODES", "SAMPLE_RATE", "Excerpt", "choose_windows", "matched_rms", "page", "read_hits", "replay"]

SAMPLE_RATE = 44100
MODES = ("abx", "preference")
TEMPLATE = Path(__file__).with_name("listening.html")

DEFAULT_VELOCITY = 0.75  # of hits from a format without velocities
SOFTEST_DB = 30.0  # a hit of velocity 0 lies this far under one of velocity 1
CHOKE_S = 0.03  # an open hi-hat fades out over this time when the hi-hat is struck again
HIHATS = frozenset({"CHH", "PHH", "OHH"})
# What is played for labels that do not say which; a reference in five classes can be listened to, too.
PLAYED_FOR = {"HH": "CHH", "TT": "MT", "CY": "CRC"}

LOUDEST_RMS = 0.1  # -20 dBFS; less where a peak would clip
HIGHEST_PEAK = 0.95
FADE_S = 0.01
SAME_TIME_S = 0.02  # hits of two systems nearer than this, of one class, are the same hit
SAME_VELOCITY = 0.2


@dataclass(frozen=True)
class Excerpt:
    """One stretch of the recording in all versions: name -> mono samples [N], equally long and loud."""

    start_s: float
    versions: Mapping[str, np.ndarray]


# --- hits ---


def read_hits(path: Path) -> list[Hit]:
    """Hits of a file that our writers (or others) wrote: MIDI, JSON lines, CSV, Audacity labels, scorer text.

    Hits of no class of ours are left out; coarse labels are given to one class (`PLAYED_FOR`). Raises InputError for
    what cannot be read, UsageError for an unknown ending.
    """
    try:
        form = format_for(path)
    except UsageError:
        form = ""
    if form not in ("midi", "txt", *_PARSERS):
        raise UsageError(f"{path}: expected hits as .mid, .jsonl, .csv, .labels or .txt")
    if form in ("midi", "txt"):
        rows = [(note.time_s, note.label, note.velocity) for note in read_notes(path)]
    else:
        rows = _parsed(path, _PARSERS[form])
    hits = []
    for time_s, label, velocity in rows:
        code = code_of_label(label)
        code = PLAYED_FOR.get(code or "", code)
        if code is not None:
            hits.append(Hit(time_s, code, DEFAULT_VELOCITY if velocity is None else velocity, 1.0))
    return sorted(hits, key=lambda hit: hit.time_s)


Row = tuple[float, str, float | None]


def _json_rows(text: str) -> list[Row]:
    entries = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [(float(entry["time"]), str(entry["class"]), float(entry["velocity"])) for entry in entries]


def _csv_rows(text: str) -> list[Row]:
    entries = csv.DictReader(io.StringIO(text))
    return [(float(entry["time"]), entry["class"], float(entry["velocity"])) for entry in entries]


def _audacity_rows(text: str) -> list[Row]:
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    return [(float(row[0]), row[2], None) for row in rows]


_PARSERS: dict[str, Callable[[str], list[Row]]] = {"jsonl": _json_rows, "csv": _csv_rows, "labels": _audacity_rows}


def _parsed(path: Path, parse: Callable[[str], list[Row]]) -> list[Row]:
    try:
        rows = parse(path.read_text(encoding="utf-8-sig"))
        if wrong := [row for row in rows if not np.isfinite([row[0], row[2] or 0]).all()]:
            raise ValueError(f"time {wrong[0][0]}, velocity {wrong[0][2]}")
        return rows
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except KeyError as error:
        raise InputError(f"{path}: not hits as ghostnote writes them (no {error})") from None
    except (ValueError, IndexError, TypeError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise InputError(f"{path}: not hits as ghostnote writes them ({error})") from None


# --- sound ---


def replay(hits: Sequence[Hit], samples: int, kit: Mapping[str, Layers] | int) -> np.ndarray:
    """The hits played by a synthesised kit (or the one of a seed): float32 [samples].

    A hit's attack lies at sample round(time * 44100). Velocity chooses the layer and sets its level.
    """
    sounds = synthesise_kit(np.random.default_rng([kit, 79]), SAMPLE_RATE) if isinstance(kit, int) else kit
    audio = np.zeros(samples, np.float32)
    ordered = sorted(hits, key=lambda hit: hit.time_s)
    next_hat: int | None = None
    ends: list[int | None] = []
    for hit in reversed(ordered):
        ends.append(next_hat if hit.code == "OHH" else None)
        next_hat = round(hit.time_s * SAMPLE_RATE) if hit.code in HIHATS else next_hat
    for hit, end in zip(ordered, reversed(ends), strict=True):
        sound = _struck(sounds[hit.code], hit.velocity)
        start = round(hit.time_s * SAMPLE_RATE) - ATTACK_SAMPLE
        _add(audio, sound if end is None else _choked(sound, end - start), start)
    return audio


def _struck(layers: Layers, velocity: float) -> np.ndarray:
    """The layer nearest to a velocity, at the velocity's level re the loudest layer."""
    loudest = max(float(np.abs(wave).max()) for _, wave in layers)
    _, wave = min(layers, key=lambda layer: abs(layer[0] - velocity))
    level = loudest * 10 ** (-SOFTEST_DB * (1 - min(max(velocity, 0.0), 1.0)) / 20)
    return wave * np.float32(level / float(np.abs(wave).max()))


def _choked(sound: np.ndarray, length: int) -> np.ndarray:
    fade = int(CHOKE_S * SAMPLE_RATE)
    cut = sound[: max(length, 0) + fade].copy()
    tail = cut[max(length, 0) :]
    tail *= np.linspace(1, 0, fade, dtype=np.float32)[: len(tail)]
    return cut


def _add(audio: np.ndarray, sound: np.ndarray, start: int) -> None:
    first, last = max(start, 0), min(start + len(sound), len(audio))
    if first < last:
        audio[first:last] += sound[first - start : last - start]


def matched_rms(versions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All versions at one RMS, as loud as allowed without clipping any; silence stays silence."""
    levels = {name: float(np.sqrt(np.mean(np.square(audio)))) for name, audio in versions.items()}
    crests = [float(np.abs(audio).max()) / levels[name] for name, audio in versions.items() if levels[name] > 0]
    target = min(LOUDEST_RMS, HIGHEST_PEAK / max(crests, default=1.0))
    return {name: audio * np.float32(target / levels[name] if levels[name] else 0) for name, audio in versions.items()}


# --- excerpts ---


def choose_windows(
    systems: Sequence[Sequence[Hit]], duration_s: float, length_s: float, count: int, rng: np.random.Generator
) -> list[float]:
    """Starts in seconds of up to `count` windows, drawn among those worth listening to.

    They lie side by side, but for the last, which ends with the recording.

    With two systems: windows in which they differ, since the same hits sound the same. With one: windows with hits.
    Raises UsageError where there is none.
    """
    windows = max(1, math.ceil(duration_s / length_s - 1e-6))
    starts = np.minimum(np.arange(windows) * length_s, max(0.0, duration_s - length_s))
    times = np.array(_differences(*systems) if len(systems) == 2 else [hit.time_s for hit in systems[0]])
    worth = [float(start) for start in starts if np.any((times >= start) & (times < start + length_s))]
    if not worth:
        reason = "the two systems report the same hits" if len(systems) == 2 else "there are no hits"
        raise UsageError(f"nothing to compare: {reason} in all {len(starts)} excerpts of {length_s:g} s")
    chosen = rng.permutation(len(worth))[:count]
    return sorted(worth[i] for i in chosen)


def _differences(one: Sequence[Hit], other: Sequence[Hit]) -> list[float]:
    """Times of the hits that only one of two systems has, or has at another velocity."""
    pairs, alone = same_hits(one, other, SAME_TIME_S)
    unlike = [hit for pair in pairs if abs(pair[0].velocity - pair[1].velocity) > SAME_VELOCITY for hit in pair]
    return [hit.time_s for hit in (*alone, *unlike)]


def cut(versions: Mapping[str, np.ndarray], start_s: float, length_s: float) -> Excerpt:
    """A window of every version, faded at its ends, matched in RMS."""
    first, samples = round(start_s * SAMPLE_RATE), round(length_s * SAMPLE_RATE)
    ramp = np.linspace(0, 1, int(FADE_S * SAMPLE_RATE), dtype=np.float32)
    pieces = {}
    for name, audio in versions.items():
        piece = audio[first : first + samples].copy()
        piece = np.pad(piece, (0, samples - len(piece)))
        piece[: len(ramp)] *= ramp
        piece[len(piece) - len(ramp) :] *= ramp[::-1]
        pieces[name] = piece
    return Excerpt(start_s, matched_rms(pieces))


# --- page ---


def page(
    recording: np.ndarray,
    systems: Mapping[str, Sequence[Hit]],
    *,
    title: str,
    modes: Sequence[str] = MODES,
    trials: int = 12,
    length_s: float = 6.0,
    seed: int = 0,
) -> str:
    """The HTML of a test on a recording, mono [N], with the hits of one or two systems by name.

    `trials` of each mode. `seed` draws excerpts and kit. With one system, the recording itself is the other version,
    and the only mode is ABX.
    """
    rng = np.random.default_rng([seed, 80])
    original = "the recording"
    versions = {original: recording}
    versions |= {name: replay(hits, len(recording), seed) for name, hits in systems.items()}
    wanted = [mode for mode in modes if mode == "abx" or len(systems) == 2]
    if not wanted:
        raise UsageError("a preference needs two systems to choose from; name the other's hits with --against")
    starts = choose_windows(list(systems.values()), len(recording) / SAMPLE_RATE, length_s, trials, rng)
    excerpts = [cut(versions, start_s, length_s) for start_s in starts]
    compared = list(systems) if len(systems) == 2 else [original, *systems]
    data = {
        "schema": 1,
        "title": title,
        "modes": wanted,
        "trials": [
            {"mode": mode, "excerpt": int(number)}
            for mode in wanted
            for number in np.resize(rng.permutation(len(excerpts)), trials)
        ],
        "excerpts": [_embedded(excerpt, original, compared, rng) for excerpt in excerpts],
        "length_s": length_s,
        "secret": _hidden({"names": compared, "seed": seed}),
    }
    return TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/null", _script_safe(data))


def _embedded(excerpt: Excerpt, original: str, compared: Sequence[str], rng: np.random.Generator) -> dict[str, object]:
    """Plain data of an excerpt: its two versions in random order, which is which hidden from a reader's eye."""
    order = [int(i) for i in rng.permutation(2)]
    return {
        "start_s": excerpt.start_s,
        "clips": [_ogg(excerpt.versions[compared[i]]) for i in order],
        "order": _hidden(order),
        "original": _ogg(excerpt.versions[original]) if original not in compared else None,
    }


def _hidden(value: object) -> str:
    """Not encryption: keeps a glance at the source from telling which version is which."""
    return base64.b64encode(json.dumps(value).encode()).decode()


def _script_safe(data: object) -> str:
    return json.dumps(data).replace("<", "\\u003c")


def _ogg(audio: np.ndarray) -> str:
    """Ogg Vorbis as base64."""
    import soundfile

    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", SAMPLE_RATE, 1, format="OGG", subtype="VORBIS") as sink:
        for first in range(0, len(audio), SAMPLE_RATE):  # libsndfile overruns its stack on long Vorbis blocks
            sink.write(audio[first : first + SAMPLE_RATE])
    return base64.b64encode(file.getvalue()).decode()
