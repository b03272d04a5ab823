"""Options declared as fields of dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from ghostnote.runtime.option_groups import flattened


@dataclass(frozen=True, slots=True)
class Size:
    """How large."""

    width: Annotated[int, typer.Option(min=1, help="How wide.")] = 3
    depth_s: Annotated[float | None, typer.Option("--depth")] = None


@dataclass(frozen=True, slots=True)
class Colour:
    """How it looks."""

    names: Annotated[list[str] | None, typer.Option("--colour", "-c")] = None


def test_fields_become_options_and_options_fields() -> None:
    app, seen = typer.Typer(), []

    @app.command()
    @flattened
    def draw(*, what: Annotated[str, typer.Argument()] = "box", size: Size, colour: Colour, fill: bool = False) -> None:
        """Draw something."""
        seen.append((what, size, colour, fill))

    def run(*words: str) -> int:
        return CliRunner().invoke(app, words).exit_code

    assert run() == 0
    assert run("disc", "--width", "5", "-c", "red", "--colour", "blue", "--depth", "1.5", "--fill") == 0
    assert seen == [
        ("box", Size(3, None), Colour(None), False),
        ("disc", Size(5, 1.5), Colour(["red", "blue"]), True),
    ]
    assert run("--width", "0") == 2
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"}).output
    assert "Draw something." in shown
    assert "How wide." in shown
    assert "[default: 3]" in shown
