"""MP3 and Ogg that hold more, or less, than libsndfile believes: somebody says so."""

from __future__ import annotations

import io
import re
from pathlib import Path

import click_model
import numpy as np
import pytest
import soundfile

from ghostnote.runtime import AudioReader
from ghostnote.runtime.input.compressed import mp3_length

RATE = click_model.RATE


def noise(frames: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (frames, channels)).astype(np.float32)


def mp3_bytes(samples: np.ndarray, mode: str = "VARIABLE") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="MP3", bitrate_mode=mode, compression_level=0.3)
    return buffer.getvalue()


def without_xing(mp3: bytes) -> bytes:
    """The MP3 without its first frame, from which alone a reader knows the length."""
    starts = [at for at in range(len(mp3) - 1) if mp3[at : at + 2] == b"\xff\xfb"]
    assert b"Xing" in mp3[: starts[1]]
    return mp3[starts[1] :]


def length_and_warnings(path: Path) -> tuple[float, list[str]]:
    with AudioReader(path, RATE) as reader:
        return sum(map(len, reader)) / RATE, reader.warnings


needs_bit_rates = pytest.mark.skipif(
    not hasattr(soundfile.SoundFile, "bitrate_mode"), reason="soundfile before 0.13 sets no bit rates"
)


@needs_bit_rates
@pytest.mark.parametrize("tag", [b"", b"ID3\x03\0\0\0\0\x02\0" + b"\xff\xfb\x90\0" * 64])
def test_mp3_that_libsndfile_takes_for_shorter(tag: bytes, tmp_path: Path) -> None:
    """Its estimate goes by the loud beginning."""
    path = tmp_path / "a.mp3"
    path.write_bytes(tag + without_xing(mp3_bytes(np.concatenate([noise(5 * RATE), noise(15 * RATE) * 0]))))
    read_s, (warning,) = length_and_warnings(path)
    assert read_s < 15
    assert f"of which only {read_s:.2f} s could be read; decode it to WAV" in warning
    assert 20 <= float(warning.partition("holds ")[2].split()[0]) < 20.2


@needs_bit_rates
def test_mp3_that_libsndfile_takes_for_longer(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(without_xing(mp3_bytes(np.concatenate([noise(5 * RATE) * 0, noise(5 * RATE)]))))
    with AudioReader(path, RATE) as reader:
        assert reader.duration_s is not None
        assert reader.duration_s > 12
    read_s, warnings = length_and_warnings(path)
    assert read_s == pytest.approx(10, abs=0.2)
    assert warnings == []


@needs_bit_rates
def test_truncated_mp3_is_reported_where_it_tells_its_length(tmp_path: Path) -> None:
    mp3 = mp3_bytes(noise(4 * RATE))
    (tmp_path / "a.mp3").write_bytes(mp3[: len(mp3) // 2])
    read_s, (warning,) = length_and_warnings(tmp_path / "a.mp3")
    assert f"is truncated: 4.0{warning.partition('4.0')[2][0]} s announced, {read_s:.2f} s found" in warning


@pytest.mark.parametrize(("form", "held"), [("MP3", r"4\.\d\d s"), ("OGG", "several recordings")])
def test_several_recordings_in_one_file(form: str, held: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    soundfile.write(path, noise(2 * RATE), RATE, format=form)
    assert length_and_warnings(path) == (2, [])
    path.write_bytes(path.read_bytes() * 2)
    read_s, (warning,) = length_and_warnings(path)
    assert read_s == 2
    assert re.search(f"holds {held}, of which only .*2.00 s,? could be read; decode it to WAV", warning)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000, 32_000, 48_000])
def test_whole_mp3_of_any_rate_has_nothing_to_say(rate: int, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(3 * rate, 2), rate)
    assert length_and_warnings(path)[1] == []
    assert mp3_length(path).there == pytest.approx(3 * rate, abs=4 * 1152)
