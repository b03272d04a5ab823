"""Reading audio: every rate and channel count, pipes and raw PCM, damaged input."""

from __future__ import annotations

import errno
import io
import os
import struct
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import click_model
import numpy as np
import pytest
import soundfile

from ghostnote.runtime import AudioReader, Engine, Hit, InputError, StreamingTranscriber, transcribe_file
from ghostnote.runtime.input.pcm import RAW_FORMATS, PcmFormat
from ghostnote.runtime.input.source import downmix

RATE = click_model.RATE


def read(source: object, *, raw: PcmFormat | None = None) -> np.ndarray:
    with AudioReader(str(source), RATE, raw=raw) as reader:
        return np.concatenate(list(reader))


def noise(frames: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (frames, channels)).astype(np.float32)


def wav_bytes(samples: np.ndarray, subtype: str | None = "PCM_16", form: str = "WAV", rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, subtype=subtype, format=form)
    return buffer.getvalue()


def with_data_length(wav: bytes, length: int) -> bytes:
    """The WAV with another number in the header of its data chunk."""
    at = wav.index(b"data") + 4
    return wav[:at] + struct.pack("<I", length) + wav[at + 4 :]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch):
    """Put bytes on standard input."""

    def put(data: bytes) -> None:
        fake = SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(data)), isatty=lambda: False)
        monkeypatch.setattr("sys.stdin", fake)

    return put


# Rates and channels


def bursts(rate: int) -> tuple[np.ndarray, list[float]]:
    """Short decaying 1 kHz bursts [N] at marked times, alike at every rate."""
    times = [0.1, 0.35, 0.61, 0.987, 1.4, 1.753]
    t = np.arange(2 * rate) / rate
    audio = sum(0.9 * np.where(t >= at, np.exp(-(t - at) / 0.004) * np.cos(2000 * np.pi * (t - at)), 0) for at in times)
    return audio.astype(np.float32), times


def bass_hits(hits: list[Hit]) -> list[float]:
    return [hit.time_s for hit in hits if hit.code == "BD"]


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000])
def test_any_rate_gives_the_same_hits(rate: int, click_engine: Engine, tmp_path: Path) -> None:
    audio, times = bursts(rate)
    soundfile.write(tmp_path / "a.wav", audio, rate, subtype="PCM_24")
    found = bass_hits(transcribe_file(tmp_path / "a.wav", click_engine))
    assert found == pytest.approx(times, abs=0.002)


@pytest.mark.parametrize("channels", range(1, 9))
def test_any_channel_count_gives_the_same_hits(channels: int, click_engine: Engine, tmp_path: Path) -> None:
    audio, times = bursts(RATE)
    weights = np.arange(1, channels + 1) / np.arange(1, channels + 1).mean()  # their mean is 1
    soundfile.write(tmp_path / "a.wav", audio[:, None] * weights, RATE, subtype="FLOAT")
    assert bass_hits(transcribe_file(tmp_path / "a.wav", click_engine)) == pytest.approx(times, abs=0.002)


@pytest.mark.parametrize("form", ["FLAC", "OGG", "MP3", "AIFF", "W64", "RF64", "CAF", "AU"])
def test_formats_of_libsndfile(form: str, tmp_path: Path) -> None:
    samples = noise(30_000) * 0.3
    path = tmp_path / f"a.{form.lower()}"
    soundfile.write(path, samples, RATE, format=form)
    with AudioReader(path, RATE) as reader:
        blocks = list(reader)
        assert reader.warnings == []
        assert reader.duration_s == pytest.approx(30_000 / RATE)
    assert sum(map(len, blocks)) == 30_000
    assert all(block.dtype == np.float32 for block in blocks)


def test_downmix_is_the_mean_and_nothing_is_clipped(tmp_path: Path) -> None:
    samples = noise(50_000, 2) * 5
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    np.testing.assert_allclose(read(tmp_path / "a.wav"), samples.mean(1), atol=1e-6)


