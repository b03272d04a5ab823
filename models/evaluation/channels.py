"""What may have happened to a recording before it is transcribed: one named channel each, the same every time.

Channels are functions of mono samples [N] at 44.1 kHz and a seeded generator, and give samples [N] in which the hits
lie where they were: delays of codecs are taken out by cross-correlation.
"""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from ..data.effects import room_response, smooth_size
from ..data.music.backing import BackingShelf
from ..data.packed import SAMPLE_RATE
from ..data.separation import demixed, low_bit_rate

__all__ = ["Channel", "Unavailable", "aligned", "channels", "delay_of", "music"]

Floats = NDArray[np.float32]
Changed = NDArray[np.floating[Any]]  # in whatever precision a channel computes; `Channel` gives float32

HOLES = {"threshold_db": [-30, -30], "limit_hz": [10000, 10000]}  # the strong end of what training renders
ROOM_DECAY_S, ROOM_DB = 0.8, -3.0
SOFT_DBFS, CLIPPED_DB = -30.0, 12.0
MUSIC_PIECES, MUSIC_S, MUSIC_SEED = 16, 16.0, 4711
DEMIXED_DB = 0.0  # drums against the backing that they are cut out of
LONGEST_DELAY_S = 0.2  # of a codec


class Codec(NamedTuple):
    """Names of libsndfile, the encoder's rate, compression level (1 = smallest) and the bit rate that came of it."""

    kind: str
    subtype: str
    rate: int
    level: float
    kbit: int  # per second, measured on drums


CODECS = {
    "MP3": Codec("MP3", "MPEG_LAYER_III", SAMPLE_RATE, 0.96, 26),
    "Vorbis": Codec("OGG", "VORBIS", SAMPLE_RATE, 1.0, 30),
    "Opus": Codec("OGG", "OPUS", 48000, 0.95, 13),
}


class Unavailable(Exception):  # noqa: N818 - an answer, not a failure
    """The channel cannot be made here; the text says why."""


@dataclass(frozen=True)
class Channel:
    """A channel by name, with what it does in a few words."""

    name: str
    what: str
    apply: Callable[[Floats, np.random.Generator], Changed]

    def __call__(self, audio: Floats, track: str) -> Floats:
        """The recording after the channel; what is drawn depends on channel and track alone. Raises Unavailable."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), zlib.crc32(track.encode())])
        return self.apply(audio, rng).astype(np.float32)


def channels(backing: Path | None = None, cache: Path | None = None) -> list[Channel]:
    """Every channel, the untouched recording first; without a folder of notes the backing is synthesised."""
    shelf = BackingShelf(backing, cache)
    return [
        Channel("clean", "the recording as it is", lambda audio, _: audio),
        Channel("codec holes", "bins 30 dB under their neighbourhood and all above 10 kHz dropped", _holes),
        *(
            Channel(name, f"about {codec.kbit} kbit/s, decoded again", functools.partial(_coded, codec))
            for name, codec in CODECS.items()
        ),
        Channel("band limit 8 kHz", "resampled to 16 kHz and back", functools.partial(_resampled, 16000)),
        Channel("band limit 4 kHz", "resampled to 8 kHz and back", functools.partial(_resampled, 8000)),
        Channel("soft", f"peak at {SOFT_DBFS:g} dBFS, 16 bits", _soft),
        Channel("clipped", f"{CLIPPED_DB:g} dB over full scale, cut off", _clipped),
        Channel("room", f"a room of {ROOM_DECAY_S:g} s, {ROOM_DB:g} dB against the direct sound", _in_a_room),
        Channel(
            "demixed", "mixed with a band as loud, cut out by an imperfect mask", functools.partial(_demixed, shelf)
        ),
    ]


def _holes(audio: Floats, rng: np.random.Generator) -> Changed:
    return low_bit_rate(torch.from_numpy(audio), rng, HOLES).numpy()


def music(backing: Path | None = None, cache: Path | None = None) -> Iterator[Floats]:
    """Pieces of a band without a drummer, [N] each, peak .7: the music of training, played otherwise."""
    shelf = BackingShelf(backing, cache)
    for number in range(MUSIC_PIECES):
        piece = shelf.play(np.random.default_rng([number, MUSIC_SEED]), [], round(MUSIC_S * SAMPLE_RATE))
        yield (0.7 * piece / max(1e-6, float(np.abs(piece).max()))).astype(np.float32)


def _coded(codec: Codec, audio: Floats, _: np.random.Generator) -> Changed:
    """Encoded, decoded, and moved back by the codec's delay."""
    if not soundfile.check_format(codec.kind, codec.subtype):
        raise Unavailable(f"libsndfile {soundfile.__libsndfile_version__} has no {codec.subtype} encoder")
    memory = io.BytesIO()
    bitrate_mode = "CONSTANT" if codec.kind == "MP3" else None
    sound = _at_rate(audio, SAMPLE_RATE, codec.rate)
    with soundfile.SoundFile(
        memory,
        "w",
        codec.rate,
        1,
        codec.subtype,
        format=codec.kind,
        compression_level=codec.level,
        bitrate_mode=bitrate_mode,
    ) as file:
        for first in range(0, len(sound), codec.rate):  # libsndfile overruns its stack on long Vorbis blocks
            file.write(sound[first : first + codec.rate])
    memory.seek(0)
    decoded, rate = soundfile.read(memory, dtype="float32")
    return aligned(audio, _at_rate(decoded, rate, SAMPLE_RATE))


