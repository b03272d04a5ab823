"""Slow: that the regression gate catches what it should and is silent where nothing changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from ghostnote.benchmarks.gate import comparison
from ghostnote.benchmarks.gate.builds import Build
from ghostnote.benchmarks.gate.command import compare_builds
from ghostnote.benchmarks.gate.comparison import Plan, compare

pytestmark = pytest.mark.slow


def copy_of(root: Path, place: Path, edit: Callable[[Path], None]) -> Build:
    """A build of its own, changed."""
    ignored = shutil.ignore_patterns(".git", ".venv*", "*.pt", "tests", "docs", "__pycache__", ".mypy_cache")
    shutil.copytree(root, place, symlinks=True, ignore=ignored)
    edit(place)
    return Build(place.name, place)


SLOWER = """

_step = OnnxRuntimeEngine.step


def _slow_step(self, *arguments):
    import time

    start = time.process_time()
    output = _step(self, *arguments)
    end = time.process_time() + {share} * (time.process_time() - start)
    while time.process_time() < end:
        pass
    return output


OnnxRuntimeEngine.step = _slow_step
"""


def slowed(share: float) -> Callable[[Path], None]:
    """An edit that makes every call of the engine burn so much more time."""

    def edit(folder: Path) -> None:
        with (folder / "runtime" / "engines" / "onnxruntime_engine.py").open("a") as file:
            file.write(SLOWER.format(share=share))

    return edit


def damaged(folder: Path) -> None:
    """An edit that halves the weights of the bundled model's graph, whose manifest says what it said."""
    path = folder / "runtime" / "assets" / "small.onnx"
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 1000:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values / 2, tensor.name))
    path.write_bytes(proto.SerializeToString())


def uncalibrated(folder: Path) -> None:
    """An edit that turns the thresholds of the bundled model up."""
    from ghostnote.export.onnx_export import attach_manifest, read_graph

    path = folder / "runtime" / "assets" / "small.onnx"
    proto, manifest = read_graph(path)
    worse = tuple(tuple(min(0.99, p + 0.2) for p in row) for row in manifest.decoder.thresholds)
    attach_manifest(proto, replace(manifest, decoder=replace(manifest.decoder, thresholds=worse)))
    path.write_bytes(proto.SerializeToString())


def plan(root: Path, budget_s: float) -> Plan:
    folder = root / "benchmarks" / "generated"
    return Plan.of("small", folder / "audio", folder / "labels", budget_s)


@pytest.mark.parametrize("share", [0.05, 0.20])
def test_a_slowed_build_is_caught(root: Path, tmp_path: Path, share: float) -> None:
    slow = copy_of(root, tmp_path / "slow", slowed(share))
    metrics = compare(Build("base", root), slow, plan(root, 600), print)
    failed = {metric.name for metric in metrics if metric.fails}
    assert failed >= {f"small: {kind}" for kind in comparison.TIMED.values()}


@pytest.mark.parametrize(("damage", "by_its_hits"), [(damaged, True), (uncalibrated, False)])
def test_a_damaged_model_is_caught(
    root: Path, tmp_path: Path, damage: Callable[[Path], None], by_its_hits: bool
) -> None:
    """One whose thresholds were changed may have other hits, but no worse ones."""
    bad = copy_of(root, tmp_path / "bad", damage)
    metrics = compare(Build("base", root), bad, plan(root, 60), print)
    failed = {metric.name for metric in metrics if metric.fails}
    assert "small: F against exact labels, 50 ms" in failed
    assert ("small: hits of HEAD against BASE, F at 10 ms" in failed) == by_its_hits
    assert not [name for name in failed if name.startswith("base")]


def test_twenty_runs_of_one_build_raise_no_alarm(root: Path, tmp_path: Path) -> None:
    other = copy_of(root, tmp_path / "other", lambda folder: None)
    for _ in range(20):
        metrics = compare(Build("base", root), other, plan(root, 120), print)
        assert not [metric for metric in metrics if metric.fails]


def test_the_command_says_it_in_a_table_and_in_json(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare_builds(str(root), str(root), budget_s=60, markdown=tmp_path / "table.md")
    printed = capsys.readouterr().out
    assert json.loads(printed.splitlines()[-1])["failed"] == []
    assert (tmp_path / "table.md").read_text() in printed
