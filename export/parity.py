"""Streaming parity: does an exported graph say what PyTorch says, chunk by chunk, and give the same hits?

Letters: B streams, T tokens of a chunk, F = T * frames_per_token, C classes.
Both sides carry their own states over all chunks, so that differences may add up as they would in use.
A hit that only one side reports is a tie where a logit near it lies within tolerance of its threshold or of its
neighbour frame (the decoder compares exactly); any other is a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..runtime.decoder import close_calls, decode
from ..runtime.engine import Engine
from ..runtime.events import Hit
from ..runtime.manifest import Manifest
from .signals import drum_like

__all__ = [
    "TOLERANCE",
    "HitAgreement",
    "OutputDifference",
    "ParityReport",
    "check_parity",
    "compare_hits",
    "run_stream",
]

TOLERANCE = 1e-4  # float32: absolute on outputs, relative to the largest value (where that is above 1) on states
CHUNKS = 64
CHUNK_TOKENS = (1, 2, 3, 7, 2, 1, 16, 2)  # repeated: live sizes most of the time, file sizes in between
HEADS = ("onset_logits", "velocity", "offset")

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class OutputDifference:
    """Largest and mean absolute difference of one output over all chunks."""

    name: str
    max_abs: float
    mean_abs: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Within tolerance; NaN is not."""
        return self.max_abs <= self.tolerance


@dataclass(frozen=True)
class HitAgreement:
    """Hits of the reference, those that the other side reports too, and hits of one side only: ties and unexplained."""

    reference: int
    same: int
    ties: int
    unexplained: int

    def __add__(self, other: HitAgreement) -> HitAgreement:
        return HitAgreement(
            self.reference + other.reference,
            self.same + other.same,
            self.ties + other.ties,
            self.unexplained + other.unexplained,
        )


@dataclass(frozen=True)
class ParityReport:
    """Everything that was compared, for the table and the gate."""

    outputs: tuple[OutputDifference, ...]
    hits: HitAgreement
    chunks: int

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.outputs) and self.hits.unexplained == 0


def check_parity(reference: Engine, exported: Engine) -> ParityReport:
    """Stream the same audio through both: one stream at the default delay, then three at different delays."""
    manifest = reference.manifest
    last = len(manifest.delays_ms) - 1
    plan = [CHUNK_TOKENS[i % len(CHUNK_TOKENS)] for i in range(CHUNKS)]
    differences, hits = [], HitAgreement(0, 0, 0, 0)
    for delays in ([manifest.default_delay], [0, last // 2, last]):
        audio = trial_audio(len(delays), sum(plan) * manifest.samples_per_token, manifest.sample_rate)
        one, other = (run_stream(engine, audio, delays, plan) for engine in (reference, exported))
        differences.append([_difference(name, one[name], other[name]) for name in one])
        for row, delay_index in enumerate(delays):
            hits += _agreement(_row(one, row), _row(other, row), manifest, delay_index)
    worst = tuple(_worst(rows) for rows in zip(*differences, strict=True))
    return ParityReport(worst, hits, CHUNKS)


def trial_audio(streams: int, samples: int, sample_rate: int) -> np.ndarray:
    """[streams, samples]: drum-like sounds, with a tenth of loud noise and a tenth of silence among them."""
    rng = np.random.default_rng(1)
    audio = np.stack([drum_like(seed, samples / sample_rate, sample_rate)[:samples] for seed in range(streams)])
    tenth = samples // 10
    audio[:, 2 * tenth : 3 * tenth] = 0.5 * rng.standard_normal((streams, tenth))
    audio[:, 5 * tenth : 6 * tenth] = 0
    return audio


def run_stream(engine: Engine, audio: np.ndarray, delays: Sequence[int], plan: Sequence[int]) -> Arrays:
    """Run chunks of `plan` tokens over audio [B, N] from zero state: heads [B, F, C] of it all, and the last states."""
    token = engine.manifest.samples_per_token
    delay = np.array(delays, dtype=np.int64)[:, None]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in HEADS}
    state, position = engine.zero_state(len(audio)), 0
    for tokens in plan:
        chunk = np.ascontiguousarray(audio[:, position : position + tokens * token])
        output = engine.step(chunk, delay, state)
        state, position = output.state, position + tokens * token
        for name in HEADS:
            parts[name].append(getattr(output, name))
    return {name: np.concatenate(values, axis=1) for name, values in parts.items()} | {
        f"{name}_out": value for name, value in state.items()
    }


def compare_hits(
    reference: Sequence[Hit], other: Sequence[Hit], close: np.ndarray, manifest: Manifest, delay_index: int
) -> HitAgreement:
    """Pair hits of one class and time; explain the rest by `close` [F, C], the frames where a comparison is a tie.

    A flipped hit also changes what the refractory time lets through after it, so ties that far back explain a hit too.
    """
    unpaired = list(other)
    alone = []
    for hit in reference:
        twin = next((h for h in unpaired if h.code == hit.code and abs(h.time_s - hit.time_s) < 1e-5), None)
        if twin is None:
            alone.append(hit)
        else:
            unpaired.remove(twin)
    same = len(reference) - len(alone)
    alone += unpaired
    ties = sum(_is_tie(hit, close, manifest, delay_index) for hit in alone)
    return HitAgreement(len(reference), same, ties, len(alone) - ties)


def _agreement(one: Arrays, other: Arrays, manifest: Manifest, delay_index: int) -> HitAgreement:
    """Hits of one stream, outputs [F, C], through the decoder that users run."""
    hits = [decode(*(side[name] for name in HEADS), manifest, delay_index) for side in (one, other)]
    close = close_calls(one["onset_logits"], manifest, delay_index, TOLERANCE)
    return compare_hits(hits[0], hits[1], close, manifest, delay_index)


def _is_tie(hit: Hit, close: np.ndarray, manifest: Manifest, delay_index: int) -> bool:
    # The time lies 0 to 2 frames after the start of its frame; ties further back act through the refractory time.
    latest = int((hit.time_s + manifest.delays_ms[delay_index] / 1000) / manifest.frame_s + 1e-6)
    earliest = max(0, latest - 2 - manifest.decoder.refractory_frames)
    return bool(close[earliest : latest + 1, manifest.codes.index(hit.code)].any())


def _difference(name: str, one: np.ndarray, other: np.ndarray) -> OutputDifference:
    difference = np.abs(one.astype(np.float64) - other)
    scale = 1.0 if name in HEADS else max(1.0, float(np.abs(one).max()))
    return OutputDifference(name, float(difference.max()), float(difference.mean()), TOLERANCE * scale)


def _worst(rows: Sequence[OutputDifference]) -> OutputDifference:
    mean = float(np.mean([row.mean_abs for row in rows]))
    worst = max(rows, key=lambda row: np.nan_to_num(row.max_abs / row.tolerance, nan=np.inf))
    return OutputDifference(worst.name, worst.max_abs, mean, worst.tolerance)


def _row(outputs: Arrays, row: int) -> Arrays:
    return {name: value[row] for name, value in outputs.items()}
