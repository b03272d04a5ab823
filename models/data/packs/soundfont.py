"""Instruments and drum kits of a General MIDI SoundFont, as single notes that the renderer reads.

What is played follows the General MIDI 1 sound set and percussion map; a sound is cut as docs/training.md says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from ....runtime.errors import EngineError, InputError
from ....runtime.vocabulary import code_of_note
from ..drums.kits import OTHER
from ..drums.synthesiser import ATTACK_DB
from ..packed import SAMPLE_RATE
from .pack import Cut, Recordings, cut_out, longest_s, slug

__all__ = ["SoundFont", "Synth", "drum_sounds", "instrument_notes"]

DRUM_BANK = 128
ALL_SOUND_OFF = 120  # controller, MIDI 1.0
BLOCK = 512  # samples after which nothing is left of what was ended
PERCUSSION = range(35, 82)  # notes of General MIDI's percussion map
VIBRASLAP = 58  # there; Roland's rim of the floor tom, which `code_of_note` takes it for
LAST_KIT = 47  # programs from here on hold an orchestra's percussion and effects under the same notes
# One instrument group of General MIDI after another: first program, family, lowest and highest note taken.
GROUPS = (
    (0, "piano", 28, 96), (4, "epiano", 28, 96), (6, "piano", 36, 88), (8, "other", 48, 96), (16, "organ", 36, 88),
    (21, "other", 48, 88), (24, "guitar", 40, 84), (32, "bass", 26, 55), (40, "strings", 36, 92), (47, None, 0, 0),
    (48, "strings", 36, 92), (52, "pad", 40, 84), (55, "other", 48, 76), (56, "brass", 40, 84), (64, "other", 44, 84),
    (72, "other", 56, 96), (80, "other", 40, 88), (88, "pad", 36, 88), (104, "other", 44, 84), (112, None, 0, 0),
    (128, None, 0, 0),
)  # fmt: skip
NOTE_STEP = 5  # semitones between notes; the renderer moves a note by up to as many
LAYERED = {"piano", "epiano", "guitar", "bass"}  # struck or plucked: what is played softly sounds otherwise
NOTE_S = 2.5
STROKES = (127, 100, 70, 40)  # velocities of a drum, loudest first
BOWED_DB = -50.0  # under the peak: where a sound begins that swells


class Synth(Protocol):
    """What is needed of a synthesiser; see `SoundFont`."""

    def presets(self) -> dict[tuple[int, int], str]:
        """Names by bank and program."""

    def play(self, bank: int, program: int, note: int, velocity: int, seconds: float) -> np.ndarray:
        """A note held for as long, float32 mono [N] at 44.1 kHz."""


class SoundFont:
    """A SoundFont file on FluidSynth, dry.

    Raises InputError for what is none, EngineError without the system's library, ModuleNotFoundError without
    pyfluidsynth.
    """

    def __init__(self, path: Path):
        try:
            import fluidsynth
        except ModuleNotFoundError:
            raise
        except (ImportError, OSError) as error:  # the module looks for the library when it is imported
            raise EngineError(
                f"{str(error).rstrip('.')}; install FluidSynth itself (Debian, Ubuntu: apt install libfluidsynth3)"
            ) from None
        self._synth = fluidsynth.Synth(gain=0.5, samplerate=float(SAMPLE_RATE))
        for effect in ("reverb", "chorus"):
            self._synth.setting(f"synth.{effect}.active", 0)
        self._font = self._synth.sfload(str(path)) if path.is_file() else -1
        if self._font == -1:
            raise InputError(f"{path}: not a SoundFont that FluidSynth reads; expected an .sf2 or .sf3 file")

    def presets(self) -> dict[tuple[int, int], str]:
        """Names by bank and program, of the General MIDI bank and of the drums."""
        named = {
            (bank, program): self._synth.sfpreset_name(self._font, bank, program)
            for bank, program in itertools.product((0, DRUM_BANK), range(128))
        }
        return {key: name for key, name in named.items() if name}

    def play(self, bank: int, program: int, note: int, velocity: int, seconds: float) -> np.ndarray:
        """A note held for as long, float32 mono [N]; nothing of the one before sounds in it."""
        self._synth.cc(0, ALL_SOUND_OFF, 0)
        self._synth.get_samples(BLOCK)
        self._synth.program_select(0, self._font, bank, program)
        self._synth.noteon(0, note, velocity)
        stereo = self._synth.get_samples(int((seconds + 0.5) * SAMPLE_RATE)).reshape(-1, 2)
        left, right = stereo.astype(np.float32).T / 32768
        # Where the sides cancel each other, one side is the sound.
        both = (left + right) / 2
        return left if np.square(both).sum() < 0.5 * np.square(left).sum() else both


def instrument_notes(synth: Synth, name: str) -> Iterator[Cut]:
    """Notes of every melodic instrument, as rows of `backing.csv`."""
    for (bank, program), preset in synth.presets().items():
        group = next(group for group, after in itertools.pairwise(GROUPS) if program < after[0])
        family, lowest, highest = group[1:]
        if bank == DRUM_BANK or family is None:
            continue
        instrument = f"{name}_{program:03d}_{slug(preset)}"
        floor = ATTACK_DB if family in LAYERED else BOWED_DB
        for note, velocity in itertools.product(
            range(lowest, highest + 1, NOTE_STEP), (45, 115) if family in LAYERED else (100,)
        ):
            samples = cut_out(synth.play(bank, program, note, velocity, NOTE_S), NOTE_S, floor)
            if samples is not None:
                row = {"path": f"{instrument}/{note}_{velocity}.flac", "instrument": instrument, "family": family}
                yield Cut(row | {"midi_note": note, "velocity_layer": float(velocity > 50)}, samples)


def drum_sounds(synth: Synth, name: str, recordings: Recordings) -> Iterator[Cut]:
    """Strokes of every drum kit, as rows of `kits.csv`, each recording once: the renderer borrows what a kit lacks.

    Raises InputError where there is none: fonts of a single drum kit have it among the pianos of General MIDI.
    """
    presets = synth.presets()
    if not any(bank == DRUM_BANK for bank, _ in presets):
        raise InputError(
            f"no drum kit in bank {DRUM_BANK} among {len(presets)} preset(s); expected a General MIDI SoundFont, where "
            "a program says which instrument it is"
        )
    for (bank, program), preset in presets.items():
        if bank != DRUM_BANK or program > LAST_KIT:
            continue
        kit = f"{name}_{program:03d}_{slug(preset)}"
        for note, velocity in itertools.product(PERCUSSION, STROKES):
            code = _class_of(note)
            length_s = longest_s(code)
            samples = cut_out(synth.play(bank, program, note, velocity, length_s), length_s)
            if samples is not None and recordings.is_new(code, samples):
                row = {"path": f"{kit}/{code}/{note}_{velocity}.flac", "kit": kit, "class": code}
                rank = round(velocity / STROKES[0], 3)
                yield Cut(row | {"articulation": str(note), "velocity_rank": rank, "split": "train"}, samples)


def _class_of(note: int) -> str:
    code = code_of_note(note)
    return OTHER if code is None or note == VIBRASLAP else code
