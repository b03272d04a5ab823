"""What the readers share: finding files, and saying what was expected where they are not found."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from pathlib import Path

from ...runtime.errors import InputError
from ...runtime.vocabulary import CODES
from ..data.performances.grooves import read_midi
from ..evaluation.scores import code_of_label
from .recording import Label

__all__ = [
    "AUDIO_SUFFIXES",
    "audio_by_stem",
    "midi_labels",
    "of_split",
    "require",
    "seconds",
    "text_labels",
    "text_rows",
    "wrong_folder",
]

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".mp3", ".opus", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64"}
)
_EARLY_S = 0.1  # annotations made on a grid or by alignment begin this early at most


def wrong_folder(folder: Path, corpus: str, expected: str) -> InputError:
    """The error of a folder that does not hold what the corpus's reader needs; names what is there."""
    if not folder.is_dir():
        return InputError(f"{folder}: no such folder; expected {corpus} with {expected}")
    entries = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    found = ", ".join(entries[:6]) + (f" and {len(entries) - 6} more" if len(entries) > 6 else "")
    return InputError(f"{folder}: not {corpus}; expected {expected}, found {found or 'an empty folder'}")


def require(folder: Path, corpus: str, expected: str, *parts: str) -> None:
    """Raise InputError unless every path of `parts` exists under `folder`."""
    if not all((folder / part).exists() for part in parts):
        raise wrong_folder(folder, corpus, expected)


def audio_by_stem(folder: Path, wanted: Container[str] | None = None) -> dict[str, Path]:
    """The audio files of a folder by name without ending, of `wanted` names only; none where there is no such folder.

    Hidden ones, as macOS leaves beside others (`._NAME`), are none. Raises InputError for two of one name.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        is_audio = path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")
        if is_audio and (wanted is None or path.stem in wanted):
            if path.stem in files:
                raise InputError(f"{folder}: {files[path.stem].name} and {path.name} are one track; keep one of them")
            files[path.stem] = path
    return files


def of_split(name: str | None, wanted: str | None) -> bool:
    """True where a recording of split `name` was asked for; None asks for all."""
    return wanted is None or name == wanted


def seconds(text: str | float) -> float:
    """The time of a label; a little before the recording is its start. Raises ValueError for what is no such time."""
    time_s = float(text)
    if not -_EARLY_S <= time_s < math.inf:  # NaN neither
        raise ValueError(f"{text} is no time in a recording")
    return max(0.0, time_s)


def text_rows(path: Path) -> list[tuple[float, str]]:
    """Lines of seconds and label, split by blanks. Raises InputError for what is neither."""
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        return [(seconds(row[0]), row[1]) for row in rows if row]
    except (OSError, ValueError, IndexError) as error:  # UnicodeDecodeError is a ValueError
        raise InputError(f"{path}: not an annotation ({error}); expected lines of seconds and label") from None


def text_labels(path: Path) -> Iterable[Label]:
    """Hits of a text whose labels `ghostnote evaluate` reads; labels that are no drum of ours are left out."""
    named = ((time_s, code_of_label(label)) for time_s, label in text_rows(path))
    return [Label(time_s, name) for time_s, name in named if name is not None]


def midi_labels(path: Path, codes: dict[int, str] | None = None, *, drum_channel: bool = False) -> Iterable[Label]:
    """Hits of a MIDI file with velocities, as `grooves.read_midi` reads them: very soft notes and doubles left out."""
    played = read_midi(path, codes, drum_channel=drum_channel)
    hits = zip(played.times_s, played.classes, played.velocities, strict=True)
    return [Label(float(time_s), CODES[index], float(velocity)) for time_s, index, velocity in hits]
