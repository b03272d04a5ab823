"""A transcription as one HTML page to look at and listen to: waveform, a lane per drum, confidences, player.

The page is complete in itself: data and sound are embedded, nothing is loaded from anywhere. Hits are kept in 17 bytes
each until the page is written.
"""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..events import Hit
from ..files import AtomicFile
from ..vocabulary import NAME_OF
from .soundtrack import Soundtrack

if TYPE_CHECKING:
    from ..engines.protocol import Engine
    from ..input.source import Source
    from ..streams.stream import StreamingTranscriber
    from .options import OutputRequest

__all__ = ["ReportFacts", "ReportSink", "facts_of"]

_TEMPLATE = Path(__file__).with_name("report.html")
_DATA = "/*DATA*/null"
# Lanes from top to bottom as on a drum staff: cymbals, toms, snare, bass drum.
_CYMBALS = ("CRC", "SPC", "CHC", "RD", "RB", "OHH", "CHH", "PHH")
_LANES = (*_CYMBALS, "TB", "CB", "CL", "CLP", "HT", "MT", "LT", "SS", "SD", "BD")


@dataclass(frozen=True)
class ReportFacts:
    """What the page says besides the hits: title, the model with its latency, and settings as (name, value)."""

    title: str
    model: str
    settings: tuple[tuple[str, str], ...]


def facts_of(request: OutputRequest, engine: Engine, transcriber: StreamingTranscriber, reader: Source) -> ReportFacts:
    """The facts of a run that is about to begin."""
    manifest, score = engine.manifest, request.score
    latency = f"{transcriber.total_latency_ms:g} ms"
    settings = {
        "Model": f"{manifest.name} ({manifest.precision})",
        "Engine": engine.describe(),
        "Total latency": latency,
        "Input": f"{reader.source_rate} Hz, {reader.channels} channel{'s' if reader.channels > 1 else ''}",
        "Tempo": score.tempo,
        "Meter": score.meter,
        "Quantised to": score.quantize,
        "Note map": score.note_map and score.note_map.name,
        "Beside this page": ", ".join(path.name for path, _ in request.files),
    }
    stated = tuple((name, str(value)) for name, value in settings.items() if value)
    return ReportFacts(Path(reader.name).name, f"{manifest.name}, total latency {latency}", stated)


class ReportSink:
    """Gathers hits, and writes the page on `close` (see AtomicFile)."""

    def __init__(self, path: Path, facts: ReportFacts, soundtrack: Soundtrack) -> None:
        self._facts = facts
        self._soundtrack = soundtrack
        self._codes: list[str] = []  # in order of appearance; what the hits' class numbers mean
        self._times_s, self._classes = array("d"), array("B")
        self._velocities, self._confidences = array("f"), array("f")
        self._file = AtomicFile(path)

    def write(self, hits: Iterable[Hit]) -> None:
        """Keep the hits."""
        for hit in hits:
            if hit.code not in self._codes:
                self._codes.append(hit.code)
            self._times_s.append(hit.time_s)
            self._classes.append(self._codes.index(hit.code))
            self._velocities.append(hit.velocity)
            self._confidences.append(hit.confidence)

    def close(self) -> None:
        """Write the page."""
        before, after = _TEMPLATE.read_text(encoding="utf-8").split(_DATA)
        # Data are inside a script, which '</script>' in a file's name would end.
        data = json.dumps(self._data()).replace("<", "\\u003c")
        self._file.write(piece.encode() for piece in (before, data, after))
        self._file.close()

    def discard(self) -> None:
        """Leave nothing behind; what stood under the name before stays."""
        self._file.discard()

    def _data(self) -> dict[str, Any]:
        track = self._soundtrack
        audio = track.audio()
        duration_s = track.samples / track.sample_rate
        return {
            "title": self._facts.title,
            "summary": f"{len(self._times_s)} hits in {_clock(duration_s)} of audio; {self._facts.model}",
            "settings": self._facts.settings,
            "duration_s": duration_s,
            "peaks": _outline(track),
            **self._lanes(),
            "audio": None if audio is None else _base64(audio),
            "audio_note": track.omitted,
        }

    def _lanes(self) -> dict[str, Any]:
        """Classes that were hit, as lanes from top to bottom, and the hits in order of time."""
        order = np.argsort(np.frombuffer(self._times_s, np.float64), kind="stable")
        lanes = sorted(self._codes, key=lambda code: (_LANES.index(code) if code in _LANES else len(_LANES), code))
        lane_of = np.array([lanes.index(code) for code in self._codes], np.uint8)
        classes = np.frombuffer(self._classes, np.uint8)[order]
        counts = np.bincount(classes, minlength=len(self._codes))
        return {
            "classes": [
                {"code": code, "name": NAME_OF.get(code, code), "count": int(counts[self._codes.index(code)])}
                for code in lanes
            ],
            "hits": {
                "time": _base64(np.frombuffer(self._times_s, np.float64)[order]),
                "lane": _base64(lane_of[classes] if len(classes) else classes),
                "velocity": _base64(np.frombuffer(self._velocities, np.float32)[order]),
                "confidence": _base64(np.frombuffer(self._confidences, np.float32)[order]),
            },
        }


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes else f"{seconds:.1f} s"


def _outline(track: Soundtrack) -> dict[str, Any]:
    """Lows, then highs, as bytes -127..127 of which 127 is the loudest sample."""
    ranges = track.outline.ranges()
    loudest = float(np.abs(ranges).max(initial=0.0)) or 1.0
    scaled = np.round(ranges / np.float32(loudest) * 127).astype(np.int8)
    return {"bin_s": track.outline.bin_samples / track.sample_rate, "data": _base64(scaled)}


def _base64(data: bytes | np.ndarray[Any, Any]) -> str:
    return base64.b64encode(data if isinstance(data, bytes) else data.tobytes()).decode()
