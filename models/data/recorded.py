"""Batches of real recordings, in the form of `RenderedBatches`: batch i of a seed is the same on every machine.

Labels made by hand lie beside the attack, so frames within a recording's tolerance around a hit cost nothing for its
class: they are given as further hits of that class, `ignored` (one forgives a frame to either side).

A label is learnt as far as it goes. Where a corpus says "hi-hat" and not which, the hit is neither a positive nor a
negative for any hi-hat: all members are ignored around it. The same holds for members that the corpus files under
another code (ENST: the pedal hi-hat under closed), and for hits just outside a clip, whose attack may lie inside.
Between hits, silence counts: those classes were not struck. Classes outside a recording's `labelled` cost nothing.
Where a corpus has no velocities, they are NaN, and the velocity loss skips them. No clip is `exact`: the offset inside
a frame is learnt from renders only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from ...runtime.errors import InputError, UsageError
from ...runtime.vocabulary import five_class
from ..config import FrameGrid
from ..corpora.audio import duration_s, load_audio
from ..corpora.recording import MEMBERS, Label, Recording
from . import effects
from .beginning import beginning
from .dataset import Batch, draw_delays, draw_view
from .recipe import Draws, RenderRecipe
from .reuse import heard_again

__all__ = ["MixedBatches", "RecordedClips"]

QUIETEST_PEAK = 1e-3  # of a clip that is brought to full scale
_STREAM, _MIXED_STREAM = 2, 3  # apart from the seeds of rendered clips: training 0, validation 1

Hit = tuple[float, int, float, bool]  # seconds from the clip's start, class, velocity, ignored
Crop = tuple[np.ndarray, list[Hit], Recording]  # audio [N]


class RecordedClips(Dataset[Batch]):
    """`self[i]` is share `rank` of batch i: random crops of recordings, longer recordings more often.

    Audio [B, N] mono at the model's rate; times, classes, velocities, ignored [B, M]; labelled [B, C]; exact [B];
    delay [B, 1]; dropped_view [B]. Recordings shorter than a clip are followed by zeros. `kinds` are those of
    `Recording.audio` that are used; a recording with both is drawn twice as often. With a `recipe`, its stages `reuse`
    and those of the file (codec, band limits, noise, level) change what is heard, and `beginning` where it begins.
    Raises UsageError for recordings that may not be trained on; InputError where no recording has audio of these kinds,
    or a file cannot be read.
    """

    def __init__(
        self,
        config: FrameGrid,
        recordings: Sequence[Recording],
        *,
        clips: int,
        tokens: int,
        kinds: Sequence[str] = ("drums", "mix"),
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        device: str = "cpu",
        one_delay: int = 0,
        recipe: RenderRecipe | None = None,
    ):
        refused = next((recording for recording in recordings if recording.evaluation_only), None)
        if refused:
            raise UsageError(f"{refused.name} is for evaluation only ({refused.licence}); train on another corpus")
        if clips % world:
            raise UsageError(f"a batch of {clips} clips cannot be shared by {world} processes; give a multiple of it")
        self.config, self.tokens, self.device, self.recipe = config, tokens, device, recipe
        self.clips, self.rank, self.world, self.seed, self.one_delay = clips, rank, world, seed, one_delay
        self.takes = [(r, r.audio[kind]) for r in recordings for kind in kinds if kind in r.audio]
        if not self.takes:
            raise InputError(f"no recordings with {' or '.join(kinds)} among the {len(recordings)} given")
        self._durations_s = np.array([max(duration_s(source.path) for source in sources) for _, sources in self.takes])

    def __getitem__(self, index: int) -> Batch:
        share = self.clips // self.world
        first = index * self.clips + self.rank * share
        draws = [Draws(self.seed, _STREAM, first + i) for i in range(share)]
        crops = [self._begun(self._played_differently(self._crop(d["recording"]), d), d) for d in draws]
        batch = {
            "audio": self._sent(torch.from_numpy(np.stack([audio for audio, _, _ in crops])), draws),
            **_padded([hits for _, hits, _ in crops]),
            "labelled": torch.from_numpy(np.stack([_labelled(recording, self.config) for _, _, recording in crops])),
            "exact": torch.zeros(share, dtype=torch.bool),
            "delay": draw_delays(self.config, draws, only_main=index < self.one_delay),
            "dropped_view": torch.tensor([draw_view(d["view"]) for d in draws]),
        }
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def _crop(self, rng: np.random.Generator) -> Crop:
        """A random take's audio [N] and hits inside a random window."""
        rate, samples = self.config.sample_rate, self.tokens * self.config.samples_per_token
        chosen = rng.choice(len(self.takes), p=self._durations_s / self._durations_s.sum())
        recording, sources = self.takes[chosen]
        room = round(self._durations_s[chosen] * rate) - samples
        start = int(rng.integers(room + 1)) if room > 0 else 0
        audio = load_audio(sources, rate, start, samples)
        length_s = min(samples / rate, self._durations_s[chosen] - start / rate)  # labels may outlast the audio
        return audio, _hits(recording, start / rate, length_s, self.config), recording

    def _sent(self, audio: torch.Tensor, draws: list[Draws]) -> torch.Tensor:
        """[B, N] through codecs and band limits, with noise and at another level, as renders are."""
        if self.recipe is None:
            return audio
        # The channel's noise is one under full scale; what is next to silence is not blown up to it.
        peak = audio.abs().amax(dim=1, keepdim=True).clamp(min=QUIETEST_PEAK)
        return effects.through({**effects.CHANNEL, **effects.LEVEL}, audio / peak, draws, self.recipe)

    def _played_differently(self, crop: Crop, draws: Draws) -> Crop:
        """A crop at another speed and through another equaliser, as kept renders are heard again."""
        if self.recipe is None or "reuse" not in self.recipe:
            return crop
        audio, hits, recording = crop
        changed, stretch, start_s = heard_again(torch.from_numpy(audio), draws["reuse"], self.recipe["reuse"])
        seconds = len(audio) / self.config.sample_rate
        moved = [(stretch * time_s - start_s, code, velocity, ignored) for time_s, code, velocity, ignored in hits]
        return changed.numpy(), [hit for hit in moved if 0 <= hit[0] < seconds], recording

    def _begun(self, crop: Crop, draws: Draws) -> Crop:
        """A crop that may begin at an attack, as renders may; labels before it are gone, silence fills its end."""
        if self.recipe is None or "beginning" not in self.recipe:
            return crop
        audio, hits, recording = crop
        # An attack may lie as much before its label as labels are off: the cut has to come before that.
        times, doubtful = _attacks(hits, recording.tolerance_s + self.config.frame_ms / 1000)
        earliest = np.maximum(times - recording.tolerance_s, 0.0)
        start = beginning(earliest, doubtful, draws["beginning"], self.recipe["beginning"])
        begun = np.pad(audio[start:], (0, start))
        start_s = start / self.config.sample_rate
        return begun, [(hit[0] - start_s, *hit[1:]) for hit in hits if hit[0] >= start_s], recording


