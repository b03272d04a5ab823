"""What MP3 and Ogg files hold by their own structure; libsndfile goes by an estimate and ends there without a word.

MP3: ISO/IEC 11172-3 and 13818-3, layer III; the Xing frame as LAME writes it. Ogg: RFC 3533.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["Mp3Length", "is_chained_ogg", "mp3_length"]

_BUFFER_BYTES = 1 << 16
_SAME_STREAM = 0xFFFE0C00  # of a frame's header: sync, version, layer, rate, which no encoder changes half-way
_KBPS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # MPEG 1 by index; 0 is free format
_KBPS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # MPEG 2 and 2.5
_HZ = (44_100, 48_000, 32_000)  # of MPEG 1; MPEG 2 has half of it, 2.5 a quarter
_XING_BYTES = 64  # of the first frame: header, side information, and the tag up to its number of frames
_OGG_PAGE = struct.Struct("<4sBBqIIIB")
_BEGINS_STREAM = 2  # flag of a page


@dataclass(frozen=True, slots=True)
class Mp3Length:
    """Samples per channel, encoder's padding included: those of the frames that are there, and those of a Xing frame.

    `told` is None where the file has no such frame.
    """

    there: int
    told: int | None


def mp3_length(path: Path) -> Mp3Length:
    """Walk over a file's frames. Of free format and other layers than III none is found. Raises OSError."""
    there, told, first = 0, None, 0
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        while len(head := file.read(4)) == 4:
            (header,) = struct.unpack(">I", head)
            size = _frame_bytes(header)
            if not size or (first and (header ^ first) & _SAME_STREAM):
                _skip_foreign(file, head)
                continue
            samples = 1152 if _is_mpeg_1(header) else 576
            body = file.read(_XING_BYTES) if not first else b""
            first = first or header
            file.seek(size - 4 - len(body), os.SEEK_CUR)
            if frames := _xing_frames(body):
                told = frames * samples
            else:
                there += samples
    return Mp3Length(there, told)


def is_chained_ogg(path: Path) -> bool:
    """Whether another recording follows the first one in the same file. Raises OSError."""
    sound_began = False
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        while len(page := file.read(_OGG_PAGE.size)) == _OGG_PAGE.size:
            capture, _, flags, *_, segments = _OGG_PAGE.unpack(page)
            if capture != b"OggS":
                return False
            begins = bool(flags & _BEGINS_STREAM)
            if begins and sound_began:
                return True
            sound_began = not begins
            file.seek(sum(file.read(segments)), os.SEEK_CUR)
    return False


def _is_mpeg_1(header: int) -> bool:
    return header >> 19 & 3 == 3


def _frame_bytes(header: int) -> int:
    """Length of a frame of layer III by its first four bytes; 0 where they begin none."""
    version, layer, bitrate, rate = header >> 19 & 3, header >> 17 & 3, header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return 0
    padding = header >> 9 & 1
    if version == 3:
        return 144_000 * _KBPS_1[bitrate] // _HZ[rate] + padding
    return 72_000 * _KBPS_2[bitrate] // (_HZ[rate] // (2 if version == 2 else 4)) + padding


def _xing_frames(body: bytes) -> int:
    """Frames of sound that a first frame without its header tells; 0 where it is sound itself."""
    at = max(body.find(b"Xing"), body.find(b"Info"))
    if at < 0 or len(body) < at + 12:
        return 0
    flags, frames = struct.unpack(">II", body[at + 4 : at + 12])
    return int(frames) if flags & 1 else 0


def _skip_foreign(file: BinaryIO, head: bytes) -> None:
    """From behind four bytes that begin no frame to the next place that might: over an ID3v2 tag, or to a byte 0xFF."""
    if head[:3] == b"ID3" and len(rest := file.read(6)) == 6:
        a, b, c, d = rest[2:]
        file.seek(a << 21 | b << 14 | c << 7 | d, os.SEEK_CUR)
        return
    file.seek(-3, os.SEEK_CUR)
    while block := file.read(1 << 12):
        if (at := block.find(0xFF)) >= 0:
            file.seek(at - len(block), os.SEEK_CUR)
            return
