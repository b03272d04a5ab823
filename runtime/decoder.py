"""Peak picking: from onset logits to hits, frame by frame or over whole arrays, with the same result.

Letters: F frames in the call, C classes. The rule (docs/architecture.md): per class, frame k is a hit when its
probability reaches the threshold, is greater than that of frame k-1 and not less than that of frame k+1, and the last
hit of the class lies at least `refractory_frames` back. The decision about frame k waits for frame k+1, nothing else.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .events import Hit
from .manifest import Manifest

__all__ = ["StreamingDecoder", "decode"]

Floats = NDArray[np.float32]

_HISTORY = 2  # frames carried over: the frame still to be decided and the one before it
_OFFSET_FRAMES = (-0.5, 1.5)  # the contract's range; holding to it keeps reports inside the total latency
_NEVER = -(1 << 62)  # "frame of the last hit" before there was one


class StreamingDecoder:
    """Turns consecutive pieces of network output into hits; any way of cutting gives the same hits.

    Comparisons run on logits, which order and threshold as probabilities do but never saturate.
    """

    def __init__(self, manifest: Manifest, delay_index: int) -> None:
        self._codes = manifest.codes
        self._rate = manifest.sample_rate
        self._frame_samples = manifest.samples_per_frame
        self._delay_samples = manifest.delay_samples(delay_index)
        self._refractory = manifest.decoder.refractory_frames
        # Frames that end at or before time 0 are ignored: they count as probability 0.
        self._first_frame = math.floor(self._delay_samples / self._frame_samples)
        self._thresholds = _logit(np.array(manifest.decoder.thresholds[delay_index], np.float64)).astype(np.float32)
        self.reset()

    def reset(self) -> None:
        """Start of a new stream."""
        silent = (_HISTORY, len(self._codes))
        self._logits = np.full(silent, -np.inf, np.float32)
        self._velocity = np.zeros(silent, np.float32)
        self._offset = np.zeros(silent, np.float32)
        self._frames_seen = 0
        self._last_hit = [_NEVER] * len(self._codes)

    def push(self, onset_logits: Floats, velocity: Floats, offset: Floats) -> list[Hit]:
        """Take the next F frames, each [F, C]; return the hits decided by them, by frame, within a frame by time.

        The order does not depend on how the stream is cut. It is the order of time up to two frames, because the
        offset reaches into neighbouring frames. Times may lie beyond the end of the audio; the caller knows the end.
        """
        first = self._frames_seen - _HISTORY  # frame number of row 0 below
        logits = np.concatenate((self._logits, onset_logits))
        velocity = np.concatenate((self._velocity, velocity))
        offset = np.concatenate((self._offset, offset))
        logits[: max(0, self._first_frame - first)] = -np.inf
        middle = logits[1:-1]
        peaks = (middle >= self._thresholds) & (middle > logits[:-2]) & (middle >= logits[2:])
        hits: list[tuple[int, float, int, Hit]] = []
        for row, channel in np.argwhere(peaks).tolist():
            frame = first + row + 1
            if frame - self._last_hit[channel] < self._refractory:
                continue
            self._last_hit[channel] = frame
            at = (row + 1, channel)
            hit = self._hit(frame, channel, float(logits[at]), float(velocity[at]), float(offset[at]))
            if hit.time_s >= 0:
                hits.append((frame, hit.time_s, channel, hit))
        self._frames_seen += len(onset_logits)
        self._logits, self._velocity, self._offset = logits[-_HISTORY:], velocity[-_HISTORY:], offset[-_HISTORY:]
        return [hit for *_, hit in sorted(hits, key=lambda entry: entry[:3])]

    def _hit(self, frame: int, channel: int, logit: float, velocity: float, offset: float) -> Hit:
        low, high = _OFFSET_FRAMES
        # Counted in samples, where frame and delay are whole numbers, so that a hit at time 0 is not rounded below 0.
        samples = (frame + 0.5 + min(max(offset, low), high)) * self._frame_samples - self._delay_samples
        return Hit(samples / self._rate, self._codes[channel], min(max(velocity, 0.0), 1.0), _sigmoid(logit))


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


def _logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):  # 0 -> -inf (every peak), 1 -> +inf (no peak)
        result: NDArray[np.float64] = np.log(probability) - np.log1p(-probability)
    return result


def _sigmoid(logit: float) -> float:
    # Scalar on purpose: vectorised exp may round differently in the tail of an array than in its body.
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
