"""Documents against stored ones: what counts as the same machine, as worse, as gone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from ghostnote.benchmarks import machine
from ghostnote.benchmarks.gate.command import compare_builds, compare_stored
from ghostnote.benchmarks.gate.stored import against
from ghostnote.benchmarks.measuring import Figure
from ghostnote.benchmarks.page import read_results
from ghostnote.benchmarks.result import Result
from ghostnote.runtime.errors import InputError, OutputError

BASELINES = Path(machine.__file__).parent / "baselines"
CARD = {"cpu": "one", "cores": 2, "gpu": "a GPU, 1980 MHz", "model": "small"}


def document(*figures: Figure, **card: object) -> Result:
    return Result("latency", CARD | card, figures)


def verdicts(stored: Result, measured: Result, folder: Path) -> dict[str, str]:
    stored.write(folder / "baselines" / "device")
    return {metric.name: str(metric.verdict) for metric in against([measured], folder / "baselines", print)}


@pytest.mark.parametrize(
    ("better", "value", "verdict"),
    [("less", 10.9, "same"), ("less", 11.2, "worse"), ("less", 8.0, "better"), ("more", 8.9, "worse")],
)
def test_a_tenth_is_noise(tmp_path: Path, better: str, value: float, verdict: str) -> None:
    stored, measured = (document(Figure("median", ms, "ms", better=better)) for ms in (10.0, value))  # type: ignore[arg-type]
    assert verdicts(stored, measured, tmp_path) == {"latency small: median": verdict}


def test_tails_are_not_compared_but_their_limits_are(tmp_path: Path) -> None:
    stored = document(Figure("p99", 3.0, "ms", 4.0), Figure("median", 1.0, "ms", better="less"))
    within = document(Figure("p99", 3.9, "ms", 4.0), Figure("median", 1.0, "ms", better="less"))
    over = document(Figure("p99", 4.1, "ms", 4.0), Figure("median", 1.0, "ms", better="less"))
    assert verdicts(stored, within, tmp_path) == {"latency small: median": "same"}
    assert verdicts(stored, over, tmp_path)["latency small: p99, limit"] == "worse"


def test_a_limit_that_the_stored_one_exceeds_too_is_no_news(tmp_path: Path) -> None:
    stored = document(Figure("p99", 5.0, "ms", 4.0), Figure("median", 1.0, "ms", better="less"))
    assert verdicts(stored, stored, tmp_path) == {"latency small: median": "same"}


def test_other_options_are_no_comparison(tmp_path: Path) -> None:
    stored, other = (replace(document(Figure("CPU", 1.0, "s", better="less")), title=t) for t in ("64", "128"))
    with pytest.raises(InputError, match="latency small: '128' was measured, '64' is stored"):
        verdicts(stored, other, tmp_path)


def test_precisions_are_models_of_their_own(tmp_path: Path) -> None:
    single, half = (document(Figure("CPU", 1.0, "s", better="less"), precision=p) for p in ("float32", "float16"))
    assert (single.write(tmp_path).name, half.write(tmp_path).name) == (
        "latency-small.json",
        "latency-small-float16.json",
    )
    with pytest.raises(InputError, match="the stored documents are latency small; "):
        verdicts(single, half, tmp_path)


@pytest.mark.parametrize("figures", [(), (Figure("4096 streams", None, "ms"),)])
def test_what_is_gone_is_worse(tmp_path: Path, figures: tuple[Figure, ...]) -> None:
    stored = document(Figure("4096 streams", 7.0, "ms", better="less"))
    assert verdicts(stored, document(*figures), tmp_path) == {"latency small: 4096 streams": "worse"}


def test_another_machine_has_no_say(tmp_path: Path) -> None:
    stored = document(Figure("median", 1.0, "ms", better="less"))
    with pytest.raises(InputError, match=r"holds no folder of this machine \(one, 2, a GPU, 1410 MHz\)"):
        verdicts(stored, document(*stored.figures, gpu="a GPU, 1410 MHz"), tmp_path)
    with pytest.raises(InputError, match="nothing to compare: the stored documents are latency small"):
        verdicts(stored, document(*stored.figures, model="base"), tmp_path)


def test_processors_of_one_name_are_told_apart_by_their_instructions(tmp_path: Path) -> None:
    old, new = (document(Figure("median", ms, "ms", better="less"), instructions=i) for ms, i in ((2, "A"), (1, "B")))
    new.write(tmp_path / "baselines" / "z")
    assert verdicts(old, old, tmp_path) == verdicts(new, new, tmp_path / "other") == {"latency small: median": "same"}
    assert [str(metric.verdict) for metric in against([new], tmp_path / "baselines", print)] == ["same"]
    new.write(tmp_path / "baselines" / "again")
    with pytest.raises(InputError, match=r"several folders are of this machine \(one, B, 2, .*\): again, z; keep one"):
        against([new], tmp_path / "baselines", print)


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in BASELINES.glob("*/history.jsonl")))
def test_a_stored_machine_is_as_good_as_itself(folder: str) -> None:
    metrics = against(read_results(BASELINES / folder), BASELINES, pytest.fail)
    assert {str(metric.verdict) for metric in metrics} == {"same"}


def test_every_card_is_looked_at(tmp_path: Path) -> None:
    stored = document(Figure("median", 1.0, "ms", better="less"))
    stored.write(tmp_path / "baselines" / "device")
    foreign = document(*stored.figures, model="base", cpu="another")
    words = r"latency base, measured: of another machine \(another, 2, a GPU, 1980 MHz\) than latency small \(one, 2, "
    with pytest.raises(InputError, match=words):
        against([stored, foreign], tmp_path / "baselines", print)
    foreign.write(tmp_path / "baselines" / "device")
    with pytest.raises(InputError, match=r"latency small, in .*device: of another machine"):
        against([stored], tmp_path / "baselines", print)


def test_what_is_stored_and_was_not_measured_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = document(Figure("median", 1.0, "ms", better="less"))
    for each in (stored, document(model="base"), document(precision="float16")):
        each.write(tmp_path / "baselines" / "device")
    stored.write(tmp_path / "results")
    compare_stored(tmp_path / "results", tmp_path / "baselines")
    captured = capsys.readouterr()
    assert captured.err == "warning: stored, but not measured: latency base, latency small float16\n"
    assert "not measured" not in captured.out


def test_an_empty_folder_is_no_device(tmp_path: Path) -> None:
    stored = document(Figure("median", 1.0, "ms", better="less"))
    (tmp_path / "baselines" / "a-device-to-come").mkdir(parents=True)
    assert verdicts(stored, stored, tmp_path) == {"latency small: median": "same"}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = document(Figure("median", 1.0, "ms", better="less"), Figure("F", 0.9, "", better="more", tolerance=0.005))
    stored.write(tmp_path / "baselines" / "device")
    document(Figure("median", 0.7, "ms", better="less")).write(tmp_path / "results")
    with pytest.raises(typer.Exit):
        compare_stored(tmp_path / "results", tmp_path / "baselines", tmp_path / "table.md")
    printed = capsys.readouterr().out
    assert (tmp_path / "table.md").read_text() in printed
    last = json.loads(printed.splitlines()[-1])
    assert last["failed"] == ["latency small: F"]
    assert [(m["base"], m["head"]) for m in last["metrics"]] == [(1.0, 0.7), (0.9, None)]


def test_a_place_for_the_table_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for run in (
        lambda table: compare_stored(tmp_path / "results", tmp_path / "baselines", table),
        lambda table: compare_builds("nowhere", "nowhere", markdown=table),
    ):
        with pytest.raises(OutputError, match="file: cannot be made a folder"):
            run(tmp_path / "file" / "table.md")  # before the results and the builds are looked for
    assert capsys.readouterr().out == ""


def test_a_gpu_and_its_clocks_stand_on_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'A GPU, 1980 MHz, 2619 MHz, 700.00 W'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine.machine_card()["gpu"] == "A GPU, 1980 MHz, 2619 MHz, 700.00 W"
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert "gpu" not in machine.machine_card()


@pytest.mark.parametrize(("visible", "asked"), [(None, "0"), ("1,0", "1"), ("GPU-8a1b", "GPU-8a1b")])
def test_the_card_is_of_the_gpu_that_programs_see(visible: str | None, asked: str, tmp_path: Path, monkeypatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\nfor word; do case "$word" in --id=*) echo "$word" ;; esac; done\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.machine_card()["gpu"] == f"--id={asked}"
