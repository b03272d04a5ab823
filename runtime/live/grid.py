"""A drum grid on the terminal: a row per drum, time scrolling to the left, velocity as the height of a block."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from ..events import Hit
from ..input.source import Source
from ..manifest import Manifest
from ..terminal import is_terminal, plain, shows_unicode
from ..vocabulary import NAME_OF
from .meter import Meter

__all__ = ["Grid", "GridSink", "Row", "rows_of"]

_COLUMNS_PER_S = 20  # and redraws: each moves the grid by one column
_BLOCKS = "▁▂▃▄▅▆▇█"
_PLAIN_BLOCKS = ".:-=+*%#"  # where the terminal has no Unicode
_EMPTY = " ·┊"
_LABEL, _LATEST = 12, 9  # columns left and right of the grid
_KEPT_S = 60.0  # of hits; no terminal is wider

# From top to bottom as in drum notation, what is struck less often below. (first class of the parent, name, colour)
_ORDER = {
    "CRC": ("cymbals", "cyan"),
    "CHH": ("hi-hats", "yellow"),
    "LT": ("toms", "magenta"),
    "SD": ("snare drum", "red"),
    "SS": ("side-stick", "bright_red"),
    "BD": ("bass drum", "green"),
    "CLP": ("hand clap", "bright_magenta"),
    "TB": ("tambourine", "bright_yellow"),
    "CB": ("cowbell", "bright_cyan"),
    "CL": ("claves", "bright_blue"),
}


@dataclass
class Row:
    """One drum of the grid: its hits by column, a column being 50 ms of the stream."""

    name: str
    colour: str
    cells: dict[int, Hit] = field(default_factory=dict)
    latest: Hit | None = None

    def add(self, hit: Hit) -> None:
        """Of two hits in a column the louder one shows."""
        column = int(hit.time_s * _COLUMNS_PER_S)
        other = self.cells.get(column)
        if other is None or other.velocity < hit.velocity:
            self.cells[column] = hit
        self.latest = hit
        while len(self.cells) > 1 and (oldest := next(iter(self.cells))) < column - _KEPT_S * _COLUMNS_PER_S:
            del self.cells[oldest]


def rows_of(parents: Sequence[Sequence[str]]) -> dict[str, Row]:
    """A row per parent, in the order in which they are shown, under each of its classes."""
    order = list(_ORDER)
    found: dict[str, Row] = {}
    for parent in sorted(parents, key=lambda codes: order.index(codes[0]) if codes[0] in _ORDER else len(order)):
        name, colour = _ORDER.get(parent[0], (NAME_OF.get(parent[0], parent[0]), "white"))
        row = Row(name if len(parent) > 1 else NAME_OF.get(parent[0], parent[0]), colour)
        found |= dict.fromkeys(parent, row)
    return found


class Grid:
    """What is drawn: lines of styled text for a width, from hits, the source's clock and a meter."""

    def __init__(self, manifest: Manifest, source: Source, meter: Meter, latency_ms: float) -> None:
        self._row_of = rows_of(manifest.decoder.parents)
        self._model = manifest.name
        self._source = source
        self._meter = meter
        self._latency_ms = latency_ms

    def add(self, hits: Iterable[Hit]) -> None:
        """Show these hits, too."""
        for hit in hits:
            self._row_of[hit.code].add(hit)

    def lines(self, width: int, *, unicode: bool = True) -> list[Any]:
        """The whole picture as rich texts, each at most `width` columns."""
        newest = self._source.newest
        now_s = newest.position_s if newest else 0.0
        columns = max(10, width - _LABEL - _LATEST)
        rows = dict.fromkeys(id(row) for row in self._row_of.values())
        by_id = {id(row): row for row in self._row_of.values()}
        return [
            self._title(now_s, unicode=unicode),
            *(self._line(by_id[key], now_s, columns, unicode=unicode) for key in rows),
            self._ruler(now_s, columns),
            self._status(),
        ]

    def _title(self, now_s: float, *, unicode: bool) -> Any:
        from rich.text import Text

        minutes, seconds = divmod(int(now_s), 60)
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{minutes:02d}:{seconds:02d}", "bold")
        encoding = "utf-8" if unicode else "ascii"  # a file's name may be neither
        name = self._source.name.encode(encoding, "replace").decode(encoding)
        return text.append_text(plain(f"  {self._model}, listening to {name}", "dim"))

    def _line(self, row: Row, now_s: float, columns: int, *, unicode: bool) -> Any:
        from rich.text import Text

        blocks = _BLOCKS if unicode else _PLAIN_BLOCKS
        last = int(now_s * _COLUMNS_PER_S)
        decided = int((now_s - self._latency_ms / 1000) * _COLUMNS_PER_S)
        cells = []
        for column in range(last - columns + 1, last + 1):
            if hit := row.cells.get(column):
                cells.append(blocks[min(7, int(hit.velocity * 8))])
            else:
                empty = "┊" if column % _COLUMNS_PER_S == 0 else "·"
                cells.append(empty if unicode and 0 <= column <= decided else " ")
        text = Text(no_wrap=True, overflow="crop")
        text.append(f"{row.name:>{_LABEL - 2}}  ", "" if row.latest else "dim")
        _append_cells(text, cells, row.colour)
        if row.latest:
            text.append(f"  {row.latest.code:<3}{round(127 * row.latest.velocity):>4}", row.colour)
        return text

    def _ruler(self, now_s: float, columns: int) -> Any:
        from rich.text import Text

        last = int(now_s * _COLUMNS_PER_S)
        ruler = [" "] * columns
        for second in range(max(0, (last - columns) // _COLUMNS_PER_S), last // _COLUMNS_PER_S + 1):
            label, place = f"{second} s", second * _COLUMNS_PER_S - (last - columns + 1)
            if 0 <= place <= columns - len(label):
                ruler[place : place + len(label)] = label
        return Text(" " * _LABEL + "".join(ruler), "dim", no_wrap=True, overflow="crop")

    def _status(self) -> Any:
        from rich.text import Text

        compute, latency, overruns = self._meter.compute, self._meter.latency, self._source.overruns
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append("latency ", "dim").append(f"{self._latency_ms:g} ms")
        if latency:
            text.append(", measured ", "dim").append(f"{latency.median_ms:.0f}, p99 {latency.p99_ms:.0f}")
        if compute:
            text.append("   compute ", "dim").append(f"{compute.median_ms:.1f} ms, p99 {compute.p99_ms:.1f}")
        return text.append("   overruns ", "dim").append(str(overruns), "bold red" if overruns else "")


def _append_cells(text: Any, cells: list[str], colour: str) -> None:
    """Runs of hits in the row's colour, runs of nothing dimmed."""
    run = ""
    for cell in [*cells, ""]:
        if run and (not cell or (cell in _EMPTY) != (run[0] in _EMPTY)):
            text.append(run, "bright_black" if run[0] in _EMPTY else colour)
            run = ""
        run += cell


class GridSink:
    """Draws a grid on a terminal from a thread of its own, so that a slow terminal holds nothing up."""

    def __init__(self, grid: Grid, terminal: IO[str]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._grid = grid
        console = Console(file=terminal, highlight=False)
        self._unicode = shows_unicode(console)
        self._live = Live(
            get_renderable=lambda: self._picture(console.width),
            console=console,
            refresh_per_second=_COLUMNS_PER_S,
            redirect_stdout=False,
            redirect_stderr=is_terminal(sys.stderr),  # warnings go above the grid
            vertical_overflow="crop",
        )
        self._live.start()

    def write(self, hits: Iterable[Hit]) -> None:
        """Show them with the next redraw."""
        self._grid.add(hits)

    def close(self) -> None:
        """Leave the last picture standing."""
        with contextlib.suppress(OSError):  # on a terminal that is gone nothing stands
            self._live.stop()

    def discard(self) -> None:
        """The same as `close`."""
        self.close()

    def _picture(self, width: int) -> Any:
        from rich.console import Group

        return Group(*self._grid.lines(width, unicode=self._unicode))
