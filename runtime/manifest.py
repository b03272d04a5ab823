"""The manifest: everything a runtime must know about a model, one JSON document that travels inside the artifact.

Schema 1 is written down in docs/architecture.md. Letters: C classes, P parents (groups of classes), D delays. Edits go
through `dataclasses.replace`, which validates again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from .errors import ManifestError, UsageError

__all__ = ["METADATA_KEY", "SCHEMA_VERSION", "ClassSpec", "DecoderSpec", "Manifest"]

SCHEMA_VERSION = 1
METADATA_KEY = "ghostnote"  # the key in ONNX metadata_props
_STATE_TYPES = ("float32", "float16")
_STATE_NAME = re.compile(r"state_[a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """One output channel: class code and the MIDI note written for it."""

    code: str
    note: int


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """Peak picking: frames waited for, frames between two hits of a parent, parents, probability thresholds.

    `parents` [P] are groups of class codes that together hold every class once; `thresholds` [D][P] decide about a
    parent's hit. It is given to the likeliest class, and to any other whose own probability reaches `also_threshold`.
    """

    lookahead_frames: int
    refractory_frames: int
    parents: tuple[tuple[str, ...], ...]
    thresholds: tuple[tuple[float, ...], ...]
    also_threshold: float = 0.5


@dataclass(frozen=True)
class Manifest:
    """What a runtime knows about a model. Construction validates and raises ManifestError."""

    name: str
    sample_rate: int
    samples_per_token: int
    frames_per_token: int
    classes: tuple[ClassSpec, ...]
    delays_ms: tuple[int, ...]
    default_delay: int
    decoder: DecoderSpec
    states: Mapping[str, tuple[int, ...]]
    state_types: Mapping[str, str] = field(default_factory=dict)  # of states that are not float32
    precision: str = "float32"
    weights_sha256: str = ""
    licence: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    verified: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_clock(self)
        _check_classes(self)
        _check_decoder(self)
        _check_states(self)

    @property
    def samples_per_frame(self) -> int:
        """S, samples per output frame."""
        return self.samples_per_token // self.frames_per_token

    @property
    def frame_s(self) -> float:
        """Seconds per output frame."""
        return self.samples_per_frame / self.sample_rate

    @property
    def token_s(self) -> float:
        """Seconds per token."""
        return self.samples_per_token / self.sample_rate

    @property
    def n_classes(self) -> int:
        """C, number of output channels."""
        return len(self.classes)

    @property
    def codes(self) -> tuple[str, ...]:
        """Class codes in channel order."""
        return tuple(c.code for c in self.classes)

    @property
    def note_of(self) -> dict[str, int]:
        """MIDI note by class code."""
        return {c.code: c.note for c in self.classes}

    def state_type(self, name: str) -> str:
        """Element type of a state, as numpy calls it."""
        return self.state_types.get(name, "float32")

    def delay_samples(self, delay_index: int) -> float:
        """The delay in samples at the model's rate."""
        return self.delays_ms[delay_index] * self.sample_rate / 1000

    def total_latency_ms(self, delay_index: int) -> float:
        """Worst case from attack to report, without transport and computing: delay + one token + decoder look-ahead."""
        waited_samples = self.samples_per_token + self.decoder.lookahead_frames * self.samples_per_frame
        return self.delays_ms[delay_index] + 1000 * waited_samples / self.sample_rate

    def delay_for_latency(self, latency_ms: float) -> int:
        """Index of the largest delay whose total latency is at most `latency_ms`. Raises UsageError where none is."""
        totals = [self.total_latency_ms(i) for i in range(len(self.delays_ms))]
        fitting = [i for i, total in enumerate(totals) if total <= latency_ms + 1e-9]
        if not fitting:
            listed = ", ".join(f"{total:g}" for total in totals)
            raise UsageError(
                f"no setting of model '{self.name}' has a total latency <= {latency_ms:g} ms; available: {listed} ms"
            )
        return fitting[-1]

    def to_dict(self) -> dict[str, Any]:
        """The document of docs/architecture.md as plain data."""
        document: dict[str, Any] = json.loads(self.to_json())
        return document

    def to_json(self) -> str:
        """The document of docs/architecture.md."""
        document = {"schema_version": SCHEMA_VERSION} | asdict(self)
        if not self.state_types:  # most models: nothing there that an older reader would not know
            del document["state_types"]
        return json.dumps(document, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse and validate. Raises ManifestError."""
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise ManifestError(f"manifest is not JSON ({error})") from None
        return cls.from_dict(document)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Manifest:
        """Validate plain data. Raises ManifestError; a newer schema is refused with a message that says so."""
        _expect(isinstance(document, dict), "document", "a JSON object", document)
        _check_schema(document.get("schema_version"))
        return _parse(document)


def _check_schema(version: object) -> None:
    _expect(_is_int(version) and version >= 1, "schema_version", "a positive integer", version)  # type: ignore[operator]
    if version > SCHEMA_VERSION:  # type: ignore[operator]
        raise ManifestError(
            f"the model's manifest has schema {version}, this ghostnote reads schema {SCHEMA_VERSION}: "
            "the model was made by a newer version; upgrade ghostnote"
        )


def _parse(doc: dict[str, Any]) -> Manifest:
    """Read a schema 1 document; unknown keys are left to later versions and ignored."""
    decoder = _get(doc, "decoder", dict)
    parents, thresholds = (_get(decoder, key, list, "decoder.") for key in ("parents", "thresholds"))
    states = _get(doc, "states", dict)
    _expect(all(isinstance(row, list) for row in parents), "decoder.parents", "a list of lists", parents)
    _expect(all(isinstance(row, list) for row in thresholds), "decoder.thresholds", "a list of lists", thresholds)
    _expect(all(isinstance(shape, list) for shape in states.values()), "states", "a shape (list) per state", states)
    return Manifest(
        name=_get(doc, "name", str),
        sample_rate=_get(doc, "sample_rate", int),
        samples_per_token=_get(doc, "samples_per_token", int),
        frames_per_token=_get(doc, "frames_per_token", int),
        classes=tuple(_parse_class(entry) for entry in _get(doc, "classes", list)),
        delays_ms=tuple(_get(doc, "delays_ms", list)),
        default_delay=_get(doc, "default_delay", int),
        decoder=DecoderSpec(
            lookahead_frames=_get(decoder, "lookahead_frames", int, "decoder."),
            refractory_frames=_get(decoder, "refractory_frames", int, "decoder."),
            parents=tuple(tuple(row) for row in parents),
            thresholds=tuple(tuple(row) for row in thresholds),
            also_threshold=_get(decoder, "also_threshold", float, "decoder."),
        ),
        states={name: tuple(shape) for name, shape in states.items()},
        state_types=_get(doc, "state_types", dict) if "state_types" in doc else {},
        precision=_get(doc, "precision", str),
        weights_sha256=_get(doc, "weights_sha256", str),
        licence=_get(doc, "licence", str),
        training=_get(doc, "training", dict),
        scores=_get(doc, "scores", dict),
        verified=_get(doc, "verified", bool),
        notes=tuple(_get(doc, "notes", list)),
    )


def _parse_class(entry: object) -> ClassSpec:
    if not isinstance(entry, dict):
        raise _wrong("classes", 'objects {"code", "note"}', entry)
    return ClassSpec(_get(entry, "code", str, "classes[]."), _get(entry, "note", int, "classes[]."))


def _get(doc: dict[str, Any], key: str, kind: type, prefix: str = "") -> Any:
    """doc[key], checked to be a `kind` (bool is no int)."""
    if key not in doc:
        raise ManifestError(f"manifest: '{prefix}{key}' is missing; export the model again")
    value = doc[key]
    _expect(
        _is_int(value) if kind is int else isinstance(value, kind),
        prefix + key,
        f"a value of type {kind.__name__}",
        value,
    )
    return value


def _check_clock(m: Manifest) -> None:
    _expect(m.sample_rate > 0, "sample_rate", "a positive number of Hz", m.sample_rate)
    _expect(m.samples_per_token > 0, "samples_per_token", "a positive number of samples", m.samples_per_token)
    divides = m.frames_per_token > 0 and m.samples_per_token % m.frames_per_token == 0
    _expect(divides, "frames_per_token", f"a divisor of samples_per_token {m.samples_per_token}", m.frames_per_token)
    delays = m.delays_ms
    rising = len(delays) > 0 and all(_is_int(d) and d >= 0 for d in delays) and all(a < b for a, b in pairwise(delays))
    _expect(rising, "delays_ms", "a rising list of integers >= 0", delays)
    _expect(0 <= m.default_delay < len(delays), "default_delay", f"an index into {len(delays)} delays", m.default_delay)


def _check_classes(m: Manifest) -> None:
    _expect(len(m.classes) > 0, "classes", "at least one class", m.classes)
    _expect(len(set(m.codes)) == len(m.codes), "classes", "different codes", m.codes)
    # A code is one word: it stands in tab-separated and comma-separated files.
    _expect(all(re.fullmatch(r"\w+", code) for code in m.codes), "classes", "codes of letters and digits", m.codes)
    _expect(all(0 <= c.note <= 127 for c in m.classes), "classes", "MIDI notes 0..127", [c.note for c in m.classes])


def _check_decoder(m: Manifest) -> None:
    spec = m.decoder
    _expect(
        spec.lookahead_frames == 1, "decoder.lookahead_frames", "1 (all that schema 1 knows)", spec.lookahead_frames
    )
    _expect(spec.refractory_frames >= 1, "decoder.refractory_frames", "at least 1", spec.refractory_frames)
    members = sorted(str(code) for parent in spec.parents for code in parent)
    _expect(members == sorted(m.codes), "decoder.parents", "groups that hold every class once", spec.parents)
    _expect(_is_probability(spec.also_threshold), "decoder.also_threshold", "a probability 0..1", spec.also_threshold)
    rows = spec.thresholds
    shaped = len(rows) == len(m.delays_ms) and all(len(row) == len(spec.parents) for row in rows)
    _expect(
        shaped,
        "decoder.thresholds",
        f"{len(m.delays_ms)} rows of {len(spec.parents)}",
        f"rows of {[len(row) for row in rows]}",
    )
    _expect(all(_is_probability(p) for row in rows for p in row), "decoder.thresholds", "probabilities 0..1", rows)


def _check_states(m: Manifest) -> None:
    names = sorted(m.states)
    _expect(all(_STATE_NAME.fullmatch(name) for name in names), "states", "names like 'state_audio'", names)
    # Serving systems pair states by sorted name, which goes wrong when one name begins another.
    clear = all(not after.startswith(before) for before, after in pairwise(names))
    _expect(clear, "states", "names of which none begins another", names)
    sized = all(len(shape) > 0 and all(_is_int(n) and n > 0 for n in shape) for shape in m.states.values())
    _expect(sized, "states", "shapes of positive integers", dict(m.states))
    typed = all(name in m.states and kind in _STATE_TYPES for name, kind in m.state_types.items())
    _expect(typed, "state_types", f"names of states with one of {', '.join(_STATE_TYPES)}", dict(m.state_types))


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_probability(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _expect(holds: object, key: str, expected: str, found: object) -> None:
    if not holds:
        raise _wrong(key, expected, found)


def _wrong(key: str, expected: str, found: object) -> ManifestError:
    shown = repr(found)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return ManifestError(f"manifest: '{key}' must be {expected}, found {shown}; export the model again")
