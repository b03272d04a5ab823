"""The live options of `rt-transcribe`, and what they say together. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from ..errors import UsageError
from ..input.raw_options import RawOptions
from ..number import check_finite, whole

__all__ = ["LiveOptions"]

_SOURCE = "Live input"
_OUTPUT = "Live output"


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What was asked for, as given; see the options' help texts."""

    live: Annotated[
        bool,
        typer.Option("--live", help="Listen to a microphone or interface instead of INPUT.", rich_help_panel=_SOURCE),
    ] = False
    input_device: Annotated[
        str | None, typer.Option(help="Index or part of the name of the device.", rich_help_panel=_SOURCE)
    ] = None
    input_channels: Annotated[
        str | None,
        typer.Option(help="Inputs of the device to mix, from 1, as in 3,4. Default: 1,2.", rich_help_panel=_SOURCE),
    ] = None
    block_ms: Annotated[
        float | None,
        typer.Option(
            min=1, max=1000, help="Audio that the device delivers at a time. Default: 10.", rich_help_panel=_SOURCE
        ),
    ] = None
    list_devices: Annotated[
        bool,
        typer.Option("--list-devices", help="Show input devices and MIDI ports, and exit.", rich_help_panel=_SOURCE),
    ] = False
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Go on reading INPUT (WAV or raw PCM) while it grows.", rich_help_panel=_SOURCE),
    ] = False
    follow_timeout: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds without growth after which it is complete.", rich_help_panel=_SOURCE),
    ] = None
    grid: Annotated[
        bool | None,
        typer.Option(
            help="Draw a drum grid on the terminal. Default: with --live and --follow.", rich_help_panel=_OUTPUT
        ),
    ] = None
    midi_port: Annotated[
        str | None,
        typer.Option(help="Play hits to this MIDI port; a part of its name will do.", rich_help_panel=_OUTPUT),
    ] = None
    midi_virtual: Annotated[
        str | None,
        typer.Option(help="Play hits to a new MIDI port of this name (not on Windows).", rich_help_panel=_OUTPUT),
    ] = None
    osc: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Send hits as OSC messages /ghostnote/hit.", rich_help_panel=_OUTPUT),
    ] = None

    def check(self, source: str | None, raw: RawOptions) -> None:
        """Raises UsageError where they contradict each other, INPUT or what is said of it."""
        if self.live and (source is not None or self.follow):
            raise UsageError("--live listens to a device: leave out INPUT and --follow")
        if not self.live and source is None:
            raise UsageError("no input: name an audio file, - for standard input, or give --live")
        if source == "":
            raise UsageError("INPUT is an empty name; name an audio file, - for standard input, or give --live")
        if self.follow and source == "-":
            raise UsageError("--follow needs a file; standard input is live without it")
        if self.live and raw.given:
            raise UsageError(
                "--raw-format, --rate and --channels describe INPUT, and --live has none: leave them out "
                "(a device tells its rate; --input-channels chooses among its inputs)"
            )
        if not self.live and any(
            given is not None for given in (self.input_device, self.input_channels, self.block_ms)
        ):
            raise UsageError("--input-device, --input-channels and --block-ms belong to --live")
        for name, value in (("--block-ms", self.block_ms), ("--follow-timeout", self.follow_timeout)):
            if value is not None:
                check_finite(name, value)
        if self.follow_timeout is not None and not self.follow:
            raise UsageError("--follow-timeout belongs to --follow")

    @property
    def plays(self) -> bool:
        """Whether hits go to a MIDI port or by OSC."""
        return any(target is not None for target in (self.midi_port, self.midi_virtual, self.osc))

    @property
    def inputs(self) -> list[int] | None:
        """Channels of the device to mix, from 1. Raises UsageError."""
        if self.input_channels is None:
            return None
        numbers = [whole(word.strip()) for word in self.input_channels.split(",")]
        found = [number for number in numbers if number]
        if len(found) < len(numbers):
            raise UsageError(f"--input-channels '{self.input_channels}': expected numbers from 1, for example 3 or 3,4")
        return found
