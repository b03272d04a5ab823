"""The terminal grid: what stands where, in terminals of any width."""

from __future__ import annotations

import io
from types import SimpleNamespace

import click_model
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostnote.runtime import Hit
from ghostnote.runtime.input.source import Moment
from ghostnote.runtime.live.grid import Grid, GridSink, rows_of
from ghostnote.runtime.live.meter import Meter
from ghostnote.runtime.vocabulary import CODES, PARENTS

MANIFEST = click_model.make_manifest()


class Terminal(io.StringIO):
    """A terminal that remembers what was written."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def grid_at(
    now_s: float,
    hits: list[Hit],
    *,
    parents=PARENTS,
    latency_ms: float = 100,
    overruns: int = 0,
    name: str = "Fake Interface",
) -> Grid:
    source = SimpleNamespace(is_live=True, newest=Moment(now_s, 0.0, 1.0), overruns=overruns, name=name)
    manifest = SimpleNamespace(name="base", decoder=SimpleNamespace(parents=parents))
    grid = Grid(manifest, source, Meter(source, iter(range(1, 99)).__next__), latency_ms)
    grid.add(hits)
    return grid


def row(lines: list, name: str) -> str:
    return next(line.plain for line in lines if line.plain.strip().startswith(name))


def test_a_row_per_parent_in_the_order_of_notation() -> None:
    names = list(dict.fromkeys(row.name for row in rows_of(PARENTS).values()))
    assert names == [
        "cymbals", "hi-hats", "toms", "snare drum", "side-stick", "bass drum", "hand clap", "tambourine", "cowbell",
        "claves",
    ]  # fmt: skip
    assert set(rows_of(PARENTS)) == set(CODES)
    alone = rows_of([(code,) for code in CODES])
    assert len({id(row) for row in alone.values()}) == 18
    assert alone["CRC"].name == "crash cymbal"


def test_a_name_that_the_terminal_cannot_show() -> None:
    grid = grid_at(1.0, [], name="caf\xe9 \udcff.wav")
    assert grid.lines(80)[0].plain.endswith("listening to caf\xe9 ?.wav")
    assert grid.lines(80, unicode=False)[0].plain.endswith("listening to caf? ?.wav")


def test_a_hit_stands_at_its_time_as_high_as_it_is_loud() -> None:
    """80 columns: 12 for the name, 59 of 50 ms, 9 for the latest hit; the right edge is now."""
    lines = grid_at(10.0, [Hit(9.0, "SD", 1.0, 1), Hit(9.5, "SD", 0.1, 1), Hit(9.52, "SD", 0.05, 1)]).lines(80)
    snare = row(lines, "snare drum")
    cells = snare[12:71]
    assert cells[58 - 20] == "█"
    assert cells[58 - 10] == "▁"
    assert cells.count("█") + cells.count("▁") == 2
    assert snare.endswith("SD    6")
    assert row(lines, "bass drum")[12:71].strip("·┊") == "  "  # 100 ms are not decided yet
    seconds = [place for place, cell in enumerate(cells) if cell == "┊"]
    assert seconds == [58 - 40]  # 8 s; at 9 s stands a hit, 10 s is not decided yet


def test_time_scrolls() -> None:
    hit = Hit(9.0, "BD", 1.0, 1)
    places = [row(grid_at(now, [hit]).lines(80), "bass drum").find("█") for now in (9.2, 9.3, 11.0, 20.0)]
    assert places == [12 + 54, 12 + 52, 12 + 18, -1]


def test_status() -> None:
    grid = grid_at(83.2, [], latency_ms=60, overruns=3)
    lines = [line.plain for line in grid.lines(80)]
    assert lines[0].startswith("01:23  base, listening to Fake Interface")
    assert "82 s" in lines[-2]
    assert lines[-1] == "latency 60 ms   overruns 3"
    grid._meter.observe([Hit(83.0, "BD", 1, 1)])
    assert "measured" in grid.lines(80)[-1].plain
    assert "compute" in grid.lines(80)[-1].plain


def test_fits_into_80_by_24() -> None:
    assert len(grid_at(1.0, [], parents=PARENTS).lines(80)) == 13
    assert len(grid_at(1.0, [], parents=[(code,) for code in CODES]).lines(80)) <= 23


@given(
    width=st.integers(20, 300),
    now_s=st.floats(0, 1e5),
    hits=st.lists(
        st.builds(Hit, st.floats(0, 1e5), st.sampled_from(CODES), st.floats(0, 1), st.floats(0, 1)), max_size=20
    ),
    unicode=st.booleans(),
)
def test_rows_fill_their_width_and_never_more(width: int, now_s: float, hits: list[Hit], unicode: bool) -> None:
    lines = grid_at(now_s, sorted(hits, key=lambda hit: hit.time_s)).lines(width, unicode=unicode)
    columns = max(10, width - 21)
    for line in lines[1:-2]:
        assert 12 + columns <= len(line.plain) <= 12 + columns + 9
    assert unicode or all(line.plain.isascii() for line in lines)


def test_old_hits_are_forgotten() -> None:
    grid = grid_at(0.0, [Hit(k / 10, "BD", 0.5, 1) for k in range(36_000)])
    assert len(rows := grid._row_of["BD"].cells) < 700
    assert min(rows) > 70_000


def test_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    sink = GridSink(grid_at(10.0, []), terminal)
    sink.write([Hit(9.0, "BD", 1.0, 1)])
    sink.close()
    text = terminal.getvalue()
    assert "bass drum" in text
    assert "█" in text
    assert text.rstrip().endswith("\x1b[?25h")  # the cursor is back
