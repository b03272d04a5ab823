"""What a person sees: hits listed as they are found, progress, and the closing line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

from .errors import OutputError
from .events import Hit
from .vocabulary import NAME_OF

if TYPE_CHECKING:
    from rich.text import Text

    from .job import Report

__all__ = ["ProgressLine", "TerminalSink", "describe", "is_terminal", "plain", "shows_unicode"]

_BAR = "▏▎▍▌▋▊▉█"


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether a person sees what is written to it. None: a standard stream that whoever started us had closed."""
    return stream is not None and stream.isatty()


def shows_unicode(console: Any) -> bool:
    """Whether a rich console's terminal has more than the letters of its language."""
    return str(console.encoding).lower().startswith("utf")


def plain(value: object, style: str = "") -> Text:
    """For rich's `print` and tables: the value as it is, whatever in it looks like markup, an emoji or a number.

    Paths, names and texts out of files go through here. Control characters, which could steer a terminal, are written
    out; so are line ends.
    """
    from rich.text import Text

    return Text("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value)), style)


class TerminalSink:
    """Lists hits on a terminal as they are found."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console: Any = Console(highlight=False)
        self._bar = _bar if shows_unicode(self._console) else _plain_bar
        self._console.print(f"[bold]{'time':>10}  {'class':<5} {'drum':<14} velocity[/bold]")

    def write(self, hits: Iterable[Hit]) -> None:
        """One line per hit. Raises OutputError where the terminal is gone."""
        try:
            for hit in hits:
                name = NAME_OF.get(hit.code, "")
                line = plain(f"{hit.time_s:>8.3f} s  ").append_text(plain(f"{hit.code:<5}", "cyan"))
                self._console.print(line.append(f" {name:<14} ").append(self._bar(hit.velocity), "green"))
        except OSError as error:
            raise OutputError(f"the terminal cannot be written to ({error.strerror})") from None

    def close(self) -> None:
        """Nothing to finish."""

    def discard(self) -> None:
        """Nothing to forget."""


class ProgressLine:
    """One line on stderr that says how far the work is, redrawn at most ten times a second; silent off a terminal."""

    def __init__(self, duration_s: float | None, *, shown: bool) -> None:
        self._of = "" if duration_s is None else f" / {duration_s:.0f}"
        self._shown = shown
        self._drawn_at = 0.0

    def __call__(self, seconds_done: float) -> None:
        """Show that so many seconds of audio are done."""
        now = time.monotonic()
        if self._shown and now - self._drawn_at > 0.1:
            self._drawn_at = now
            self._draw(f"\r{seconds_done:.0f}{self._of} s")

    def clear(self) -> None:
        """Take the line away."""
        if self._shown and self._drawn_at:
            self._draw("\r\x1b[K")

    def _draw(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:  # the terminal is gone; the work goes on
            self._shown = False


def describe(report: Report, total_latency_ms: float) -> str:
    """The closing line: counts per class, duration, speed, latency."""
    counts = ", ".join(f"{code} {n}" for code, n in report.counts.most_common())
    speed = report.audio_s / report.elapsed_s if report.elapsed_s else 0.0
    return (
        f"{report.counts.total()} hits{f' ({counts})' if counts else ''} in {report.audio_s:.1f} s of audio; "
        f"took {report.elapsed_s:.2f} s, {speed:.{0 if speed >= 10 else 1}f} times real time; "
        f"total latency {total_latency_ms:g} ms"
    )


def _bar(velocity: float) -> str:
    eighths = max(1, round(velocity * 64))
    return "█" * (eighths // 8) + (_BAR[eighths % 8 - 1] if eighths % 8 else "")


def _plain_bar(velocity: float) -> str:
    return "#" * max(1, round(velocity * 8))