def _at_rate(audio: Floats, rate: int, wanted: int) -> Floats:
    return audio if rate == wanted else soxr.resample(audio, rate, wanted)


def aligned(original: Floats, changed: Floats) -> Floats:
    """`changed` moved and cut or padded so that it lies on `original`."""
    delay = delay_of(original, changed)
    moved = changed[delay:] if delay >= 0 else np.concatenate([np.zeros(-delay, np.float32), changed])
    return np.pad(moved[: len(original)], (0, max(0, len(original) - len(moved))))


def delay_of(original: Floats, changed: Floats) -> int:
    """Samples by which `changed` is later, where their cross-correlation is highest; LONGEST_DELAY_S at most."""
    size = smooth_size(len(original) + len(changed))
    product = np.fft.rfft(changed, size) * np.conj(np.fft.rfft(original, size))
    longest = min(round(LONGEST_DELAY_S * SAMPLE_RATE), size // 2)
    correlation = np.fft.irfft(product, size)
    around = np.concatenate([correlation[-longest:], correlation[: longest + 1]])
    return int(np.argmax(around)) - longest


def _resampled(rate: int, audio: Floats, _: np.random.Generator) -> Changed:
    back = soxr.resample(soxr.resample(audio, SAMPLE_RATE, rate), rate, SAMPLE_RATE)[: len(audio)]
    return np.pad(back, (0, len(audio) - len(back)))


def _soft(audio: Floats, _: np.random.Generator) -> Changed:
    return np.round(_peak_at(audio, SOFT_DBFS) * 32768) / 32768


def _clipped(audio: Floats, _: np.random.Generator) -> Changed:
    return np.clip(_peak_at(audio, CLIPPED_DB), -1, 1)


def _peak_at(audio: Floats, dbfs: float) -> Changed:
    return audio / max(1e-6, float(np.abs(audio).max(initial=0))) * 10 ** (dbfs / 20)


def _in_a_room(audio: Floats, rng: np.random.Generator) -> Changed:
    response = room_response(rng, round((ROOM_DECAY_S + 0.05) * SAMPLE_RATE), ROOM_DECAY_S)
    response *= 10 ** (ROOM_DB / 20) / np.sqrt((response**2).sum())
    size = smooth_size(len(audio) + len(response))
    reverb = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(response, size), size)[: len(audio)]
    return _unclipped(audio + reverb)


def _demixed(shelf: BackingShelf, audio: Floats, rng: np.random.Generator) -> Changed:
    band = shelf.play(rng, [], len(audio))
    gain = np.sqrt(np.mean(audio**2) / max(1e-12, float(np.mean(band**2)))) * 10 ** (-DEMIXED_DB / 20)
    return _unclipped(demixed(torch.from_numpy(audio), torch.from_numpy((band * gain).astype(np.float32)), rng).numpy())


def _unclipped(audio: Changed) -> Changed:
    """Turned down where it would leave full scale."""
    return audio / max(1.0, float(np.abs(audio).max(initial=0)))
