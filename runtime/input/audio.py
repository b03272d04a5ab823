"""Reading audio: mono float32 blocks at the model's rate from files of any kind, pipes and raw PCM, in bounded memory.

Channels are mixed down by their mean, then resampled (soxr, streaming). At another rate than the model's the resampler
holds back some input (up to 19 ms at 48 kHz, 0.13 s at 8 kHz): live use at the model's own rate avoids that.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .compressed import Mp3Length, is_chained_ogg, mp3_length
from .pcm import ByteStream, LooseSamplesError, PcmFormat, WavHeader, make_blocking, read_pcm, read_wav_header
from .source import HIGHEST_RATE, LOWEST_RATE, Conditioner, Moment

__all__ = ["STDIN", "AudioReader", "NamedStream", "read_audio"]

Floats = NDArray[np.float32]

STDIN = "-"
_BLOCK_SAMPLES = 1 << 14  # of all channels together; small, because a decoding error loses the block it falls into
_SIXTEEN_BITS = np.float32(1 / (1 << 15))  # of full scale, a step of a 16-bit sample
_MAX_CHANNELS = 1024  # libsndfile's own limit; more means that a header is nonsense
_RIFF_FORMATS = ("WAV", "WAVEX", "RF64")
_UNKNOWN_FROM_FRAMES = 1 << 62  # libsndfile's word for "not told", as in FLAC that was written to a pipe
_MP3_PADDING = 4 * 1152  # samples that an encoder adds at both ends, and a decoder may take away


class NamedStream(ByteStream, Protocol):
    """A stream of bytes that knows what a person calls it."""

    @property
    def name(self) -> str: ...

    def close(self) -> None: ...


class AudioReader:
    """Iterates mono float32 blocks [n] at `sample_rate` from `source`: a path, "-" for standard input, or a stream.

    `raw` says that the source is headerless PCM. Standard input and other pipes are WAV otherwise. Opening raises
    InputError for what is missing, not audio, empty, or not at 8 to 192 kHz; iterating raises it when decoding fails
    half-way, after having yielded what came before.
    """

    def __init__(self, source: str | Path | NamedStream, sample_rate: int, *, raw: PcmFormat | None = None) -> None:
        self.name = _name(source)
        self._stream: NamedStream | BinaryIO | None = None  # a pipe, or raw PCM
        self._is_stdin = False
        self._is_live = True
        self._file: Any = None  # a soundfile.SoundFile
        self._frames_read = 0
        self.newest: Moment | None = None
        self.overruns = 0  # a pipe or a file waits for us
        self.warnings: list[str] = []
        try:
            self._open(source, raw)
            self._check_format()
        except BaseException:
            self.close()
            raise
        self._conditioner = Conditioner(self.source_rate, sample_rate)

    @property
    def non_finite_samples(self) -> int:
        """Samples that were NaN, infinite or absurdly large, replaced by 0, so far."""
        return self._conditioner.non_finite_samples

    @property
    def is_live(self) -> bool:
        """True where audio may arrive in real time (a pipe), so that it should be processed as it comes."""
        return self._is_live

    @property
    def duration_s(self) -> float | None:
        """Length of the input in seconds as its header, or the size of raw PCM, announces it; None where unknown."""
        return None if self._frames is None else self._frames / self.source_rate

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened; standard input stays open."""
        if self._file is not None:
            self._file.close()
        if self._stream is not None and not self._is_stdin:
            self._stream.close()

    def __iter__(self) -> Iterator[Floats]:
        """Blocks as they can be had; once only."""
        for block in self._source_blocks():
            self._frames_read += len(block)
            now = time.perf_counter()
            self.newest = Moment(self._position_s(), now, now)
            yield self._conditioner.push(block)
        if not self._frames_read:
            raise InputError(f"{self.name}: contains no audio samples")
        yield from self.rest()
        self._check_end()

    def rest(self) -> Iterator[Floats]:
        """After an iteration that was broken off: what the resampler holds back."""
        held = self._conditioner.end()
        if len(held):
            yield held

    def _open(self, source: str | Path | NamedStream, raw: PcmFormat | None) -> None:
        if not isinstance(source, str | Path):
            self._open_stream(source, raw)
            return
        if str(source) == STDIN:
            if sys.stdin is None or sys.stdin.isatty():
                found = "closed" if sys.stdin is None else "a terminal"
                raise InputError(f"standard input is {found}; pipe WAV or raw PCM into it, or name a file")
            self._is_stdin = True
            self._open_stream(sys.stdin.buffer, raw)
            return
        path = Path(source)
        try:
            if path.is_dir():
                raise InputError(f"{path}: is a folder; name an audio file")
            stream = path.open("rb")
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be opened ({error.strerror})") from None
        status = os.fstat(stream.fileno())
        self._is_live = not stat.S_ISREG(status.st_mode)
        if raw is None and not self._is_live:
            with stream:
                self._open_file(path, stream)
            return
        self._open_stream(stream, raw)
        if raw is not None and not self._is_live:
            self._frames = status.st_size // raw.frame_bytes or None  # no size: as unknown as in /proc

    def _open_stream(self, stream: Any, raw: PcmFormat | None) -> None:
        make_blocking(stream)
        self._stream = stream
        self._data_bytes: int | None = None
        pcm = raw
        if pcm is None:
            header = read_wav_header(stream, self.name)
            pcm, self._data_bytes = header.pcm, header.data_bytes
            if pcm is None:
                raise InputError(f"{self.name}: WAV encoding not supported on a pipe; expected PCM 8..32 bit or float")
        self._pcm = pcm
        self.source_rate, self.channels = pcm.rate, pcm.channels
        self._frames = None if self._data_bytes is None else self._data_bytes // pcm.frame_bytes

    def _open_file(self, path: Path, stream: BinaryIO) -> None:
        import soundfile

        if path.stat().st_size == 0:
            raise InputError(f"{path}: empty (0 bytes); expected audio")
        try:
            # As bytes, any name can be opened; on Windows only text is opened by a function that knows all characters.
            self._file = _forward_file(str(path) if os.name == "nt" else os.fsencode(path))
        except (soundfile.SoundFileError, TypeError) as error:  # TypeError: *.raw, which soundfile asks parameters for
            hint = "; for raw PCM give --raw-format, --rate and --channels" if path.suffix == ".raw" else ""
            raise InputError(f"{path}: not audio that libsndfile reads ({_reason(error)}){hint}") from None
        header = self._riff_header(stream)
        if self._file.frames == 0:
            if header is None or header.data_bytes is not None or not stream.read(1):
                raise InputError(f"{path}: contains no audio samples")
            # Its recorder was killed, or still writes: the length is missing, the samples are not.
            self._file.close()
            self._file = None
            self._open_stream(path.open("rb"), None)
            return
        self.source_rate, self.channels = self._file.samplerate, self._file.channels
        self._frames = self._announced_frames(header)

    def _riff_header(self, stream: BinaryIO) -> WavHeader | None:
        """The header of WAV and RF64 as this package reads it, None where it cannot."""
        if self._file.format not in _RIFF_FORMATS:
            return None
        try:
            header = read_wav_header(stream, self.name)  # type: ignore[arg-type]
        except LooseSamplesError:  # libsndfile would guess
            raise
        except InputError:  # big-endian RIFX and the like, which libsndfile reads
            return None
        return None if header.pcm is None else header

    def _announced_frames(self, header: WavHeader | None) -> int | None:
        """Frames that the header promises; of truncated WAV and RF64 libsndfile tells only what is there."""
        frames = int(self._file.frames)
        if frames >= _UNKNOWN_FROM_FRAMES:
            return None
        if header is None or header.pcm is None or header.data_bytes is None:
            return frames
        return max(frames, header.data_bytes // header.pcm.frame_bytes)

    def _check_format(self) -> None:
        if self.channels > _MAX_CHANNELS:
            raise InputError(f"{self.name}: {self.channels} channels; expected at most {_MAX_CHANNELS}")
        if not LOWEST_RATE <= self.source_rate <= HIGHEST_RATE:
            raise InputError(
                f"{self.name}: {self.source_rate} Hz; expected {LOWEST_RATE} to {HIGHEST_RATE} Hz; correct the "
                "rate, or resample the audio"
            )

    def _source_blocks(self) -> Iterator[Floats]:
        """Blocks [n, channels] at the source's rate."""
        return self._file_blocks() if self._file is not None else self._stream_blocks()

    def _file_blocks(self) -> Iterator[Floats]:
        import soundfile

        # libsndfile makes floats of 16-bit samples more slowly than reading them takes; these are the same floats.
        short = self._file.subtype == "PCM_16"
        shape = max(1, _BLOCK_SAMPLES // self.channels), self.channels
        buffer = np.empty(shape, np.int16 if short else np.float32)
        frames = self._file.frames
        while self._frames_read < frames:
            try:
                # Not beyond the last sample: what follows it, as tags do, is no damage.
                block = self._file.read(out=buffer[: frames - self._frames_read])
            except soundfile.SoundFileError as error:
                raise InputError(f"{self.name}: damaged after {self._position_s():.1f} s ({_reason(error)})") from None
            if not len(block):
                return
            yield block * _SIXTEEN_BITS if short else block

    def _stream_blocks(self) -> Iterator[Floats]:
        assert self._stream is not None
        try:
            yield from read_pcm(self._stream, self._pcm, self._data_bytes)  # type: ignore[arg-type]
        except OSError as error:
            raise InputError(f"{self.name}: failed after {self._position_s():.1f} s ({error.strerror})") from None

    def _check_end(self) -> None:
        """Say so when the input held less than its header announced, or more than libsndfile read."""
        kind = None if self._file is None else self._file.format
        with contextlib.suppress(OSError):  # a file renamed meanwhile: its structure cannot be looked at
            if kind == "MP3":
                self._check_mp3(mp3_length(Path(self.name)))
            elif self._frames is not None and self._frames_read < self._frames:
                self._warn_of_truncation(self._frames)
            elif kind == "OGG" and is_chained_ogg(Path(self.name)):
                self._warn_of_rest(f"several recordings, of which only the first, {self._position_s():.2f} s,")

    def _check_mp3(self, length: Mp3Length) -> None:
        """By the frames themselves; what libsndfile announces is an estimate where no Xing frame tells."""
        read = self._frames_read + _MP3_PADDING
        if read < length.there:
            self._warn_of_rest(f"{length.there / self.source_rate:.2f} s, of which only {self._position_s():.2f} s")
        elif length.told is not None and read < length.told:
            self._warn_of_truncation(length.told)

    def _warn_of_truncation(self, announced: int) -> None:
        self.warnings.append(
            f"{self.name} is truncated: {announced / self.source_rate:.2f} s announced, "
            f"{self._position_s():.2f} s found and transcribed"
        )

    def _warn_of_rest(self, held: str) -> None:
        self.warnings.append(f"{self.name} holds {held} could be read; decode it to WAV to transcribe all")

    def _position_s(self) -> float:
        return self._frames_read / self.source_rate


def read_audio(source: str | Path, sample_rate: int) -> Floats:
    """All of a recording, mono float32 [n] at `sample_rate`. Raises InputError, also half-way."""
    with AudioReader(source, sample_rate) as reader:
        return np.concatenate([np.zeros(0, np.float32), *reader])


def _forward_file(name: bytes | str) -> Any:
    """A SoundFile that is read from its beginning to its end, nothing else.

    After each read of another, soundfile seeks to where it is anyway; where that fails the block read is lost.
    """
    import soundfile

    class ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            return False

    return ForwardFile(name)


def _name(source: str | Path | NamedStream) -> str:
    if not isinstance(source, str | Path):
        return source.name
    return "standard input" if str(source) == STDIN else str(source)


def _reason(error: BaseException) -> str:
    """libsndfile's own words without the path and the word 'Error'."""
    text = getattr(error, "error_string", None) or str(error)
    return text.strip().rstrip(".").removeprefix("Error : ")