def test_channels_without_number_are_added_up_the_same_in_any_pieces() -> None:
    block = noise(100, 300).astype(np.float32)
    np.testing.assert_allclose(downmix(block), block.mean(1, dtype=np.float64), atol=1e-6)
    assert np.array_equal(downmix(block), np.concatenate([downmix(block[i : i + 7]) for i in range(0, 100, 7)]))


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AIFF"])
def test_every_sample_of_16_bits_is_what_libsndfile_makes_of_it(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form.lower()}"
    soundfile.write(path, np.arange(-(1 << 15), 1 << 15).astype(np.int16), RATE, format=form, subtype="PCM_16")
    expected, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(read(path), expected)


def test_blocks_are_small_and_not_shared(tmp_path: Path) -> None:
    samples = noise(100_000)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with AudioReader(tmp_path / "a.wav", RATE) as reader:
        blocks = list(reader)
    assert max(map(len, blocks)) <= 16384
    np.testing.assert_array_equal(np.concatenate(blocks), samples[:, 0])


def test_non_finite_samples_before_the_resampler(tmp_path: Path) -> None:
    samples = noise(20_000)
    clean = samples.copy()
    samples[[5, 9000], 0] = np.nan, np.inf
    clean[[5, 9000], 0] = 0
    for name, audio in (("bad", samples), ("clean", clean)):
        soundfile.write(tmp_path / f"{name}.wav", audio, 48_000, subtype="FLOAT")
    with AudioReader(tmp_path / "bad.wav", RATE) as reader:
        found = np.concatenate(list(reader))
        assert reader.non_finite_samples == 2
    np.testing.assert_array_equal(found, read(tmp_path / "clean.wav"))


# Pipes


@pytest.mark.parametrize(("form", "channels"), [("WAV", 1), ("WAV", 3), ("WAVEX", 2), ("RF64", 2)])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wav_on_standard_input_equals_the_file(form: str, channels: int, subtype: str, stdin, tmp_path: Path) -> None:
    data = wav_bytes(noise(20_011, channels), subtype, form)
    (tmp_path / "a.wav").write_bytes(data)
    stdin(data)
    np.testing.assert_array_equal(read("-"), read(tmp_path / "a.wav"))


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0x80000000])
def test_wav_of_unknown_length(length: int, stdin) -> None:
    samples = noise(20_000)
    stdin(with_data_length(wav_bytes(samples, "FLOAT"), length))
    with AudioReader("-", RATE) as reader:
        assert reader.duration_s is None
        np.testing.assert_array_equal(np.concatenate(list(reader)), samples[:, 0])
        assert reader.warnings == []


def test_samples_in_more_bytes_than_they_need_are_refused(stdin, tmp_path: Path) -> None:
    """As `arecord -f S24_LE -t wav` writes them."""
    samples = (noise(2000, 2) * 0x7FFFFF).astype("<i4").tobytes()
    fmt = struct.pack("<HHIIHH", 1, 2, RATE, 8 * RATE, 8, 24)
    chunks = b"fmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", len(samples)) + samples
    data = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
    (tmp_path / "a.wav").write_bytes(data)
    stdin(data)
    for source in ("-", tmp_path / "a.wav"):
        with pytest.raises(InputError, match=r"24-bit samples in 4 bytes each, .* expected 3 bytes: .* S32_LE"):
            read(source)


def test_chunks_around_the_audio_are_not_audio(stdin) -> None:
    samples = noise(1000)
    data = wav_bytes(samples, "FLOAT")
    at = data.index(b"data")
    odd = b"LIST" + struct.pack("<I", 5) + b"ghost\0"  # odd length, padded
    stdin(data[:at] + odd + data[at:] + odd)
    np.testing.assert_array_equal(read("-"), samples[:, 0])


