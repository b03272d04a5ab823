"""What a person sees of texts that come from outside."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ghostnote.runtime import Hit
from ghostnote.runtime.terminal import TerminalSink, plain


@pytest.mark.parametrize("text", ["a[b]", "x[/b]", ":smile:", "[red]song[/red].wav"])
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    out = io.StringIO()
    Console(file=out, force_terminal=False).print(plain(text))
    assert out.getvalue() == f"{text}\n"


def test_control_characters_are_written_out() -> None:
    assert plain("a\x1b]0;owned\x07\nb").plain == r"a\x1b]0;owned\x07\nb"


def test_a_class_of_a_model_may_look_like_markup(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalSink().write([Hit(1.0, "[/b]", 1.0, 1.0)])
    assert "1.000 s  [/b]" in capsys.readouterr().out
