"""Streaming parity: does one engine say what another says, chunk by chunk, and give the same hits?

Letters: B streams, T tokens of a chunk, F = T * frames_per_token, C classes.
Both sides carry their own states over all chunks, so that differences may add up as they would in use; a long trial
shows whether they do. Float32 is held to hits that are the same: one that only one side reports is a tie where a logit
near it lies within tolerance of its threshold or of its neighbour frame (the decoder compares exactly), and a failure
otherwise. Reduced precision is held to the F of its hits against the float32 ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..runtime.decoder import close_calls, decode
from ..runtime.engines.plan_profile import PlanProfile
from ..runtime.engines.protocol import HEADS, Engine, StepOutput
from ..runtime.events import Hit
from ..runtime.manifest import Manifest
from ..runtime.pairing import same_hits
from ..runtime.streams.stream import FILE_TOKENS_PER_CALL
from .signals import drum_like

__all__ = [
    "TOLERANCES",
    "HitAgreement",
    "OutputDifference",
    "ParityReport",
    "Tolerance",
    "Trial",
    "check_parity",
    "compare_hits",
    "fitted",
    "run_stream",
    "save_worst_chunk",
    "trials",
]


@dataclass(frozen=True)
class Tolerance:
    """What a precision may differ by: outputs (absolute; states relative to their largest), F of hits, velocities."""

    output: float
    hits_f: float
    velocity: float  # mean absolute difference of paired hits, 0..1

    @property
    def within_s(self) -> float:
        """How far apart two hits are the same."""
        return EXACT_S if self.hits_f == 1.0 else PAIRED_S


TOLERANCES = {
    "float32": Tolerance(output=1e-4, hits_f=1.0, velocity=1e-4),  # F after ties, which are counted
    "float16": Tolerance(output=0.25, hits_f=0.998, velocity=0.002),
    "bfloat16": Tolerance(output=1.0, hits_f=0.99, velocity=0.01),
    "int8": Tolerance(output=3.0, hits_f=0.99, velocity=0.02),
    "float8": Tolerance(output=5.0, hits_f=0.97, velocity=0.05),
}
CHUNKS = 64
CHUNK_TOKENS = (1, 2, 3, 7, 2, 1, 16, 2)  # repeated: live sizes most of the time, file sizes in between
EXACT_S, PAIRED_S = 1e-5, 0.01  # how far apart two hits are the same: float32, and reduced precision
SPANS = 10  # of the long trial, to see whether differences grow

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Trial:
    """Audio [B, N] to stream in chunks of `plan` tokens, stream b reported at delay `delays[b]`."""

    name: str
    audio: np.ndarray
    delays: tuple[int, ...]
    plan: tuple[int, ...]


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

    reference: int = 0
    same: int = 0
    ties: int = 0
    unexplained: int = 0
    velocity_difference: float = 0.0  # summed over the hits that are the same

    def __add__(self, other: HitAgreement) -> HitAgreement:
        return HitAgreement(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def f(self) -> float:
        """F of the other side's hits against the reference's; ties left out of account."""
        return 1.0 if not self.same + self.unexplained else 2 * self.same / (2 * self.same + self.unexplained)

    @property
    def mean_velocity_difference(self) -> float:
        return self.velocity_difference / max(1, self.same)


@dataclass(frozen=True)
class ParityReport:
    """Everything that was compared, for the table and the gate."""

    outputs: tuple[OutputDifference, ...]
    hits: HitAgreement
    chunks: int  # of the trial with live chunks
    tolerance: Tolerance = TOLERANCES["float32"]
    executed_by: str = ""
    drift: tuple[float, ...] = ()  # mean |difference| of the logits in equal spans of the longest trial
    drift_s: float = 0.0

    @property
    def passed(self) -> bool:
        return (
            all(row.passed for row in self.outputs)
            and self.hits.f >= self.tolerance.hits_f
            and self.hits.mean_velocity_difference <= self.tolerance.velocity
        )


def trials(manifest: Manifest, real: Mapping[str, np.ndarray] | None = None, long_s: float = 60.0) -> list[Trial]:
    """What to stream: live chunks, recordings (audio [N] by name) at three delays each, and one long stream.

    A recording holds a token at least.
    """
    last = len(manifest.delays_ms) - 1
    live = tuple(CHUNK_TOKENS[i % len(CHUNK_TOKENS)] for i in range(CHUNKS))
    across = (0, last // 2, last)
    found = []
    for delays in ((manifest.default_delay,), across):
        audio = trial_audio(len(delays), sum(live) * manifest.samples_per_token, manifest.sample_rate)
        found.append(Trial(f"live chunks, {len(delays)} stream(s)", audio, delays, live))
    for name, audio in (real or {}).items():
        whole = audio[: len(audio) // manifest.samples_per_token * manifest.samples_per_token]
        plan = _plan(len(whole) // manifest.samples_per_token)
        found.append(Trial(name, np.tile(whole, (len(across), 1)), across, plan))
    plan = _plan(round(long_s / manifest.token_s))
    samples = sum(plan) * manifest.samples_per_token
    long = drum_like(len(across), samples / manifest.sample_rate, manifest.sample_rate)[None, :samples]
    found.append(Trial("long stream", long, (manifest.default_delay,), plan))
    return found


def fitted(trial: Trial, profile: PlanProfile) -> Trial:
    """A trial for a plan of these sizes: fewer streams, small calls joined. Too large ones are the plan's to divide."""
    streams = profile.batch[1]
    plan, waiting = [], 0
    for call in trial.plan:
        waiting += call
        fits = next((n for n in range(waiting, 0, -1) if profile.takes(n)), 0)
        if fits:
            plan.append(fits)
            waiting -= fits
    return Trial(trial.name, trial.audio[:streams], trial.delays[:streams], tuple(plan))