@pytest.mark.parametrize("encoding", sorted(RAW_FORMATS))
def test_raw_pcm(encoding: str, stdin, tmp_path: Path) -> None:
    subtype = {
        "u8": "PCM_U8",
        "s16le": "PCM_16",
        "s24le": "PCM_24",
        "s32le": "PCM_32",
        "f32le": "FLOAT",
        "f64le": "DOUBLE",
    }
    samples = noise(10_001, 2)
    data = wav_bytes(samples, subtype[encoding], "RAW")
    (tmp_path / "a.wav").write_bytes(wav_bytes(samples, subtype[encoding]))
    (tmp_path / "a.pcm").write_bytes(data)
    stdin(data + b"\x01")  # an incomplete last frame
    expected = read(tmp_path / "a.wav")
    raw = PcmFormat(encoding, RATE, 2)
    np.testing.assert_array_equal(read("-", raw=raw), expected)
    np.testing.assert_array_equal(read(tmp_path / "a.pcm", raw=raw), expected)


def test_raw_pcm_in_a_file_is_no_live_audio(tmp_path: Path) -> None:
    (tmp_path / "a.pcm").write_bytes(bytes(4 * RATE + 1))
    with AudioReader(tmp_path / "a.pcm", RATE, raw=PcmFormat("s16le", RATE, 1)) as reader:
        assert not reader.is_live
        assert reader.duration_s == 2
        assert sum(map(len, reader)) == 2 * RATE
        assert reader.warnings == []


def test_samples_of_a_pipe_are_handed_on_as_they_arrive() -> None:
    """No block waits for more input than has come."""
    end, other = os.pipe()
    with (
        os.fdopen(other, "wb", buffering=0) as source,
        AudioReader(f"/dev/fd/{end}", RATE, raw=PcmFormat("s16le", RATE, 1)) as reader,
    ):
        assert (reader.is_live, reader.duration_s) == (True, None)
        blocks = iter(reader)
        for n in (882, 1, 441):
            source.write(bytes(2 * n))
            assert len(next(blocks)) == n
    os.close(end)


