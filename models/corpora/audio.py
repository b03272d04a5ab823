"""Pieces of recordings as mono samples at the rate that is wanted, without reading the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...runtime.errors import InputError
from .recording import Source

__all__ = ["duration_s", "load_audio"]

_MARGIN_S = 0.05  # read around a piece, so that the resampler's ends lie outside it


def load_audio(sources: Sequence[Source], sample_rate: int, start: int, samples: int) -> np.ndarray:
    """`samples` mono samples at `sample_rate` from sample `start` on, float32: the sum of the sources.

    Zeros after the end. Raises InputError where a file cannot be read.
    """
    mix = np.zeros(samples, np.float32)
    for source in sources:
        mix += _piece(source, sample_rate, start, samples)
    return mix


def _piece(source: Source, sample_rate: int, start: int, samples: int) -> np.ndarray:
    import soundfile

    try:
        with soundfile.SoundFile(str(source.path)) as file:
            # Positions where both rates have a sample, so that nothing is shifted.
            common = math.gcd(file.samplerate, sample_rate)
            step_in, step_out = file.samplerate // common, sample_rate // common
            margin = math.ceil(_MARGIN_S * common)
            steps = max(0, start // step_out - margin)
            last = math.ceil((start + samples) / step_out) + margin
            file.seek(min(steps * step_in, file.frames))
            block = file.read((last - steps) * step_in, dtype="float32", always_2d=True).mean(axis=1)
            mono = _resampled(block, file.samplerate, sample_rate)
    except (OSError, soundfile.SoundFileError) as error:
        raise InputError(f"{source.path}: cannot be read as audio ({error})") from None
    piece = mono[start - steps * step_out :][:samples]
    return np.pad(piece, (0, samples - len(piece))) * np.float32(source.gain)


def _resampled(audio: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    if rate == wanted:
        return audio
    import soxr

    return soxr.resample(audio, rate, wanted)


def duration_s(path: Path) -> float:
    """Length as the file's header says. Raises InputError where it cannot be read."""
    import soundfile

    try:
        return float(soundfile.info(str(path)).duration)
    except (OSError, soundfile.SoundFileError) as error:
        raise InputError(f"{path}: cannot be read as audio ({error})") from None
