"""Following a file that another program writes."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click_model
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ghostnote.runtime import AudioReader, InputError
from ghostnote.runtime.input.pcm import PcmFormat
from ghostnote.runtime.live.follow import follow

RATE = click_model.RATE
RAW = PcmFormat("s16le", RATE, 2)
AUDIO = np.random.default_rng(5).integers(-9000, 9000, (RATE, 2), np.int16)


def wav_header(size: int, rate: int = RATE) -> bytes:
    """16-bit stereo; `size` stands where the lengths belong."""
    fmt = struct.pack("<HHIIHH", 1, 2, rate, rate * 4, 4, 16)
    return b"RIFF" + struct.pack("<I", size) + b"WAVEfmt \x10\0\0\0" + fmt + b"data" + struct.pack("<I", size)


def heard(reader: AudioReader) -> np.ndarray:
    with reader:
        return np.concatenate([np.zeros(0, np.float32), *reader])


def meanwhile(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def expected(audio: np.ndarray) -> np.ndarray:
    return (audio.astype(np.float32) / 32768).mean(1)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 4000])
def test_wav_that_does_not_know_its_length(size: int, tmp_path: Path) -> None:
    """4000: what was there when the header was written last."""
    path = tmp_path / "a.wav"
    path.write_bytes(wav_header(size) + AUDIO[:1000].tobytes())

    def write() -> None:
        with path.open("ab") as file:
            for start in range(1000, RATE, 5000):
                file.write(AUDIO[start : start + 5000].tobytes())
                file.flush()
                time.sleep(0.01)

    writer = meanwhile(write)
    reader = follow(path, RATE, timeout_s=0.3)
    assert reader.is_live
    assert np.allclose(heard(reader), expected(AUDIO))
    assert reader.warnings == [f"{path}: has not grown for 0.3 s; taken as complete"]
    writer.join()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 2044), max_size=4))
def test_written_in_pieces_of_any_size(cuts: list[int], tmp_path: Path) -> None:
    """Also in the middle of the header and of a sample."""
    path, data = tmp_path / "a.wav", wav_header(0) + AUDIO[:500].tobytes()
    path.write_bytes(b"")

    def write() -> None:
        with path.open("ab") as file:
            for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
                file.write(data[start:end])
                file.flush()
                time.sleep(0.002)

    writer = meanwhile(write)
    assert np.allclose(heard(follow(path, RATE, timeout_s=0.1)), expected(AUDIO[:500]))
    writer.join()


def test_raw_resampled(tmp_path: Path) -> None:
    path = tmp_path / "a.pcm"
    path.write_bytes(AUDIO.tobytes())
    soundfile.write(tmp_path / "a.wav", AUDIO, 48_000)
    followed = heard(follow(path, RATE, raw=PcmFormat("s16le", 48_000, 2), timeout_s=0))
    whole = heard(AudioReader(tmp_path / "a.wav", RATE))
    assert np.allclose(followed, whole, atol=1e-6)


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced", "cut"])
def test_the_end_of_the_file(how: str, tmp_path: Path) -> None:
    """All that was written before is heard, and the message says what happened."""
    path = tmp_path / "a.pcm"
    path.write_bytes(AUDIO[:3000].tobytes())
    blocks = []
    with follow(path, RATE, raw=RAW) as reader:
        for block in reader:
            blocks.append(block)
            if len(blocks) > 1:
                continue
            if how != "cut":
                with path.open("ab") as file:
                    file.write(AUDIO[3000:5000].tobytes())
            if how == "removed":
                path.unlink()
            elif how == "renamed":
                path.rename(tmp_path / "final.pcm")
            elif how == "replaced":
                (tmp_path / "b.pcm").write_bytes(AUDIO.tobytes())
                (tmp_path / "b.pcm").replace(path)
            else:
                path.write_bytes(b"")
    words = {"removed": "removed or renamed", "renamed": "removed or renamed", "cut": "cut short"}.get(how, how)
    assert len(reader.warnings) == 1
    assert words in reader.warnings[0]
    assert np.allclose(np.concatenate(blocks), expected(AUDIO[: 3000 if how == "cut" else 5000]))


@pytest.mark.parametrize(("written", "found"), [(0, "empty"), (6, "not WAV"), (30, "header ends before any audio")])
def test_a_header_that_ends_with_the_file(written: int, found: str, tmp_path: Path) -> None:
    """What was found of it does not say why there was no more."""
    path = tmp_path / "a.wav"
    path.write_bytes(wav_header(0)[:written])
    remover = meanwhile(lambda: (time.sleep(0.2), path.unlink()))
    with pytest.raises(InputError, match=rf"a\.wav: .*{found}.*; the file was removed or renamed$"):
        follow(path, RATE)
    remover.join()
    path.write_bytes(wav_header(0)[:written])
    with pytest.raises(InputError, match=rf"{found}.*; the file has not grown for 0\.05 s$"):
        follow(path, RATE, timeout_s=0.05)


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int, _size: int) -> bytes:
        raise OSError(5, "Input/output error")

    (tmp_path / "a.wav").write_bytes(wav_header(0))
    monkeypatch.setattr("ghostnote.runtime.live.follow.os.read", broken)
    with pytest.raises(InputError, match=r"a\.wav: cannot be read \(Input/output error\)"):
        follow(tmp_path / "a.wav", RATE)


def test_readable_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.wav: no such file"):
        follow(tmp_path / "absent.wav", RATE)
    with pytest.raises(InputError, match="needs a file"):
        follow(tmp_path, RATE)
    (tmp_path / "a.flac").write_bytes(b"fLaC" + bytes(100))
    with pytest.raises(
        InputError, match=r"a\.flac: FLAC, but only WAV and raw PCM can be read as they come; give a whole file"
    ):
        follow(tmp_path / "a.flac", RATE)
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.wav: empty"):
        follow(tmp_path / "empty.wav", RATE, timeout_s=0.05)
    (tmp_path / "empty.pcm").write_bytes(b"")
    with pytest.raises(InputError, match="no audio samples"):
        heard(follow(tmp_path / "empty.pcm", RATE, raw=RAW, timeout_s=0.05))
