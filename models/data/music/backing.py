"""Accompaniment under a clip's drums: a small band of recorded instruments, with synthesised voices, organs and pads.

A negative and a mask: bass notes, strums, distorted guitars and consonants are no drums, and drums sound under them.
Waveforms are float32 mono at 44.1 kHz.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..packed import SAMPLE_RATE, at_speed, save_whole, to_int16
from . import accompaniment, band, outboard, voice
from .band import Note, Song
from .instruments import Blown, Instrument, Pluck, Tone, load_instruments, played
from .passages import Passages

__all__ = ["BackingShelf"]

PIECE_SAMPLES = 12 * SAMPLE_RATE
# Pieces that take longer to make than a clip to render, by kind: kept, and drawn by number. Enough that none is learnt
# by heart: in a course of 4000 batches a voice is heard about 20 times, always at another speed.
POOL = {"voice": 360, "organ": 48, "pad": 48, "mixed": 80}
SPEED = (0.85, 1.18)  # pieces are played slower and lower, or faster and higher, by a factor within
ROOM_SHARE = 0.6  # of clips: a room around the whole band
HALL_SHARE = 0.3  # of clips: a hall or a plate
MOVED = (-4, 4)  # semitones: the recorded note taken for a pitch, as from a larger or smaller instrument
IN_TIME_SHARE = 0.5  # of clips: the band plays with the drums; under the others at a tempo of its own
# Chance of a part and its level in dB under the band's loudest.
PARTS = {
    "bass": (0.85, 0), "chords": (0.7, -4), "arpeggio": (0.15, -6), "melody": (0.4, -4), "pad": (0.2, -9),
    "electric": (0.45, -1), "voice": (0.32, 0), "organ": (0.13, -6), "pluck": (0.13, -7), "mixed": (0.05, -3),
    "horns": (0.15, -3),
}  # fmt: skip
MOST_PARTS = 5
PASSAGE = "passage"  # of a recording, where the folder has some: a part of a band
LEVEL_DB = {part: level for part, (_, level) in PARTS.items()} | {PASSAGE: -1}
PASSAGE_SHARE, ALONE_SHARE = 0.3, 0.2  # of clips, and of these: it sounds without a band
FAMILIES = {
    "bass": ("bass",), "chords": ("piano", "epiano", "guitar", "organ"), "arpeggio": ("piano", "epiano", "guitar"),
    "melody": ("guitar", "piano", "epiano", "strings", "other"), "pad": ("strings", "pad"), "electric": ("guitar",),
    "organ": ("organ",), "horns": ("brass",),
}  # fmt: skip
# Of parts that are synthesised, too: how often recorded notes play them where the folder has some.
RECORDED_SHARE = {"pad": 0.6, "organ": 0.5, "horns": 0.6}


class BackingShelf:
    """Bands to draw from: the recorded notes and passages of a folder; synthesised instruments alone where it is None.

    Raises InputError where the folder has neither `backing.csv` nor `passages.csv`, or cannot read them.
    """

    def __init__(self, folder: Path | None, cache: Path | None = None):
        self._instruments = load_instruments(folder, cache) if folder else []
        self._passages = Passages(folder, cache) if folder else None
        self._pool = _saved_pool(cache) if cache else None

    def play(self, rng: np.random.Generator, hits: Sequence[tuple[float, str]], n_samples: int) -> np.ndarray:
        """Accompaniment float32 [n_samples] of any level to a drum performance: hits (seconds, class code)."""
        duration_s = n_samples / SAMPLE_RATE
        in_time = rng.random() < IN_TIME_SHARE and len(hits) >= 4
        song = Song(rng, hits if in_time else band.own_grid(rng, duration_s), duration_s)
        mix = np.zeros(n_samples, dtype=np.float32)
        for part in self._drawn_parts(rng):
            bus = outboard.strip(rng, self._part(rng, part, song, n_samples))
            gain = 10 ** ((LEVEL_DB[part] + rng.uniform(-6, 6)) / 20) / max(outboard.loudness(bus), 1e-6)
            bus *= np.float32(gain)
            mix += bus
        if rng.random() < ROOM_SHARE:
            outboard.in_a_room(rng, mix)
        return outboard.in_a_hall(rng, mix) if rng.random() < HALL_SHARE else mix

    def _drawn_parts(self, rng: np.random.Generator) -> list[str]:
        parts = _band(rng)
        if not self._passages or rng.random() >= PASSAGE_SHARE:
            return parts
        return [PASSAGE] if rng.random() < ALONE_SHARE else [*parts, PASSAGE]

    def _part(self, rng: np.random.Generator, part: str, song: Song, n_samples: int) -> np.ndarray:
        """One part alone, float32 [n_samples], any level."""
        if part == PASSAGE and self._passages:
            return outboard.tilted(rng, self._passages.play(rng, n_samples))
        owners = self._owners(part)
        recorded = bool(owners) and rng.random() < RECORDED_SHARE.get(part, 1.0)
        if part in POOL and not recorded:
            return self._piece(rng, part, song, n_samples)
        instrument: Tone
        if recorded:
            instrument = owners[rng.integers(len(owners))]
        else:
            instrument = Blown(rng) if part == "horns" else Pluck(rng)
        moved = int(rng.integers(MOVED[0], MOVED[1] + 1))
        if part == "electric":
            notes = _electric_notes(rng, song)
            return outboard.amplified(rng, played(notes, instrument, n_samples, 0.03, moved))
        notes = _notes(rng, part, instrument, song)
        bus = played(notes, instrument, n_samples, rng.uniform(0.02, 0.08) if part != "pad" else 0.3, moved)
        if rng.random() < 0.25:
            outboard.echoed(rng, bus)
        return outboard.tilted(rng, bus)

    def _owners(self, part: str) -> list[Instrument]:
        """The recorded instruments that play a part."""
        families = FAMILIES.get(part, ())
        return [i for i in self._instruments if i.family in families or (part == "electric" and "pastabass" in i.name)]

    def _piece(self, rng: np.random.Generator, kind: str, song: Song, n_samples: int) -> np.ndarray:
        """A piece of the pool, begun anywhere and repeated; half of the voices sing with the band instead."""
        number, speed = int(rng.integers(POOL[kind])), float(np.exp(rng.uniform(*np.log(SPEED))))
        if self._pool is not None:
            piece = self._pool[sum(POOL[k] for k in list(POOL)[: list(POOL).index(kind)]) + number]
        else:
            piece = _pool_piece(kind, number)
        piece = at_speed(piece, speed)
        if kind == "voice" and rng.random() < 0.5:
            return _sung_in_time(rng, piece, (_pool_syllables(number) / speed).astype(np.int64), song, n_samples)
        return np.resize(np.roll(piece, -int(rng.integers(len(piece)))), n_samples)


def _band(rng: np.random.Generator) -> list[str]:
    draws = rng.random(len(PARTS))
    parts = [part for part, draw in zip(PARTS, draws, strict=True) if draw < PARTS[part][0]] or ["bass"]
    dropped = rng.permutation(len(parts))[MOST_PARTS:]
    return [part for k, part in enumerate(parts) if k not in dropped]


def _electric_notes(rng: np.random.Generator, song: Song) -> list[Note]:
    style = rng.random()
    if style < 0.7:
        return band.power_chords(rng, song)
    return band.chords(rng, song, strummed=True) if style < 0.85 else band.melody(rng, song)


def _notes(rng: np.random.Generator, part: str, instrument: Tone, song: Song) -> list[Note]:
    if part == "bass":
        return band.bass_line(rng, song)
    if part == "chords":
        return band.chords(rng, song, strummed=isinstance(instrument, Instrument) and instrument.family == "guitar")
    if part == "pad":
        return band.chords(rng, song, held=True)
    if part == "organ":
        return band.chords(rng, song, held=rng.random() < 0.6)
    if part == "horns":
        return (band.stabs, band.chords, band.melody)[rng.integers(3)](rng, song)
    if part == "melody":
        return band.melody(rng, song)
    return band.arpeggio(rng, song)


def _sung_in_time(
    rng: np.random.Generator, piece: np.ndarray, syllables: np.ndarray, song: Song, n_samples: int
) -> np.ndarray:
    """A piece's syllables laid where the band plays, float32 [n_samples]: consonants just ahead of the moments."""
    bus = np.zeros(n_samples, dtype=np.float32)
    density = rng.uniform(0.2, 0.9)
    times = song.moments(rng, (density, density, 0.7 * density, rng.choice([0.0, density])), 0.14, on_changes=True)
    edge = int(0.006 * SAMPLE_RATE)
    k = int(rng.integers(len(syllables)))
    ends = np.append(syllables[1:, 0], len(piece))
    # The vowel or its consonant falls on the beat. A phrase goes on through the piece; a moment that comes too early
    # cuts the syllable before it.
    mark = int(rng.integers(2))
    for start, following in itertools.pairwise([*(times * SAMPLE_RATE).astype(int).tolist(), n_samples]):
        k = (k + 1) % len(syllables)
        first = int(syllables[k, 0])
        cut = piece[first : min(int(ends[k]), first + following - start)].copy()
        skipped = max(int(syllables[k, mark]) - first - start, 0)
        place = start - int(syllables[k, mark]) + first + skipped
        cut = cut[skipped : skipped + n_samples - place]
        if len(cut) > 2 * edge:
            outboard.fade_edges(cut, edge)
            bus[place : place + len(cut)] += cut
    return bus