def check_parity(
    reference: Engine, other: Engine, tried: Sequence[Trial] | None = None, tolerance: Tolerance = TOLERANCES["float32"]
) -> ParityReport:
    """Stream the same audio through both and compare all that comes out."""
    manifest = reference.manifest
    tried = trials(manifest) if tried is None else tried
    differences, hits = [], HitAgreement()
    drift: tuple[float, ...] = ()
    longest = max(tried, key=lambda trial: sum(trial.plan))
    for trial in tried:
        one, two = (run_stream(engine, trial.audio, trial.delays, trial.plan) for engine in (reference, other))
        differences.append([_difference(name, one[name], two[name], tolerance) for name in one])
        rows = range(len(trial.delays))
        agreements = [_agreement(_row(one, b), _row(two, b), manifest, trial.delays[b], tolerance) for b in rows]
        hits = sum(agreements, hits)
        if trial is longest:
            drift = _drift(one, two)
    return ParityReport(
        tuple(_worst(rows) for rows in zip(*differences, strict=True)),
        hits,
        len(tried[0].plan),
        tolerance,
        other.describe(),
        drift,
        sum(longest.plan) * manifest.token_s,
    )


def save_worst_chunk(reference: Engine, other: Engine, tried: Sequence[Trial], path: Path) -> None:
    """Write the chunk with the largest difference of a head as .npz: its input, the states before it, both outputs."""
    worst, arrays = -1.0, {}
    for trial in tried:
        for one, two in zip(*(_stream(side, trial, keep_states=True) for side in (reference, other)), strict=True):
            pairs = {name: (getattr(one.output, name), getattr(two.output, name)) for name in HEADS}
            largest = max(float(np.nan_to_num(np.abs(a - b), nan=np.inf).max()) for a, b in pairs.values())
            if largest > worst:
                worst = largest
                arrays = {"audio": one.audio, "delay": one.delay}
                arrays |= {f"reference_{name}": value for name, (value, _) in pairs.items()}
                arrays |= {f"other_{name}": value for name, (_, value) in pairs.items()}
                arrays |= {f"reference_{name}": value for name, value in one.state.items()}
                arrays |= {f"other_{name}": value for name, value in two.state.items()}
    np.savez(path, **arrays)


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
    outputs = [chunk.output for chunk in _stream(engine, Trial("", audio, tuple(delays), tuple(plan)))]
    heads = {name: np.concatenate([getattr(output, name) for output in outputs], axis=1) for name in HEADS}
    return heads | {f"{name}_out": value for name, value in outputs[-1].state.items()}