class MixedBatches(Dataset[Batch]):
    """`self[i]` is batch i of recordings or of renders; (seed, i) decides which, so all processes agree on it."""

    def __init__(self, rendered: Dataset[Batch], recorded: RecordedClips, share: float):
        """`share` of the batches, on average, are recordings: 0..1."""
        self.rendered, self.recorded, self.share = rendered, recorded, share

    def __getitem__(self, index: int) -> Batch:
        return self.recorded[index] if self.is_recorded(index) else self.rendered[index]

    def is_recorded(self, index: int) -> bool:
        """Whether batch `index` holds recordings."""
        return Draws(self.recorded.seed, _MIXED_STREAM, index)["corpus"].random() < self.share


def _attacks(hits: Sequence[Hit], near_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Times [H] of what was or may have been struck, and [H] whether it may only.

    What is ignored within `near_s` of a hit is that hit's own surroundings.
    """
    certain = np.array([time_s for time_s, _, _, ignored in hits if not ignored])
    others = np.array([time_s for time_s, _, _, ignored in hits if ignored])
    apart = np.abs(others[:, None] - certain[None, :]).min(axis=1, initial=np.inf) > near_s
    doubtful = others[apart]
    return np.concatenate([certain, doubtful]), np.arange(len(certain) + len(doubtful)) >= len(certain)


def _labelled(recording: Recording, config: FrameGrid) -> np.ndarray:
    """Mask [C] of the classes of which the recording says at least when none of their kind was struck."""
    return np.array([code in recording.labelled or five_class(code) in recording.labelled for code in config.classes])


def _hits(recording: Recording, start_s: float, length_s: float, config: FrameGrid) -> list[Hit]:
    """What the labels of a window teach, see the module's docstring."""
    tolerance_s, frame_s = recording.tolerance_s, config.frame_ms / 1000
    # One ignored hit forgives three frames: a chain of them, two frames apart, forgives the tolerance without gaps.
    reach = max(0, math.ceil(tolerance_s / frame_s) - 1)
    chain = frame_s * np.arange(-reach, reach + 1, 2)
    hits: list[Hit] = []
    for label in recording.labels:
        time_s = label.time_s - start_s
        if not -tolerance_s <= time_s < length_s + tolerance_s:
            continue
        inside = 0 <= time_s < length_s
        positive, doubtful = _readings(label, recording)
        velocity = math.nan if label.velocity is None else label.velocity
        if positive is not None and inside:
            hits.append((time_s, config.classes.index(positive), velocity, False))
        for code in {*doubtful, *([positive] if positive else [])}:
            near = np.clip(time_s + chain, 0, length_s - frame_s / 2)
            hits += [(float(t), config.classes.index(code), math.nan, True) for t in np.unique(near)]
    return hits


def _readings(label: Label, recording: Recording) -> tuple[str | None, frozenset[str]]:
    """The code that was certainly struck, and the codes that may have been."""
    if recording.adtof and label.name == "SD":  # mostly a snare, at times what ADTOF files with it
        return "SD", frozenset({"SS", "CLP"})
    members = MEMBERS.get(label.name) or MEMBERS.get(five_class(label.name) or "", frozenset())
    if label.name in MEMBERS or not label.certain:
        return None, members or frozenset({label.name})
    return label.name, members - recording.labelled - {label.name}


def _padded(clips: list[list[Hit]]) -> Batch:
    """Hits per clip -> times, classes, velocities, ignored [B, M], class -1 where a clip has fewer."""
    shape = (len(clips), max(1, *(len(hits) for hits in clips)))
    times, velocities = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    classes, ignored = np.full(shape, -1, np.int64), np.zeros(shape, bool)
    arrays: dict[str, np.ndarray] = {"times": times, "classes": classes, "velocities": velocities, "ignored": ignored}
    for row, hits in enumerate(clips):
        if hits:
            columns = zip(*sorted(hits, key=lambda hit: (hit[0], hit[1], hit[3])), strict=True)
            for target, column in zip(arrays.values(), columns, strict=True):
                target[row, : len(hits)] = column
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
