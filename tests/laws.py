"""The laws of the streaming contract (docs/architecture.md) as checks that take any engine.

Letters: B streams, T tokens, F frames, C classes; N samples. `tolerance` is on logits and the other heads; 0 demands
bit-identity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ghostnote.runtime import Engine, Hit, Manifest, StreamingTranscriber
from ghostnote.runtime.decoder import close_calls

FIXED_CHUNKS = (1, 2, 3, 7, 64)  # tokens per call


@dataclass(frozen=True)
class Heads:
    """Outputs of a whole stream, each [B, F, C], and the state after it."""

    onset_logits: np.ndarray
    velocity: np.ndarray
    offset: np.ndarray
    state: dict[str, np.ndarray]

    def arrays(self) -> dict[str, np.ndarray]:
        return {"onset_logits": self.onset_logits, "velocity": self.velocity, "offset": self.offset}


def cut(total: int, sizes: Iterable[int]) -> Iterator[slice]:
    """Consecutive slices of the given sizes, the last one shortened to end at `total`; sizes must reach that far."""
    start = 0
    for size in sizes:
        if start >= total:
            return
        yield slice(start, min(start + size, total))
        start += size
    assert start >= total, "sizes do not cover the stream"


def every(size: int) -> Iterator[int]:
    while True:
        yield size


def random_sizes(seed: int, largest: int) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(1, largest + 1))


def run_engine(
    engine: Engine,
    audio: np.ndarray,
    delay_indices: Sequence[int],
    tokens_per_call: Iterable[int],
    state: dict[str, np.ndarray] | None = None,
) -> Heads:
    """Run audio [B, N] (N whole tokens) through the engine in calls of the given numbers of tokens."""
    token = engine.manifest.samples_per_token
    assert audio.shape[1] % token == 0
    delay = np.array(delay_indices, np.int64)[:, None]
    state = engine.zero_state(len(audio)) if state is None else state
    outputs = []
    for part in cut(audio.shape[1] // token, tokens_per_call):
        piece = np.ascontiguousarray(audio[:, part.start * token : part.stop * token])
        outputs.append(engine.step(piece, delay, state))
        state = outputs[-1].state
    joined = [
        np.concatenate([getattr(out, name) for out in outputs], 1) for name in ("onset_logits", "velocity", "offset")
    ]
    return Heads(*joined, state=state)


def assert_same_heads(found: Heads, expected: Heads, tolerance: float, what: str) -> None:
    for name, value in expected.arrays().items():
        worst = float(np.abs(found.arrays()[name] - value).max())
        assert worst <= tolerance, f"{what}: {name} differs by {worst:.3g}, allowed {tolerance:g}"


def assert_any_chunking(engine: Engine, audio: np.ndarray, delay_index: int, tolerance: float) -> None:
    """Whole == 1, 2, 3, 7, 64 and random numbers of tokens per call == second run. audio [N]."""
    audio = audio[None]
    tokens = audio.shape[1] // engine.manifest.samples_per_token
    whole = run_engine(engine, audio, [delay_index], [tokens])
    assert_same_heads(run_engine(engine, audio, [delay_index], [tokens]), whole, 0.0, "second run")
    for size in FIXED_CHUNKS:
        assert_same_heads(run_engine(engine, audio, [delay_index], every(size)), whole, tolerance, f"{size} tokens")
    for seed in range(3):
        chunked = run_engine(engine, audio, [delay_index], random_sizes(seed, 20))
        assert_same_heads(chunked, whole, tolerance, f"random tokens, seed {seed}")


def assert_batch_is_alone(engine: Engine, audio: np.ndarray, delay_indices: Sequence[int], tolerance: float) -> None:
    """Streams [B, N] with a delay each: in one batch == each alone."""
    together = run_engine(engine, audio, delay_indices, every(3))
    for row, delay_index in enumerate(delay_indices):
        alone = run_engine(engine, audio[row : row + 1], [delay_index], every(3))
        mine = Heads(*(value[row : row + 1] for value in together.arrays().values()), state={})
        assert_same_heads(mine, alone, tolerance, f"stream {row} of {len(delay_indices)}")


def assert_reset_matters(engine: Engine, audio: np.ndarray, delay_index: int) -> None:
    """The state is used: the same audio [N] after itself gives something else than at the start."""
    audio = audio[None]
    first = run_engine(engine, audio, [delay_index], every(7))
    again = run_engine(engine, audio, [delay_index], every(7), first.state)
    assert not np.array_equal(first.onset_logits, again.onset_logits), "the state has no effect"


def assert_causal(engine: Engine, audio: np.ndarray, other: np.ndarray, token: int, delay_index: int) -> None:
    """Output up to the end of `token` is bit-identical whether `audio` or `other` [N] goes on after it."""
    samples = (token + 1) * engine.manifest.samples_per_token
    frames = (token + 1) * engine.manifest.frames_per_token
    changed = np.concatenate((audio[:samples], other[samples:]))
    for sizes in (FIXED_CHUNKS[0], FIXED_CHUNKS[-1]):
        a = run_engine(engine, audio[None], [delay_index], every(sizes))
        b = run_engine(engine, changed[None], [delay_index], every(sizes))
        for name, value in a.arrays().items():
            same = np.array_equal(value[:, :frames], b.arrays()[name][:, :frames])
            assert same, f"{name} up to token {token} depends on what follows ({sizes} tokens per call)"


def transcribe(transcriber: StreamingTranscriber, pcm: np.ndarray, sizes: Iterable[int]) -> list[Hit]:
    """All hits, in the order of emission, of PCM [N] fed in pieces of the given sizes (0 is allowed)."""
    hits: list[Hit] = []
    for part in cut(len(pcm), sizes):
        hits += transcriber.feed(pcm[part])
    return hits + transcriber.flush()


def report_delays(transcriber: StreamingTranscriber, pcm: np.ndarray, piece: int) -> list[tuple[Hit, float]]:
    """Live: each hit with the time (seconds of input fed) at which it was reported. `piece` must divide a token."""
    reported: list[tuple[Hit, float]] = []
    rate = transcriber.sample_rate
    for part in cut(len(pcm), every(piece)):
        hits = transcriber.feed(pcm[part])
        reported += [(hit, transcriber.samples_fed / rate) for hit in hits]
    return reported


def assert_reported_in_time(transcriber: StreamingTranscriber, pcm: np.ndarray, piece: int) -> list[tuple[Hit, float]]:
    """No hit is reported later than its time + total latency."""
    reported = report_delays(transcriber, pcm, piece)
    limit = transcriber.total_latency_ms / 1000 + 1e-9
    late = [(hit, now) for hit, now in reported if now - hit.time_s > limit]
    assert not late, f"{len(late)} hits later than {limit:.3f} s, first: {late[0]}"
    return reported


def ties(heads: Heads, manifest: Manifest, delay_index: int, tolerance: float) -> Counter[str]:
    """Per class, frames of stream 0 whose fate hangs on less than `tolerance`: see `close_calls`."""
    counts = close_calls(heads.onset_logits[0], manifest, delay_index, tolerance).sum(0)
    return Counter({code: int(n) for code, n in zip(manifest.codes, counts, strict=True) if n})


def assert_hits_agree(
    found: Sequence[Hit], expected: Sequence[Hit], allowed: Counter[str], *, time_s: float = 1e-4, level: float = 1e-3
) -> Counter[str]:
    """The same hits within `time_s` and `level` (velocity, confidence), but for `ties`; returns the differences.

    A tie may add or remove a hit, and through the refractory time also its successor: two differences per tie.
    """
    differences: Counter[str] = Counter()
    for code in {hit.code for hit in (*found, *expected)}:
        a = sorted((h for h in found if h.code == code), key=lambda h: h.time_s)
        b = sorted((h for h in expected if h.code == code), key=lambda h: h.time_s)
        differences[code] = _unmatched(a, b, time_s, level)
    over = {code: n for code, n in differences.items() if n > 2 * allowed[code]}
    assert not over, f"hits differ beyond ties {dict(allowed)}: {over}"
    return +differences


def _unmatched(a: list[Hit], b: list[Hit], time_s: float, level: float) -> int:
    """Hits of one class without a counterpart, both lists sorted by time."""
    i = j = unmatched = 0
    while i < len(a) and j < len(b):
        close = abs(a[i].time_s - b[j].time_s) <= time_s
        if close and max(abs(a[i].velocity - b[j].velocity), abs(a[i].confidence - b[j].confidence)) <= level:
            i, j = i + 1, j + 1
        else:
            unmatched += 1
            i, j = (i + 1, j) if a[i].time_s < b[j].time_s else (i, j + 1)
    return unmatched + len(a) - i + len(b) - j