def compare_hits(
    reference: Sequence[Hit],
    other: Sequence[Hit],
    close: np.ndarray,
    manifest: Manifest,
    delay_index: int,
    within_s: float = EXACT_S,
) -> HitAgreement:
    """Pair hits of one class and time; explain the rest by `close` [F, C], the frames where a comparison is a tie.

    A flipped hit also changes what the refractory time lets through after it, so ties that far back explain a hit too.
    """
    pairs, alone = same_hits(reference, other, within_s)
    ties = sum(_is_tie(hit, close, manifest, delay_index) for hit in alone)
    velocity_difference = sum(abs(twin.velocity - hit.velocity) for hit, twin in pairs)
    return HitAgreement(len(reference), len(pairs), ties, len(alone) - ties, velocity_difference)


class _Chunk(NamedTuple):
    """One call: what went in and what came out."""

    audio: np.ndarray
    delay: np.ndarray
    state: Arrays  # before the call, where it was asked for
    output: StepOutput


def _stream(engine: Engine, trial: Trial, *, keep_states: bool = False) -> Iterator[_Chunk]:
    token = engine.manifest.samples_per_token
    delay = np.array(trial.delays, dtype=np.int64)[:, None]
    state, position = engine.zero_state(len(trial.audio)), 0
    for tokens in trial.plan:
        audio = np.ascontiguousarray(trial.audio[:, position : position + tokens * token])
        before = {name: np.array(value) for name, value in state.items()} if keep_states else {}
        output = engine.step(audio, delay, state)
        yield _Chunk(audio, delay, before, output)
        state, position = output.state, position + tokens * token


def _plan(tokens: int) -> tuple[int, ...]:
    """Chunks as for files; a shorter one at the end."""
    full, rest = divmod(tokens, FILE_TOKENS_PER_CALL)
    return (FILE_TOKENS_PER_CALL,) * full + ((rest,) if rest else ())


def _agreement(one: Arrays, other: Arrays, manifest: Manifest, delay_index: int, tolerance: Tolerance) -> HitAgreement:
    """Hits of one stream, outputs [F, C], through the decoder that users run."""
    hits, others = (_hits(side, manifest, delay_index) for side in (one, other))
    exact = tolerance.hits_f == 1.0
    # Reduced precision moves every logit by more than a tie: there nothing is excused.
    logits = one["onset_logits"]
    close = close_calls(logits, manifest, delay_index, tolerance.output) if exact else np.zeros(logits.shape, bool)
    return compare_hits(hits, others, close, manifest, delay_index, tolerance.within_s)


def _hits(outputs: Arrays, manifest: Manifest, delay_index: int) -> list[Hit]:
    return decode(outputs["onset_logits"], outputs["velocity"], outputs["offset"], manifest, delay_index)


def _is_tie(hit: Hit, close: np.ndarray, manifest: Manifest, delay_index: int) -> bool:
    # The time lies 0 to 2 frames after the start of its frame; ties further back act through the refractory time.
    latest = int((hit.time_s + manifest.delays_ms[delay_index] / 1000) / manifest.frame_s + 1e-6)
    earliest = max(0, latest - 2 - manifest.decoder.refractory_frames)
    return bool(close[earliest : latest + 1, manifest.codes.index(hit.code)].any())


def _drift(one: Arrays, other: Arrays) -> tuple[float, ...]:
    """Mean absolute difference of the logits in equal spans of a stream."""
    difference = np.abs(one["onset_logits"] - other["onset_logits"])
    return tuple(float(span.mean()) for span in np.array_split(difference, SPANS, axis=1))


def _difference(name: str, one: np.ndarray, other: np.ndarray, tolerance: Tolerance) -> OutputDifference:
    difference = np.abs(one.astype(np.float64) - other)
    scale = 1.0 if name in HEADS else max(1.0, float(np.abs(one).max()))
    return OutputDifference(name, float(difference.max()), float(difference.mean()), tolerance.output * scale)


def _worst(rows: Sequence[OutputDifference]) -> OutputDifference:
    mean = float(np.mean([row.mean_abs for row in rows]))
    worst = max(rows, key=lambda row: np.nan_to_num(row.max_abs / row.tolerance, nan=np.inf))
    return OutputDifference(worst.name, worst.max_abs, mean, worst.tolerance)


def _row(outputs: Arrays, row: int) -> Arrays:
    return {name: value[row] for name, value in outputs.items()}