@pytest.mark.parametrize("raw", [None, PcmFormat("s16le", RATE, 1)])
def test_a_pipe_that_does_not_block_is_waited_for(raw: PcmFormat | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its beginning and half-way, where nothing is there yet."""
    end, other = os.pipe()
    os.set_blocking(end, False)
    samples = noise(1000)
    data = wav_bytes(samples) if raw is None else (samples[:, 0] * 2**15).astype("<i2").tobytes()

    def write() -> None:
        with os.fdopen(other, "wb", buffering=0) as file:
            for start in range(0, len(data), 600):
                time.sleep(0.05)
                file.write(data[start : start + 600])

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(end, "rb") as pipe:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=pipe, isatty=lambda: False))
        assert len(read("-", raw=raw)) == 1000
    writer.join()


def test_named_pipe_is_streamed(tmp_path: Path) -> None:
    path, samples = tmp_path / "pipe.wav", noise(30_000)
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(wav_bytes(samples, "FLOAT"),))
    writer.start()
    with AudioReader(path, RATE) as reader:
        assert reader.is_live
        np.testing.assert_array_equal(np.concatenate(list(reader)), samples[:, 0])
    writer.join()


# Damaged input


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_truncated_wav_is_read_and_reported(live: bool, form: str, stdin, tmp_path: Path) -> None:
    samples = noise(44_100, 2)
    data = wav_bytes(samples, "PCM_16", form)
    data = data[: -(22_050 * 4) + 1]
    (tmp_path / "a.wav").write_bytes(data)
    stdin(data)
    with AudioReader("-" if live else tmp_path / "a.wav", RATE) as reader:
        found = sum(map(len, reader))
        assert found == 22_050
        (warning,) = reader.warnings
    assert "truncated: 1.00 s announced, 0.50 s found" in warning


def test_truncated_flac_yields_what_comes_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(88_200), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    blocks: list[np.ndarray] = []
    with AudioReader(path, RATE) as reader, pytest.raises(InputError, match="damaged after") as caught:
        blocks.extend(reader)
    assert sum(map(len, blocks)) > 30_000
    assert "\n" not in str(caught.value)


def test_transcriber_takes_what_came_before_the_damage(click_engine: Engine, tmp_path: Path) -> None:
    audio, times = bursts(RATE)
    path = tmp_path / "a.flac"
    soundfile.write(path, audio + noise(len(audio))[:, 0] * 0.01, RATE)
    path.write_bytes(path.read_bytes()[:-2000])
    transcriber = StreamingTranscriber(click_engine)
    blocks: list[np.ndarray] = []
    with AudioReader(path, RATE) as reader, pytest.raises(InputError):
        blocks.extend(reader)
    hits = transcriber.feed(np.concatenate(blocks))
    assert bass_hits(hits + transcriber.flush()) == pytest.approx(times, abs=0.002)


BAD_INPUTS = {
    "empty": (b"", "empty"),
    "text": (b"these are no samples, whatever the name says" * 20, "not "),
    "zeros": (bytes(5000), "not "),
    "zero-length": (wav_bytes(noise(0)), "no audio samples"),
    "header-only": (wav_bytes(noise(100))[:20], "RIFF|WAV|libsndfile"),
    "no-format": (b"RIFF\x24\0\0\0WAVEdata\x08\0\0\0" + bytes(8), "format chunk|libsndfile"),
}


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("kind", sorted(BAD_INPUTS))
def test_what_is_not_audio(kind: str, live: bool, stdin, tmp_path: Path) -> None:
    data, words = BAD_INPUTS[kind]
    path = tmp_path / "bad.wav"
    path.write_bytes(data)
    stdin(data)
    with pytest.raises(InputError, match=words) as caught:
        read("-" if live else path)
    assert caught.value.exit_code == 5
    assert str(caught.value).startswith("standard input" if live else str(path))
    assert "\n" not in str(caught.value)


def test_a_header_whose_audio_is_missing(tmp_path: Path) -> None:
    (tmp_path / "killed.flac").write_bytes(wav_bytes(noise(1000), None, "FLAC")[:44])
    with pytest.raises(InputError, match=r"killed\.flac: contains no audio samples"):
        read(tmp_path / "killed.flac")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "absent.wav")
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)


def test_unsupported_wav_on_a_pipe(stdin) -> None:
    stdin(wav_bytes(noise(1000), "ULAW"))
    with pytest.raises(InputError, match="encoding not supported"):
        read("-")


@pytest.mark.parametrize(("form", "kind"), [("FLAC", "FLAC"), ("OGG", "Ogg"), ("AIFF", "AIFF"), ("AU", "AU")])
def test_a_file_on_a_pipe_that_only_files_can_be(form: str, kind: str, stdin) -> None:
    stdin(wav_bytes(noise(1000), None, form))
    with pytest.raises(InputError, match=f"standard input: {kind}, but only WAV and raw PCM can be read as they come"):
        read("-")


@pytest.mark.parametrize(
    ("beginning", "kind"),
    [(b"\xff\xfb\x90\xc4", "MP3"), (b"caff\0\1", "CAF"), (b"riff\x2e\x91", "W64"), (b"RIFX\0\0", "big-endian WAV")],
)
def test_what_a_pipe_begins_with_is_known_by_its_name(beginning: bytes, kind: str, stdin) -> None:
    stdin(beginning + bytes(1000))
    with pytest.raises(InputError, match=f"standard input: {kind}, but only WAV and raw PCM can be read as they come"):
        read("-")


def test_absurd_headers(stdin) -> None:
    good = wav_bytes(noise(10))
    stdin(good[:12] + b"JUNK" + struct.pack("<I", 1 << 30) + good[12:])
    with pytest.raises(InputError, match="damaged WAV header"):
        read("-")
    stdin(good[:22] + struct.pack("<H", 5000) + good[24:])
    with pytest.raises(InputError, match="5000 channels"):
        read("-")


@pytest.mark.parametrize("rate", [1, 7999, 192_001, 10**20])
@pytest.mark.parametrize("live", [False, True])
def test_rates_that_no_sound_has(rate: int, live: bool, stdin, tmp_path: Path) -> None:
    """A sample per second would become 44100 of the model's each: a small file, all of the memory."""
    path = tmp_path / "a.wav"
    if rate < 1 << 20:
        soundfile.write(path, noise(100), rate)
    stdin(bytes(100))
    with pytest.raises(InputError, match=f"{rate} Hz; expected 8000 to 192000 Hz"):
        read("-", raw=PcmFormat("u8", rate, 1)) if live or not path.exists() else read(path)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text here")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")  # as older systems wrote it
    soundfile.write(os.fsencode(path), noise(100), RATE)
    assert len(read(path)) == 100


