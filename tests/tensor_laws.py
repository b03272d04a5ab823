"""The laws of the streaming contract (docs/architecture.md) for whatever runs `step` behind the engine protocol.

Each law takes an engine and raises AssertionError where it is broken. Letters: B streams, F frames, C classes.
`same` is float32 equality within 1e-4 on the heads, with identical hits but for ties.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tiny import tokens_of_audio

from ghostnote.export.parity import HEADS, TOLERANCE, close_calls, compare_hits, run_stream
from ghostnote.runtime.decoder import decode
from ghostnote.runtime.engine import Engine

Heads = dict[str, np.ndarray]


def pieces(total: int, size: int) -> list[int]:
    """`total` tokens in calls of `size`, the last one smaller."""
    return [size] * (total // size) + ([total % size] if total % size else [])


def random_pieces(total: int, seed: int) -> list[int]:
    """`total` tokens in calls of 1 to 30."""
    rng, plan = np.random.default_rng(seed), []
    while (rest := total - sum(plan)) > 0:
        plan.append(min(rest, int(rng.integers(1, 31))))
    return plan


def whole_equals_chunked(engine: Engine, audio: np.ndarray, delays: Sequence[int], plan: Sequence[int]) -> int:
    """One call and the calls of `plan` say the same; returns the number of ties among the hits."""
    whole = run_stream(engine, audio, delays, [sum(plan)])
    return assert_same(engine, whole, run_stream(engine, audio, delays, plan), delays)


def second_run_is_identical(engine: Engine, audio: np.ndarray, delays: Sequence[int], plan: Sequence[int]) -> None:
    """The engine keeps nothing of a stream: the same calls again give the same bits."""
    assert_identical(run_stream(engine, audio, delays, plan), run_stream(engine, audio, delays, plan))


def batch_equals_alone(engine: Engine, audio: np.ndarray, delays: Sequence[int], plan: Sequence[int]) -> int:
    """Streams [B, N] of different audio and delay do not know of one another; returns the number of ties."""
    together = run_stream(engine, audio, delays, plan)
    ties = 0
    for row, delay in enumerate(delays):
        alone = run_stream(engine, audio[row : row + 1], [delay], plan)
        ties += assert_same(engine, {k: v[row : row + 1] for k, v in together.items()}, alone, [delay])
    return ties


def state_matters(engine: Engine, audio: np.ndarray, delays: Sequence[int]) -> None:
    """Going on without a reset gives something else: the state is really used. And so are all its parts."""
    fresh = run_stream(engine, audio, delays, [audio.shape[1] // engine.manifest.samples_per_token])
    after = {name.removesuffix("_out"): value for name, value in fresh.items() if name not in HEADS}
    delay = np.array(delays, dtype=np.int64)[:, None]
    for name in after:
        state = engine.zero_state(len(audio)) | {name: after[name]}
        again = engine.step(audio, delay, state)
        assert np.abs(again.onset_logits - fresh["onset_logits"]).max() > 100 * TOLERANCE, f"{name} changes nothing"


def future_changes_nothing(engine: Engine, delays: Sequence[int], plan: Sequence[int], cut: int, seed: int = 0) -> None:
    """Output up to token `cut` is the same, bit by bit, whatever follows in later calls or later in the same call."""
    token, frames = engine.manifest.samples_per_token, engine.manifest.frames_per_token
    audio = tokens_of_audio(sum(plan), len(delays), seed)
    reference = run_stream(engine, audio, delays, plan)
    loud = 0.9 * np.sign(np.random.default_rng(seed).standard_normal(audio[:, cut * token :].shape))
    for future in (np.zeros_like(loud), loud):
        other = audio.copy()
        other[:, cut * token :] = future
        output = run_stream(engine, other, delays, plan)
        for name in HEADS:
            assert np.array_equal(reference[name][:, : cut * frames], output[name][:, : cut * frames]), name
        assert not np.array_equal(reference["onset_logits"], output["onset_logits"])


def delays_matter(engine: Engine, audio: np.ndarray) -> None:
    """Every delay is a setting of its own."""
    count = len(engine.manifest.delays_ms)
    same_audio = np.repeat(audio[:1], count, axis=0)
    logits = run_stream(engine, same_audio, range(count), [audio.shape[1] // engine.manifest.samples_per_token])[
        HEADS[0]
    ]
    for i in range(count):
        for j in range(i):
            assert np.abs(logits[i] - logits[j]).max() > 100 * TOLERANCE, f"delays {j} and {i} say the same"


def assert_identical(one: Heads, other: Heads) -> None:
    """Equal to the last bit, states included."""
    for name in one:
        assert np.array_equal(one[name], other[name]), f"{name} differs by {np.abs(one[name] - other[name]).max():.2g}"


def assert_same(engine: Engine, one: Heads, other: Heads, delays: Sequence[int]) -> int:
    """Heads within tolerance and hits identical except for ties, whose number is returned."""
    for name in HEADS:
        np.testing.assert_allclose(other[name], one[name], rtol=0, atol=TOLERANCE, err_msg=name)
    manifest = engine.manifest
    ties = found = 0
    for row, delay in enumerate(delays):
        hits = [decode(*(side[name][row] for name in HEADS), manifest, delay) for side in (one, other)]
        close = close_calls(one[HEADS[0]][row], manifest.decoder.thresholds[delay])
        agreement = compare_hits(*hits, close, manifest, delay)
        assert agreement.unexplained == 0, agreement
        ties, found = ties + agreement.ties, found + agreement.reference
    assert found, "no hits: this proves nothing"
    return ties
