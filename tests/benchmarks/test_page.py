"""Documents as they are kept and read again, and the page and the README's table made of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ghostnote.benchmarks import page
from ghostnote.benchmarks.measuring import Figure
from ghostnote.benchmarks.pictures import draw_history
from ghostnote.benchmarks.result import Result, shown
from ghostnote.runtime import InputError, OutputError, UsageError, open_engine


@pytest.fixture
def result() -> Result:
    card = {"date": "2026-11-24", "cpu": "a", "model": "tiny"}
    figures = [Figure("40 ms chunk, p99", 1.25, "ms", 2.0, 0.5), Figure("other", None, "", 1.0)]
    return Result(
        "latency", card, figures, "Latency", {"f_by_latency_ms": {"40": {"pooled": 0.5}, "60": {"pooled": 0.6}}}
    )


def test_results_are_shown_and_kept(result: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result.show()
    printed = capsys.readouterr().out
    assert Result.from_json(printed.splitlines()[-1]) == result
    assert any("p99" in line and "pass" in line for line in printed.splitlines()[:-1])
    assert result.write(tmp_path / "new").name == "latency-tiny.json"
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made a folder"):
        result.write(tmp_path / "file")


def test_markup_of_a_result_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Result("throughput", {"model": "x[/b].onnx"}, [Figure("a[b]/song.wav", 1.0, "s")], "of a[b]").show()
    *printed, _document = capsys.readouterr().out.splitlines()
    for text in ("x[/b].onnx", "a[b]/song.wav", "of a[b]"):
        assert any(text in line for line in printed), text


def test_the_page_and_the_readme_table_come_from_documents(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "some-cpu"
    result.write(device)
    monkeypatch.chdir(device)
    page.write_page([Path()], tmp_path / "performance.md")
    text = (tmp_path / "performance.md").read_text()
    assert "## some-cpu" in text
    assert "| 40 ms chunk, p99 | 1.25 | 0.5 | 2 | ms | pass |" in text
    for picture in re.findall(r"!\[.*?\]\((.+?)\)", text):
        assert (tmp_path / picture).stat().st_size > 1000
    assert "![F against latency](pictures/" in text
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()}
    page.write_page([Path()], tmp_path / "performance.md")
    assert drawn == {path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()}
    table = page.readme_table(page.read_results(device))
    assert "| one core | `tiny` |" in table
    assert "| 40 ms chunk, p99 | 1.25 ms |" in table
    with pytest.raises(InputError, match="holds no documents"):
        page.read_results(tmp_path)


def test_every_document_has_pictures_of_its_own(tmp_path: Path) -> None:
    steps = {"step_ms": {"1": {"1": 1.0, "2": 2.0}}}
    for suite, precision in (("latency", "float32"), ("latency", "float16"), ("gpu", "float32")):
        Result(suite, {"model": "tiny", "precision": precision}, [], suite, steps).write(tmp_path / "cpu")
    page.write_page([tmp_path / "cpu"], tmp_path / "page.md")
    drawn = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert drawn == {f"cpu-{name}-step-ms.svg" for name in ("gpu-tiny", "latency-tiny", "latency-tiny-float16")}
    assert all(f"(pictures/{name})" in (tmp_path / "page.md").read_text() for name in drawn)


README = "before\n<!-- performance -->\nold\n<!-- end of performance -->\nafter\n"


def complete(folder: Path, start_s: float) -> Path:
    """A folder with all that the README's table shows."""
    for suite, names in page.README_FIGURES.items():
        Result(suite, {"model": "tiny"}, [Figure(name, start_s, "s") for name in names]).write(folder)
    return folder