_MAKERS = {
    "voice": voice.synthesise_voice, "organ": accompaniment.synthesise_organ, "pad": accompaniment.synthesise_pad,
    "mixed": accompaniment.synthesise_backing,
}  # fmt: skip


def _pool_rng(kind: str, number: int) -> np.random.Generator:
    return np.random.default_rng([number, list(POOL).index(kind), 78])


@functools.lru_cache(maxsize=100)
def _pool_piece(kind: str, number: int) -> np.ndarray:
    """12 s of a synthesised part, int16, by its kind and number alone: clip i is the same on every machine."""
    piece = _MAKERS[kind](_pool_rng(kind, number), PIECE_SAMPLES)
    outboard.fade_edges(piece, 1000)  # its end is followed by its beginning
    return to_int16(piece)


@functools.cache
def _pool_syllables(number: int) -> np.ndarray:
    return voice.syllable_starts(_pool_rng("voice", number), PIECE_SAMPLES)


def _saved_pool(cache: Path) -> np.ndarray:
    """All pieces [pieces, samples] int16, memory-mapped; made once per version of their synthesisers."""
    sources = [Path(str(module.__file__)).read_bytes() for module in (accompaniment, voice)]
    key = hashlib.sha256(b"".join([*sources, repr(POOL).encode()])).hexdigest()[:16]
    path = cache / f"accompaniment-{key}.npy"
    if not path.exists():
        pieces = [_pool_piece(kind, number) for kind, count in POOL.items() for number in range(count)]
        save_whole(path, np.stack(pieces))
        _pool_piece.cache_clear()
    return np.load(path, mmap_mode="r").view(np.ndarray)