def test_a_pipe_that_fails_in_its_header() -> None:
    def fail(_: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(InputError, match=r"a pipe: cannot be read \(Input/output error\)"):
        AudioReader(SimpleNamespace(name="a pipe", read=fail, read1=fail, close=lambda: None), RATE)


def test_without_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as Python leaves it where the descriptor is closed
    with pytest.raises(InputError, match="standard input is closed"):
        read("-")
    (tmp_path / "a.raw").write_bytes(bytes(100))
    assert len(read(tmp_path / "a.raw", raw=PcmFormat("u8", RATE, 1))) == 100


def test_empty_raw_input(stdin) -> None:
    stdin(b"\0")
    with pytest.raises(InputError, match="no audio samples"):
        read("-", raw=PcmFormat("s16le", RATE, 1))


def test_raw_file_without_parameters_says_which(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(100))
    with pytest.raises(InputError, match="--raw-format"):
        read(tmp_path / "a.raw")


def test_terminal_as_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(InputError, match="terminal"):
        read("-")


def test_what_the_resampler_holds_back_is_not_lost_when_reading_stops(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 48_000), 48_000, subtype="FLOAT")
    with AudioReader(tmp_path / "a.wav", 44_100) as reader:
        whole = np.concatenate(list(reader))
        assert list(reader.rest()) == []
    with AudioReader(tmp_path / "a.wav", 44_100) as reader:
        first = next(iter(reader))
        heard = np.concatenate([first, *reader.rest()])
    block_s = (1 << 14) / 48_000  # one block of the file
    assert len(heard) == round(block_s * 44_100)
    assert np.allclose(heard[: len(first)], whole[: len(first)], atol=1e-6)


# Lengths that are not told, or told wrongly


def written_to_a_pipe(flac: bytes) -> bytes:
    """The FLAC with no number of samples in its STREAMINFO (36 bits from the middle of its byte 13)."""
    return flac[:21] + bytes((flac[21] & 0xF0, 0, 0, 0, 0)) + flac[26:]


def test_flac_that_was_written_to_a_pipe(click_engine: Engine, tmp_path: Path) -> None:
    audio, times = bursts(RATE)
    soundfile.write(tmp_path / "told.flac", audio, RATE)
    path = tmp_path / "a.flac"
    path.write_bytes(written_to_a_pipe((tmp_path / "told.flac").read_bytes()))
    with AudioReader(path, RATE) as reader:
        assert reader.duration_s is None
        assert sum(map(len, reader)) == len(audio)
        assert reader.warnings == []
    assert bass_hits(transcribe_file(path, click_engine)) == pytest.approx(times, abs=0.002)


def test_a_tag_after_flac_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(100_000), RATE)
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    assert len(read(path)) == 100_000


@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_wav_of_a_recorder_that_was_killed(form: str, tmp_path: Path) -> None:
    samples, path = noise(20_000), tmp_path / "a.wav"
    path.write_bytes(with_data_length(wav_bytes(samples, "FLOAT", form), 0))
    with AudioReader(path, RATE) as reader:
        assert (reader.is_live, reader.duration_s) == (False, None)
        np.testing.assert_array_equal(np.concatenate(list(reader)), samples[:, 0])
        assert reader.warnings == []


def test_truncated_rf64_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise(44_100), "PCM_16", "RF64")[:-44_100])
    with AudioReader(tmp_path / "a.wav", RATE) as reader:
        assert sum(map(len, reader)) == 22_050
        (warning,) = reader.warnings
    assert "truncated: 1.00 s announced, 0.50 s found" in warning
