"""The options of `rt-transcribe` about raw PCM, and what they say together. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from .pcm import PcmFormat

__all__ = ["RawName", "RawOptions"]


class RawName(StrEnum):
    """Raw sample formats; the same as `pcm.RAW_FORMATS`, which would load numpy."""

    U8 = "u8"
    S16LE = "s16le"
    S24LE = "s24le"
    S32LE = "s32le"
    F32LE = "f32le"
    F64LE = "f64le"


@dataclass(frozen=True, slots=True)
class RawOptions:
    """What was asked for, as given; see the options' help texts."""

    raw_format: Annotated[RawName | None, typer.Option(help="INPUT is raw PCM, interleaved, in this format.")] = None
    rate: Annotated[int | None, typer.Option(min=1, help="Sample rate of raw PCM in Hz.")] = None
    channels: Annotated[int | None, typer.Option(min=1, help="Channels of raw PCM. Default: 1.")] = None

    @property
    def given(self) -> bool:
        """Whether anything was asked for."""
        return any(value is not None for value in (self.raw_format, self.rate, self.channels))

    def resolve(self) -> PcmFormat | None:
        """How the samples lie in raw PCM; None for input that says it itself. Raises UsageError."""
        if self.raw_format is None:
            if self.rate is not None or self.channels is not None:
                raise UsageError(
                    "--rate and --channels describe raw PCM: give --raw-format too (files and WAV say it themselves)"
                )
            return None
        if self.rate is None:
            raise UsageError("--raw-format needs --rate: raw PCM does not say its sample rate")
        from .pcm import PcmFormat

        return PcmFormat(str(self.raw_format), self.rate, self.channels or 1)
