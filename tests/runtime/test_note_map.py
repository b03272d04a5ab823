"""Note maps: both ways to write them, and errors that name line, found, expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghostnote.runtime.errors import InputError
from ghostnote.runtime.output.note_map import read_note_map

CODES = ("BD", "SD", "CHH")


@pytest.mark.parametrize("text", ["# kit\nSD 40\n\nCHH,22 # edge\n", "SD = 40\nCHH: 22", '{"SD": 40,\n "CHH": 22}'])
def test_both_ways(text: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    assert read_note_map(path, CODES) == {"SD": 40, "CHH": 22}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SD 40\nSDX 41\n", "line 2: class 'SDX'; expected one of BD, SD, CHH"),
        ("SD\n", "line 1: found 'SD'; expected a class and a MIDI note, e.g. SD 40"),
        ("SD 40 41\n", "line 1: found 'SD 40 41'"),
        ("SD forty\n", "line 1: note 'forty' for SD; expected a whole number from 0 to 127"),
        ("SD 128\n", "line 1: note '128'"),
        ("SD 40\nSD 41\n", "line 2: 'SD' for the second time"),
        ('{"SD": 40,\n "XX": 1}', "line 2: class 'XX'"),
        ('{"SD": 40.5}', "note '40.5'"),
        ('{"SD": {"a": 1}}', "note '"),
        ('{"SD": 40', "line 1: not JSON"),
        ('{"SD": 4' + 5000 * "0" + "}", "not a note map"),
        ('{"SD": ' + 100_000 * "[", "not a note map"),
        ('{"SD": 40, "SD": 41}', "second time"),
    ],
)
def test_bad_entries(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_note_map(path, CODES)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "bytes"):
        with pytest.raises(InputError, match="cannot be read"):
            read_note_map(path, CODES)
