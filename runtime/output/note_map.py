"""Note maps: which MIDI note a drum is written as, where a sampler wants another one than General MIDI."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError

__all__ = ["read_note_map"]

_EXPECTED = "expected a class and a MIDI note, e.g. SD 40"


def read_note_map(path: Path, codes: Sequence[str]) -> dict[str, int]:
    """Notes by class code from lines `CODE NOTE`, or from a JSON object {"CODE": NOTE}; other classes keep theirs.

    Raises InputError, which names line, found, expected, for a file that cannot be read or has a bad entry.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise InputError(f"{path}: note map cannot be read ({reason})") from None
    entries = _json_entries(path, text) if text.lstrip().startswith("{") else _line_entries(path, text)
    notes: dict[str, int] = {}
    for where, code, note in entries:
        if code not in codes:
            raise InputError(f"{where}: class '{code}'; expected one of {', '.join(codes)}")
        if code in notes:
            raise InputError(f"{where}: '{code}' for the second time; expected every class at most once")
        if not re.fullmatch(r"\d{1,3}", note) or int(note) > 127:
            raise InputError(f"{where}: note '{note}' for {code}; expected a whole number from 0 to 127")
        notes[code] = int(note)
    return notes


def _line_entries(path: Path, text: str) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        words = [word for word in re.split(r"[\s,;:=]+", line.partition("#")[0]) if word]
        if not words:
            continue
        where = f"{path} line {number}"
        if len(words) != 2:
            raise InputError(f"{where}: found '{line.strip()}'; {_EXPECTED}")
        yield where, words[0], words[1]


def _json_entries(path: Path, text: str) -> Iterator[tuple[str, str, str]]:
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise InputError(
            f'{path} line {error.lineno}: not JSON ({error.msg}); expected an object like {{"SD": 40}}'
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets without end
        raise InputError(f'{path}: not a note map ({error}); expected an object like {{"SD": 40}}') from None
    lines = text.splitlines()
    for code, note in pairs:
        number = next((i for i, line in enumerate(lines, 1) if json.dumps(code) in line), 1)
        yield f"{path} line {number}", code, json.dumps(note)
