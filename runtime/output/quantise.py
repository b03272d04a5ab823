"""Where hits lie in musical time: at the tick of their own time, or on a grid.

On a grid, of hits of one drum on one tick only the loudest stays.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

from ..errors import UsageError
from ..events import Hit
from .tempo import TICKS_PER_WHOLE, TempoMap

__all__ = ["GRIDS", "Grid", "Placement", "parse_grid"]

# Binary and triplet note values, down to a 64th and its triplet.
GRIDS = ("1/4", "1/6", "1/8", "1/12", "1/16", "1/24", "1/32", "1/48", "1/64", "1/96")


@dataclass(frozen=True, slots=True)
class Grid:
    """A note value in ticks; the grid begins anew where the meter changes."""

    name: str
    ticks: int


def parse_grid(text: str) -> Grid:
    """A grid by name, e.g. 1/16. Raises UsageError."""
    if text not in GRIDS:
        raise UsageError(f"grid '{text}': expected a note value, one of {', '.join(GRIDS)} (1/12: triplets of eighths)")
    return Grid(text, int(TICKS_PER_WHOLE * Fraction(text)))


class Placement:
    """Gives hits, pushed in order of time, their ticks."""

    def __init__(self, tempo: TempoMap, grid: Grid | None) -> None:
        self._tempo = tempo
        self._grid = grid
        self._regions = [tick for tick, _ in tempo.meter_starts]
        self._cell_tick = 0
        self._cell: dict[str, Hit] = {}  # what the last cell of the grid holds so far, by class

    def push(self, hit: Hit) -> list[tuple[int, Hit]]:
        """The hits that are settled by this one: (tick, hit), in order of ticks."""
        tick = self._tempo.tick(hit.time_s)
        if self._grid is None:
            return [(tick, hit)]
        tick = self._snap(tick, self._grid.ticks)
        settled = self.rest() if tick != self._cell_tick else []
        self._cell_tick = tick
        before = self._cell.get(hit.code)
        if before is None or hit.velocity > before.velocity:
            self._cell[hit.code] = hit
        return settled

    def rest(self) -> list[tuple[int, Hit]]:
        """What is left at the end."""
        left = [(self._cell_tick, hit) for hit in self._cell.values()]
        self._cell.clear()
        return left

    def _snap(self, tick: int, cell: int) -> int:
        """The nearest line of the grid, which the beginning of the next meter is, too."""
        if self._tempo.begins_within_a_beat and tick < self._tempo.lead_in_ticks:
            cell = self._tempo.lead_in_ticks  # too short to be divided
        i = bisect_right(self._regions, tick) - 1
        line = self._regions[i] + (tick - self._regions[i]) // cell * cell
        following = line + cell
        if i + 1 < len(self._regions):
            following = min(following, self._regions[i + 1])
        return line if tick - line < following - tick else following
