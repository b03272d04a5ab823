"""The one event type of the runtime: a drum hit."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Hit"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One drum hit.

    time_s: attack time in seconds from the first sample of the audio.
    code: class code of the manifest, e.g. "BD".
    velocity: loudness 0..1 (x 127 in MIDI).
    confidence: probability 0..1 that a drum of the hit's group was struck at the picked frame.
    """

    time_s: float
    code: str
    velocity: float
    confidence: float
