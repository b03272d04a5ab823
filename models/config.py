"""Dataclasses that say everything about a model's shape; they are serialised with the weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

from ..runtime.vocabulary import CODES

__all__ = ["FUSIONS", "PRESETS", "VIEWS", "FrameGrid", "ModelConfig"]

VIEWS = ("tone", "attack", "wave")
FUSIONS = ("attention", "concatenation")


@dataclass(frozen=True, kw_only=True)
class FrameGrid:
    """What every kind of model shares: classes, delays and the frames that targets, decoder and scores count in."""

    kind: ClassVar[str]  # the key in `kinds.KINDS`

    name: str = "base"
    delays_ms: tuple[int, ...] = (0,)
    classes: tuple[str, ...] = CODES
    sample_rate: int = 44100
    samples_per_token: int = 882
    frames_per_token: int = 2
    subframe: bool = True  # False: hits lie at the centre of their frame
    # Power of a band that counts as silent, full-scale sine 1: -80 dB. The lower, the better soft hits show, but also
    # the rounding beside loud bands, in which two float32 libraries differ.
    power_floor: float = 1e-8

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if isinstance(value, list):  # as read from a checkpoint
                object.__setattr__(self, key, tuple(value))
        if any(delay % self.frame_ms for delay in self.delays_ms):
            raise ValueError(f"delays {self.delays_ms} ms must be whole frames of {self.frame_ms} ms")

    @property
    def samples_per_frame(self) -> int:
        return self.samples_per_token // self.frames_per_token

    @property
    def frame_ms(self) -> float:
        return 1000 * self.samples_per_frame / self.sample_rate

    @property
    def tokens_per_second(self) -> float:
        return self.sample_rate / self.samples_per_token

    def delay_frames(self, index: int) -> int:
        """The delay with this index, in frames."""
        return round(self.delays_ms[index] / self.frame_ms)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as stored in a checkpoint."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_dict`. Raises TypeError for an unknown field."""
        return cls(**{"power_floor": 1e-7, **values})  # what it was before it was written down


@dataclass(frozen=True, kw_only=True)
class ModelConfig(FrameGrid):
    """Shape of a `DrumTransformer`. Lengths in samples unless the name says otherwise.

    The presets differ in width and depth only; the rest is the contract (token and frame length, delays) and the
    front-end.
    """

    kind: ClassVar[str] = "drum-transformer"

    width: int = 160
    layers: int = 5
    heads: int = 5
    view_width: int = 96
    window_tokens: int = 64  # keys and values kept per layer: 1.28 s
    conv_tokens: int = 4  # taps of the causal depthwise convolution at the start of each block
    delays_ms: tuple[int, ...] = (10, 30, 50, 70, 120, 220)

    # Changed by ablations only.
    views: tuple[str, ...] = VIEWS
    fusion: str = "attention"  # or "concatenation"

    # `tone` view: low-pass, decimate to 4.9 kHz, then a 52 ms window. Long windows only where low frequencies need
    # them.
    tone_decimation: int = 9
    tone_fir_taps: int = 81
    tone_window: int = 256  # decimated samples
    tone_hop: int = 49  # decimated samples, two per token
    # `attack` view: 11.6 ms windows every 6.7 ms.
    attack_window: int = 512
    attack_hop: int = 294
    attack_bands: int = 64
    # What is left of a band's amplitude where it was louder over the last 260 ms; 1: nothing is softened.
    softening: float = 0.3
    softening_tokens: int = 13
    # `wave` view: learned filters on the waveform, envelope every 1.4 ms.
    wave_filters: int = 24
    wave_taps: int = 64
    wave_stride: int = 21
    wave_pool: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        for hop in (self.attack_hop, self.wave_stride * self.wave_pool, self.tone_hop * self.tone_decimation):
            if self.samples_per_token % hop:
                raise ValueError(f"samples_per_token {self.samples_per_token} is not a multiple of the hop {hop}")
        if not self.views or self.views != tuple(view for view in VIEWS if view in self.views):
            raise ValueError(f"views {self.views} must be some of {VIEWS}, in this order")
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion {self.fusion!r} must be one of {FUSIONS}")
        if not 0 < self.softening <= 1:
            raise ValueError(f"softening {self.softening} must be above 0, and at most 1")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """As of every grid."""
        return super().from_dict({"softening": 1.0, **values})  # what it was before it was written down


PRESETS: dict[str, ModelConfig] = {
    "tiny": ModelConfig(name="tiny", width=32, layers=2, heads=2, view_width=16, window_tokens=16),  # for tests
    "narrow": ModelConfig(name="narrow", width=96, layers=4, heads=3, view_width=64),  # what `small` begins as
    "slim": ModelConfig(name="slim"),  # what `base` begins as
    "small": ModelConfig(name="small", width=128, layers=4, heads=4, view_width=64),
    "base": ModelConfig(name="base", width=192, heads=6),
    "large": ModelConfig(name="large", width=320, layers=8, heads=10, view_width=160),
}
