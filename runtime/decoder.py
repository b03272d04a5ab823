"""Peak picking: from onset logits to hits, frame by frame or over whole arrays, with the same result.

Letters: F frames in the call, C classes, P parents. The rule (docs/architecture.md): the strength of a parent is
S = sum over its classes of softplus(logit) = -log(probability that none of them was struck). Frame k is a hit of the
parent when S[k] reaches the threshold, is greater than S[k-1] and not less than S[k+1], and the parent's last hit lies
at least `refractory_frames` back. The decision about frame k waits for frame k+1, nothing else. The hit is given to
the parent's likeliest class at frame k, and to others that are likely by themselves.
"""

from __future__ import annotations

import math
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from .events import Hit
from .manifest import Manifest

__all__ = ["StreamingDecoder", "close_calls", "decode"]

Floats = NDArray[np.float32]

_HISTORY = 2  # frames carried over: the frame still to be decided and the one before it
_OFFSET_FRAMES = (-0.5, 1.5)  # the contract's range; holding to it keeps reports inside the total latency
_NEIGHBOURS = np.array([[-1], [0], [1]])  # rows before, at and after a row
_ROUNDING = 1e-3  # of logits, much more than the arithmetic's
_NEVER = -(1 << 62)  # "frame of the last hit" before there was one


class StreamingDecoder:
    """Turns consecutive pieces of network output into hits; any way of cutting gives the same hits.

    Comparisons run on strengths, which order and threshold as probabilities do but never saturate.
    """

    def __init__(self, manifest: Manifest, delay_index: int) -> None:
        self._codes = manifest.codes
        self._rate = manifest.sample_rate
        self._frame_samples = manifest.samples_per_frame
        self._delay_samples = manifest.delay_samples(delay_index)
        self._refractory = manifest.decoder.refractory_frames
        # Frames that end before time 0 are ignored: they count as probability 0. One that ends there is not: models
        # are trained to give an attack just after a boundary to the frame before (`margin_ms`, docs/training.md).
        self._first_frame = math.floor(self._delay_samples / self._frame_samples) - 1
        self._members = _members(manifest)
        self._thresholds = _threshold_strengths(manifest, delay_index)
        self._floors = _floors(self._thresholds, self._members)
        self._also = float(_logit(np.array(manifest.decoder.also_threshold)))
        self.reset()

    def reset(self) -> None:
        """Start of a new stream."""
        silent = (_HISTORY, len(self._codes))
        self._logits = np.full(silent, -np.inf, np.float32)
        self._velocity = np.zeros(silent, np.float32)
        self._offset = np.zeros(silent, np.float32)
        self._frames_seen = 0
        self._last_hit = [_NEVER] * len(self._members)

    def push(self, onset_logits: Floats, velocity: Floats, offset: Floats) -> list[Hit]:
        """Take the next F frames, each [F, C]; return the hits decided by them, by frame, within a frame by time.

        The order does not depend on how the stream is cut. It is the order of time up to two frames, because the
        offset reaches into neighbouring frames. Times may lie beyond the end of the audio; the caller knows the end.
        """
        first = self._frames_seen - _HISTORY  # frame number of row 0 below
        logits = np.concatenate((self._logits, onset_logits))
        if first < self._first_frame:
            logits[: self._first_frame - first] = -np.inf
        peaks = self._peaks(logits)
        hits = self._hits(first, peaks, logits, velocity, offset) if peaks else []
        self._frames_seen += len(onset_logits)
        self._logits = logits[-_HISTORY:]
        self._velocity, self._offset = _last(self._velocity, velocity), _last(self._offset, offset)
        return hits

    def _hits(
        self, first: int, peaks: list[tuple[int, int, float]], logits: Floats, velocity: Floats, offset: Floats
    ) -> list[Hit]:
        """Those of the peaks that are hits, in order; row 0 of `logits`, which holds the history, is frame `first`."""
        velocity = np.concatenate((self._velocity, velocity))
        offset = np.concatenate((self._offset, offset))
        hits: list[tuple[int, float, int, Hit]] = []
        for row, parent, strength in peaks:
            frame = first + row
            if frame - self._last_hit[parent] < self._refractory:
                continue
            self._last_hit[parent] = frame
            confidence = -math.expm1(-strength)
            for channel in self._struck(logits[row], parent):
                at = (row, channel)
                hit = self._hit(frame, channel, confidence, float(velocity[at]), float(offset[at]))
                hits.append((frame, hit.time_s, channel, hit))
        return [hit for *_, hit in sorted(hits, key=lambda entry: entry[:3])]

    def _peaks(self, logits: Floats) -> list[tuple[int, int, float]]:
        """Rows of [F, C] but the first and last that are a maximum of a parent, with the parent and its strength.

        Of a plateau that is the first row.
        """
        # Few frames are loud enough; strengths are worked out for those and their neighbours only.
        loud = logits[1:-1] >= self._floors
        if not loud.any():
            return []
        rows = np.flatnonzero(loud.any(axis=1)) + 1
        before, middle, after = _strengths(logits[rows + _NEIGHBOURS], self._members)
        found = np.nonzero((middle >= self._thresholds) & (middle > before) & (middle >= after))
        return list(zip(rows[found[0]].tolist(), found[1].tolist(), middle[found].tolist(), strict=True))

    def _struck(self, logits: Floats, parent: int) -> list[int]:
        """Channels of a parent's hit, given one frame's logits [C]: the likeliest, and those likely by themselves."""
        members = self._members[parent]
        own: list[float] = logits[members].tolist()
        best = max(own)
        first = own.index(best)
        return [channel for i, channel in enumerate(members) if i == first or own[i] >= self._also]

    def _hit(self, frame: int, channel: int, confidence: float, velocity: float, offset: float) -> Hit:
        low, high = _OFFSET_FRAMES
        # Counted in samples, where frame and delay are whole numbers, so that a hit at time 0 is not rounded below 0.
        samples = (frame + 0.5 + min(max(offset, low), high)) * self._frame_samples - self._delay_samples
        return Hit(max(samples, 0.0) / self._rate, self._codes[channel], min(max(velocity, 0.0), 1.0), confidence)


