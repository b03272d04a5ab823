"""PCM from a stream that cannot be rewound: raw samples, or WAV as programs write it into a pipe.

libsndfile reads files; this module reads pipes, where a WAV header often does not know its length. WAV layout:
Microsoft's "Multiple channel audio data and WAVE files" (WAVE_FORMAT_EXTENSIBLE) and RFC 2361.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

__all__ = [
    "RAW_FORMATS",
    "ByteStream",
    "LooseSamplesError",
    "PcmFormat",
    "WavHeader",
    "make_blocking",
    "read_pcm",
    "read_wav_header",
    "to_float",
]

Floats = NDArray[np.float32]

# Name -> bytes per sample.
RAW_FORMATS: dict[str, int] = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4, "f64le": 8}
_RAW_OF_WAV = {(1, 8): "u8", (1, 16): "s16le", (1, 24): "s24le", (1, 32): "s32le", (3, 32): "f32le", (3, 64): "f64le"}
_EXTENSIBLE = 0xFFFE
# Writers that cannot seek put 0, the largest number, or (arecord, sox) one near 2 GiB where the length belongs.
_UNKNOWN_FROM_BYTES = 0x7FFF0000
_READ_BYTES = 1 << 16
# What files begin with that libsndfile reads, by name, but this module does not.
_NO_STREAMS = {
    b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"FORM": "AIFF", b".snd": "AU", b"caff": "CAF", b"riff": "W64",
    b"RIFX": "big-endian WAV", **dict.fromkeys((b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2"), "MP3"),
}  # fmt: skip


class ByteStream(Protocol):
    """What is needed of a stream: blocking `read`, and `read1` that returns what is there."""

    def read(self, size: int, /) -> bytes: ...

    def read1(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """How samples lie in a byte stream, channels interleaved."""

    encoding: str  # a key of RAW_FORMATS
    rate: int  # Hz
    channels: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return RAW_FORMATS[self.encoding] * self.channels


class LooseSamplesError(InputError):
    """Samples in more bytes than they need, as `arecord -f S24_LE` writes: at the lower end or at the upper one."""


@dataclass(frozen=True, slots=True)
class WavHeader:
    """A WAV header up to the first sample. `data_bytes` is None where the writer did not know the length."""

    pcm: PcmFormat | None  # None: an encoding this module does not decode
    data_bytes: int | None
    header_bytes: int


def make_blocking(stream: object) -> None:
    """See that a stream waits for data, or for room; one without a file descriptor is left as it is.

    Where another program made a pipe non-blocking, which holds for all who share it, it would seem to end at once, or
    would lose what a slow reader has not taken yet.
    """
    with contextlib.suppress(AttributeError, OSError, ValueError):  # nor can every system
        os.set_blocking(stream.fileno(), True)  # type: ignore[attr-defined]


def read_wav_header(stream: ByteStream, name: str) -> WavHeader:
    """Read a RIFF header, leaving the stream at the first sample. Raises InputError."""
    try:
        return _read_header(stream, name)
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None


def _read_header(stream: ByteStream, name: str) -> WavHeader:
    riff = stream.read(12)
    if not riff:
        raise InputError(f"{name}: empty (0 bytes); expected WAV audio")
    if len(riff) < 12 or riff[:4] not in (b"RIFF", b"RF64") or riff[8:] != b"WAVE":
        kind = next((kind for start, kind in _NO_STREAMS.items() if riff.startswith(start)), None)
        if kind is not None:
            raise InputError(
                f"{name}: {kind}, but only WAV and raw PCM can be read as they come; give a whole file by its name "
                "alone, or decode it to WAV first"
            )
        raise InputError(
            f"{name}: not WAV (starts with {riff[:4]!r}); for raw PCM give --raw-format, --rate and --channels"
        )
    wide_bytes: int | None = None  # RF64: the length that does not fit in 32 bits
    fmt: bytes | None = None
    position = 12
    while True:
        head = stream.read(8)
        if len(head) < 8:
            raise InputError(f"{name}: the WAV header ends before any audio; the file is incomplete")
        tag, size = head[:4], struct.unpack("<I", head[4:])[0]
        position += 8
        if tag == b"data":
            break
        body = _read_chunk(stream, size + size % 2, name)
        position += len(body)
        if tag == b"fmt ":
            fmt = body
        elif tag == b"ds64" and len(body) >= 16:
            wide_bytes = struct.unpack("<Q", body[8:16])[0]
    if fmt is None or len(fmt) < 16:
        raise InputError(f"{name}: WAV without a format chunk; the file is damaged")
    if wide_bytes:
        return WavHeader(_parse_format(fmt, name), wide_bytes, position)
    known = 0 < size < _UNKNOWN_FROM_BYTES
    return WavHeader(_parse_format(fmt, name), size if known else None, position)


def read_pcm(stream: ByteStream, pcm: PcmFormat, data_bytes: int | None = None) -> Iterator[Floats]:
    """Yield blocks [n, channels], full scale 1.0, as soon as they arrive; stop after `data_bytes` or at the end.

    Bytes of an incomplete last frame are dropped.
    """
    rest = b""
    left = data_bytes
    while left is None or left > 0:
        data = stream.read1(_READ_BYTES if left is None else min(left, _READ_BYTES))
        if not data:
            return
        if left is not None:
            left -= len(data)
        data = rest + data
        whole = len(data) // pcm.frame_bytes * pcm.frame_bytes
        rest = data[whole:]
        if whole:
            yield to_float(data[:whole], pcm.encoding).reshape(-1, pcm.channels)


def _read_chunk(stream: ByteStream, size: int, name: str) -> bytes:
    """A header chunk; a size no header has means that this is not a WAV header."""
    if size > 1 << 24:
        raise InputError(f"{name}: damaged WAV header (a chunk of {size} bytes before the audio)")
    return stream.read(size)


def _parse_format(fmt: bytes, name: str) -> PcmFormat | None:
    tag, channels, rate, _, align, bits = struct.unpack("<HHIIHH", fmt[:16])
    if tag == _EXTENSIBLE and len(fmt) >= 26:
        (tag,) = struct.unpack("<H", fmt[24:26])  # the first two bytes of the sub-format's GUID
    encoding = _RAW_OF_WAV.get((tag, bits))
    if not (encoding and rate and channels):
        return None
    pcm = PcmFormat(encoding, rate, channels)
    if align > pcm.frame_bytes:
        raise LooseSamplesError(
            f"{name}: {bits}-bit samples in {align / channels:g} bytes each, and nothing says in which; expected "
            f"{bits // 8} bytes: record or convert to 32 bits (arecord -f S32_LE) or to packed samples (S24_3LE)"
        )
    return pcm


def to_float(data: bytes, encoding: str) -> Floats:
    """Interleaved samples as float32, scaled as libsndfile does (integers by their full range)."""
    if encoding in ("f32le", "f64le"):
        with np.errstate(over="ignore"):  # beyond float32 means infinite, which the reader replaces and counts
            return np.frombuffer(data, "<f4" if encoding == "f32le" else "<f8").astype(np.float32)
    if encoding == "u8":
        return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) * np.float32(2**-7)
    if encoding == "s16le":
        return np.frombuffer(data, "<i2").astype(np.float32) * np.float32(2**-15)
    if encoding == "s24le":
        padded = np.zeros((len(data) // 3, 4), np.uint8)  # 24 bits as the upper ones of 32
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data = padded.tobytes()
    return np.frombuffer(data, "<i4").astype(np.float32) * np.float32(2**-31)