def test_the_readme_table_is_of_the_first_complete_folder(result: Result, tmp_path: Path) -> None:
    result.write(tmp_path / "a-gpu")
    folders = [tmp_path / "a-gpu", complete(tmp_path / "b-cpu", 0.25), complete(tmp_path / "c-cpu", 0.5)]
    (tmp_path / "README.md").write_text(README)
    page.write_page(folders, tmp_path / "page.md", tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n<!-- performance -->\n| one core | `tiny` |")
    assert text.count("0.25 s") == 5
    assert "old" not in text
    assert "0.5 s" not in text
    with pytest.raises(InputError, match="no folder holds what the table in"):
        page.write_page(folders[:1], tmp_path / "page.md", tmp_path / "README.md")


@pytest.mark.parametrize(("text", "words"), [(None, "cannot be read"), ("none", "no line '<!-- performance -->'")])
def test_a_readme_without_a_table_is_refused_before_the_page(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    with pytest.raises(InputError, match=words):
        page.write_page([complete(tmp_path / "cpu", 1)], tmp_path / "page.md", tmp_path / "README.md")
    assert not (tmp_path / "page.md").exists()


def test_two_folders_of_one_name_would_share_their_pictures(result: Result, tmp_path: Path) -> None:
    folders = [tmp_path / "one" / "cpu", tmp_path / "two" / "cpu"]
    for folder in folders:
        result.write(folder)
    with pytest.raises(UsageError, match="2 folders are named cpu"):
        page.write_page(folders, tmp_path / "page.md")


def test_documents_of_other_weights_are_marked(tmp_path: Path) -> None:
    for suite, weights in (("accuracy", "b" * 64), ("latency", "b" * 64), ("endurance", "a" * 64), ("training", None)):
        card = {"model": "tiny"} | ({"weights_sha256": weights} if weights else {})
        Result(suite, card, [], suite).write(tmp_path / "cpu")
    Result("accuracy", {"model": "other", "weights_sha256": "c" * 64}, [], "alone").write(tmp_path / "cpu")
    page.write_page([tmp_path / "cpu"], tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert text.count("Of other weights than") == 1
    assert "### endurance (`tiny`)\n\nOf other weights than the other documents of `tiny`.\n\n| what" in text
    assert text.count("<sub>weights bbbbbbbb</sub>") == 2


def test_documents_of_earlier_weights_than_the_bundled_model_are_marked(tmp_path: Path) -> None:
    now = open_engine("small").manifest.weights_sha256
    for suite, weights in (("accuracy", "a" * 64), ("latency", "a" * 64), ("memory", now)):
        Result(suite, {"model": "small", "weights_sha256": weights}, [], suite).write(tmp_path / "cpu")
    page.write_page([tmp_path / "cpu"], tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    for suite in ("accuracy", "latency"):
        assert f"### {suite} (`small`)\n\nOf earlier weights than the bundled `small`.\n\n| what" in text
    assert text.count("Of earlier weights") == 2


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"figures": 1}', '{"figures": [{"name": 1}]}', b"\xff"])
@pytest.mark.parametrize("name", ["latency-tiny.json", "history.jsonl"])
def test_documents_that_are_none(result: Result, tmp_path: Path, text: str | bytes, name: str) -> None:
    result.write(tmp_path / "cpu")
    (tmp_path / "cpu" / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match=f"{name}: "):
        page.write_page([tmp_path / "cpu"], tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"card": "text"},
        {"title": 1},
        {"series": []},
        {"figures": [{"name": "a", "value": "1", "unit": ""}]},
        {"figures": [{"name": "a", "value": 1, "unit": "", "better": "less", "tolerance": None}]},
        {"figures": [{"name": "a", "value": 1, "unit": "", "better": "small"}]},
    ],
)
def test_documents_of_another_shape(result: Result, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="JSON of another shape"):
        Result.from_json(json.dumps(json.loads(result.to_json()) | change))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.01234, "0.0123"), (999.4, "999"), (999.7, "1000"), (-999.7, "-1000"), (123456.7, "123457")],
)
def test_numbers_are_shown_without_large_exponents(value: float | None, text: str) -> None:
    assert shown(value, missing="-") == text


def test_names_that_part_cells_stay_in_theirs(tmp_path: Path) -> None:
    Result("gpu", {"model": "a|b"}, [Figure("1 x 1 tokens: dims [1|2]", None, "of 2|3")], "gpu").write(tmp_path / "cpu")
    page.write_page([tmp_path / "cpu"], tmp_path / "page.md")
    assert "| 1 x 1 tokens: dims [1\\|2] |  |  |  | of 2\\|3 |  |" in (tmp_path / "page.md").read_text()


def test_a_history_of_figures_that_were_measured_once_is_no_picture(tmp_path: Path) -> None:
    lines = [
        {"commit": commit, "model": model, "figures": {"40 ms chunk, p99": 1.0}}
        for commit, model in (("a", "base"), ("b", "small"))
    ]
    assert draw_history(lines, tmp_path, "cpu") is None
    assert list(tmp_path.iterdir()) == []
    again = [*lines, lines[0] | {"commit": "b"}]
    assert draw_history(again, tmp_path, "cpu") == tmp_path / "cpu-history.svg"