def decode(
    onset_logits: Floats,
    velocity: Floats,
    offset: Floats,
    manifest: Manifest,
    delay_index: int,
    duration_s: float = math.inf,
) -> list[Hit]:
    """All hits of a whole stream from [F, C] arrays, sorted by time; hits at or after `duration_s` are dropped.

    The last frame is never decided (it has no successor): let the network run on over zeros, as the runtime does.
    """
    hits = StreamingDecoder(manifest, delay_index).push(onset_logits, velocity, offset)
    return sorted((hit for hit in hits if hit.time_s < duration_s), key=lambda hit: hit.time_s)


def close_calls(onset_logits: Floats, manifest: Manifest, delay_index: int, tolerance: float) -> NDArray[np.bool_]:
    """[F, C]: frames where logits off by `tolerance` could change what the decoder reports for a class.

    That is where the parent's strength lies within reach of its threshold or, above it, of a neighbour frame's, or
    where the class is within reach of the likeliest one or of being reported beside it.
    """
    members = _members(manifest)
    strength, thresholds = _strengths(onset_logits, members), _threshold_strengths(manifest, delay_index)
    close = np.zeros(onset_logits.shape, bool)
    for parent, channels in enumerate(members):
        reach = tolerance * len(channels)  # the slope of softplus is at most 1
        above = strength[:, parent] - thresholds[parent]
        near = np.abs(above) <= reach
        steps = (np.abs(np.diff(strength[:, parent])) <= 2 * reach) & (above[1:] >= -reach)
        near[1:] |= steps
        near[:-1] |= steps
        logits = onset_logits[:, channels]
        rival = np.sort(logits, axis=1)[:, -2:]
        doubtful = (np.diff(rival, axis=1)[:, 0] <= 2 * tolerance) if len(channels) > 1 else np.zeros(len(logits), bool)
        also = np.abs(logits - _logit(np.array(manifest.decoder.also_threshold))) <= tolerance
        close[:, channels] = (near | doubtful)[:, None] | also
    return close


def _last(before: Floats, now: Floats) -> Floats:
    """The last rows of one array behind another, which an engine may use again."""
    return now[-_HISTORY:].copy() if len(now) >= _HISTORY else np.concatenate((before, now))[-_HISTORY:]


def _members(manifest: Manifest) -> list[list[int]]:
    """Channels of every parent."""
    return [[manifest.codes.index(code) for code in parent] for parent in manifest.decoder.parents]


def _strengths(logits: Floats, members: list[list[int]]) -> NDArray[np.float64]:
    """[..., C] logits -> [..., P] strengths, in double precision."""
    # logaddexp, summed over the channels of one row: element by element the same, however the stream is cut.
    soft = np.logaddexp(0.0, logits[..., list(chain.from_iterable(members))].astype(np.float64))
    strength: NDArray[np.float64] = np.add.reduceat(soft, [0, *accumulate(map(len, members[:-1]))], axis=-1)
    return strength


def _threshold_strengths(manifest: Manifest, delay_index: int) -> NDArray[np.float64]:
    """[P] strengths that the delay's thresholds stand for."""
    # By way of a float32 logit, so that a single class whose logit is that of the threshold reaches it exactly.
    logits = _logit(np.array(manifest.decoder.thresholds[delay_index], np.float64)).astype(np.float32)
    strengths: NDArray[np.float64] = np.logaddexp(0.0, logits.astype(np.float64))
    return strengths


def _floors(thresholds: NDArray[np.float64], members: list[list[int]]) -> Floats:
    """[C] logits: where all classes of a parent lie below theirs, the parent is below its threshold."""
    floors = np.empty(sum(map(len, members)), np.float32)
    with np.errstate(divide="ignore", over="ignore"):  # threshold 0 -> -inf, 1 -> +inf
        for threshold, channels in zip(thresholds, members, strict=True):
            floors[channels] = np.log(np.expm1(threshold / len(channels))) - _ROUNDING
    return floors


def _logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):  # 0 -> -inf (every peak), 1 -> +inf (no peak)
        result: NDArray[np.float64] = np.log(probability) - np.log1p(-probability)
    return result
