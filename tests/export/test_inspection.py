"""`ghostnote inspect`: every kind of file, for people and as JSON; files that are not ours, or mean harm."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click_model
import numpy as np
import onnx
import pytest
import torch
from exporting import exported_gflop
from tiny import write_tiny_checkpoint
from typer.testing import CliRunner

from ghostnote import cli
from ghostnote.export.inspection import Inspection, examine
from ghostnote.models import arithmetic
from ghostnote.models.baselines.onsets_and_frames import PRESETS as WHOLE_FILE_PRESETS
from ghostnote.models.checkpoint import Checkpoint, save
from ghostnote.models.kinds import KINDS
from ghostnote.runtime.errors import EngineError, GhostnoteError, InputError

RECORD = {"flavour": "tensorrt-rtx", "version": "1.7.1", "compute_capabilities": ["8.9"], "something_new": [1, 2]}
SIDECAR = click_model.make_manifest().to_dict() | {"plan": RECORD}


def shown(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What people see."""
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(cli.app, ["inspect", str(path)])
    assert result.exit_code == 0, result.exception
    return result.output


def document(path: Path) -> dict[str, Any]:
    result = CliRunner().invoke(cli.app, ["inspect", "--json", str(path)])
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def write_plan(path: Path, sidecar: object) -> Path:
    path.write_bytes(b"plan")
    path.with_name(path.name + ".json").write_text(sidecar if isinstance(sidecar, str) else json.dumps(sidecar))
    return path


def test_an_export(tiny_onnx: Path, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    found = document(tiny_onnx)
    assert found["kind"] == "onnx"
    assert found["size_bytes"] == tiny_onnx.stat().st_size
    assert found["manifest"] == replace(tiny.manifest(), verified=True).to_dict()
    assert found["total_latencies_ms"] == [40, 60, 80, 100, 150, 250]
    assert found["gflop_per_second"] == pytest.approx(exported_gflop(tiny), rel=0.02)
    assert found["parameters"] >= sum(value.numel() for value in tiny.weights.values())
    graph = found["graph"]
    assert graph["opset"] == 20
    assert graph["inputs"][0] == {"name": "audio", "type": "float32", "shape": ["batch", "882*tokens"]}
    assert [t["name"] for t in graph["outputs"]][:3] == ["onset_logits", "velocity", "offset"]
    assert graph["products"] == {"float32": {kind: graph["operators"][kind] for kind in ("Conv", "MatMul")}}
    text = shown(tiny_onnx, monkeypatch)
    for words in (
        "Apache-2.0",
        "BD=36",
        "250 ms",
        "882*tokens",
        "in float32 (",
        "GFLOP per second",
        "state_audio",
    ):
        assert words in text


def test_a_checkpoint(tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_checkpoint(tmp_path / "a.pt")
    found = document(path)
    assert found["kind"] == "checkpoint"
    assert found["manifest"] == tiny.manifest().to_dict()
    assert found["config"]["layers"] == tiny.config.layers
    assert found["parameters"] == sum(value.numel() for value in tiny.weights.values())
    assert found["gflop_per_second"] == pytest.approx(arithmetic.gflop_per_second(tiny.config)["total"])
    assert "random weights for tests" in shown(path, monkeypatch)


def test_a_checkpoint_of_another_kind(tmp_path: Path) -> None:
    config = WHOLE_FILE_PRESETS["tiny"]
    save(tmp_path / "oaf.pt", Checkpoint(config, KINDS[config.kind].model(config).state_dict()))
    found = examine(tmp_path / "oaf.pt")
    assert found.gflop_per_second is None
    assert "arithmetic unknown" in found.remarks[0]


def test_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_plan(tmp_path / "m.fp16.plan", SIDECAR)
    found = document(path)
    assert (found["kind"], found["size_bytes"]) == ("plan", 4)
    assert found["build"] == RECORD
    text = shown(path, monkeypatch)
    assert "something_new" in text
    assert "a test model: no drums were learned" in text


def test_a_plan_without_its_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    path.write_bytes(b"plan")
    with pytest.raises(InputError, match=r"a\.plan\.json: cannot be read"):
        examine(path)


def test_arithmetic_that_cannot_be_counted_is_a_remark(tmp_path: Path) -> None:
    model = onnx.load(click_model.build(tmp_path / "a.onnx"))
    model.graph.node.append(onnx.helper.make_node("MatMul", ["audio", "unsized"], ["p"]))
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["surprise"], ["unsized"], to=onnx.TensorProto.FLOAT))
    model.graph.input.append(onnx.helper.make_tensor_value_info("surprise", onnx.TensorProto.FLOAT, ["k", "n"]))
    onnx.save(model, tmp_path / "a.onnx")
    found = examine(tmp_path / "a.onnx")
    assert found.gflop_per_second is None
    assert "do not follow" in found.remarks[0]


def test_text_of_a_file_does_not_steer_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = replace(click_model.make_manifest(), name="\x1b]0;owned\x07", notes=("[red]\x1b[2Jgone[/red]",))
    text = shown(click_model.build(tmp_path / "a.onnx", manifest=manifest), monkeypatch)
    assert "\x1b" not in text
    assert "\\x1b]0;owned\\x07" in text
    assert "[red]\\x1b[2Jgone[/red]" in text


class Bomb:
    """Unpickling this makes a folder in the current one."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("exploded",)


def bomb(path: Path) -> Path:
    torch.save({"format": 2, "config": Bomb()}, path)
    return path


def plain_pickle(path: Path) -> Path:
    path.write_bytes(pickle.dumps(Bomb(), protocol=2))
    return path


def cut_off(path: Path) -> Path:
    whole = click_model.build(path) if path.suffix == ".onnx" else write_tiny_checkpoint(path)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return path


def foreign_onnx(path: Path) -> Path:
    return click_model.build(path, metadata=None)


def newer_onnx(path: Path) -> Path:
    return click_model.build(path, metadata='{"schema_version": 2}')


def manifest_of_a_stranger(path: Path) -> Path:
    return click_model.build(path, metadata='{"schema_version": 1, "name": 5}')


def nested_manifest(path: Path) -> Path:
    return click_model.build(path, metadata="[" * 100_000)


def endless_number(path: Path) -> Path:
    return click_model.build(path, metadata='{"schema_version": ' + "1" * 10_000 + "}")


def huge_delay(path: Path) -> Path:
    text = click_model.make_manifest().to_json().replace("220]", f"{10**400}]")
    return click_model.build(path, metadata=text)


def unsorted_graph(path: Path) -> Path:
    model = onnx.load(click_model.build(path))
    model.graph.node.insert(0, model.graph.node.pop())
    onnx.save(model, path)
    return path


def external(path: Path, location: str, place: str) -> Path:
    """The click model with numbers outside the file: of the main graph, or hidden in a graph inside a node."""
    model = onnx.load(click_model.build(path))
    tensor = onnx.TensorProto(name="far", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    if place == "main":
        model.graph.initializer.append(tensor)
    else:
        branch = onnx.helper.make_graph([], "branch", [], [], initializer=[tensor])
        node = onnx.helper.make_node("If", ["far_condition"], ["far_output"], then_branch=branch, else_branch=branch)
        model.graph.node.append(node)
    path.write_bytes(model.SerializeToString())
    return path


def external_outside(path: Path) -> Path:
    return external(path, "../../secret.bin", "main")


def external_beside(path: Path) -> Path:
    (path.parent / "beside.bin").write_bytes(np.zeros(4, np.float32).tobytes())
    return external(path, "beside.bin", "main")


def external_hidden(path: Path) -> Path:
    return external(path, "/etc/hostname", "branch")


def other_torch_file(path: Path) -> Path:
    torch.save({"weights": torch.zeros(3)}, path)
    return path


def odd_checkpoint(path: Path) -> Path:
    torch.save({"format": "new", "config": 7}, path)
    return path


def weights_that_do_not_fit(path: Path) -> Path:
    write_tiny_checkpoint(path)
    document = torch.load(path, weights_only=True)
    document["weights"].popitem()
    torch.save(document, path)
    return path


def archive(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", b"nothing")
    return path


def text_file(path: Path) -> Path:
    path.write_text("no model at all")
    return path


def empty_file(path: Path) -> Path:
    path.touch()
    return path


def plan_with(sidecar: object) -> Callable[[Path], Path]:
    return lambda path: write_plan(path, sidecar)


BAD = [
    ("a.onnx", text_file, "not an ONNX file"),
    ("a.onnx", empty_file, "not a ghostnote model"),
    ("a.onnx", cut_off, "not an ONNX file, or cut off"),
    ("a.onnx", foreign_onnx, "not a ghostnote model"),
    ("a.onnx", newer_onnx, "newer version; upgrade"),
    ("a.onnx", manifest_of_a_stranger, "'decoder' is missing"),
    ("a.onnx", nested_manifest, "not a usable model file"),
    ("a.onnx", endless_number, "not a usable model file"),
    ("a.onnx", huge_delay, "not a usable model file"),
    ("a.onnx", unsorted_graph, "ONNX's checker refuses the graph"),
    ("a.onnx", external_outside, "'../../secret.bin'"),
    ("a.onnx", external_beside, "lie in another file"),
    ("a.onnx", external_hidden, "lie in another file"),
    ("a.pt", text_file, "not a ghostnote checkpoint"),
    ("a.pt", empty_file, "not a ghostnote checkpoint"),
    ("a.pt", cut_off, "not a ghostnote checkpoint"),
    ("a.pt", archive, "not a ghostnote checkpoint"),
    ("a.pt", bomb, "not a ghostnote checkpoint"),
    ("a.pt", plain_pickle, "not a ghostnote checkpoint"),
    ("a.pt", other_torch_file, "not a ghostnote checkpoint"),
    ("a.pt", odd_checkpoint, "newer version"),
    ("a.pt", weights_that_do_not_fit, "damaged checkpoint"),
    ("a.plan", plan_with("no JSON"), "a.plan.json: not JSON"),
    ("a.plan", plan_with({"manifest": {}}), "a manifest with an object 'plan'"),
    ("a.plan", plan_with({"plan": {}}), "schema_version"),
    ("a.plan", plan_with("[" * 100_000), "a.plan.json: not JSON"),
    ("a.bin", text_file, "expected a name in .onnx, .pt or .plan"),
]


@pytest.mark.parametrize(("name", "make", "words"), BAD)
def test_files_that_are_not_ours(
    name: str, make: Callable[[Path], Path], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path / name)
    with pytest.raises(EngineError) as caught:
        examine(path)
    assert caught.value.exit_code == 7
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not (tmp_path / "exploded").exists()


def test_numbers_in_other_files_are_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even those that lie beside the model and could be read."""

    path = external_beside(tmp_path / "a.onnx")

    def load(*_: object) -> None:
        pytest.fail("external data was loaded")

    monkeypatch.setattr(onnx.external_data_helper, "load_external_data_for_tensor", load)
    monkeypatch.setattr(onnx, "load_external_data_for_model", load)
    with pytest.raises(EngineError, match="not opened"):
        examine(path)


def test_a_missing_file_is_exit_code_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such file") as caught:
        examine(tmp_path / "nothing.onnx")
    assert caught.value.exit_code == 5
    with pytest.raises(InputError, match="is a folder"):
        examine(tmp_path)


def test_from_the_command_line_an_error_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ghostnote", "inspect", str(foreign_onnx(tmp_path / "a.onnx"))])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 7
    streams = capsys.readouterr()
    assert streams.out == ""
    assert len(streams.err.splitlines()) == 1


def test_scrambled_models_never_end_in_a_traceback(tmp_path: Path) -> None:
    """Bytes changed at random: refused, or shown; anything but another exception."""
    rng = np.random.default_rng(5)
    click = click_model.build(tmp_path / "click.onnx").read_bytes()
    shown, codes = 0, set()
    for trial in range(150):
        data = bytearray(click)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        path = tmp_path / f"{trial}.onnx"
        path.write_bytes(data)
        try:
            assert isinstance(examine(path), Inspection)
            shown += 1
        except GhostnoteError as error:
            codes.add(error.exit_code)
    assert shown > 0
    assert codes == {7}


def test_an_onnx_file_needs_no_pytorch(tiny_onnx: Path) -> None:
    """Neither to be looked at nor to be reduced: only what reads checkpoints imports it."""
    script = (
        "import sys; sys.modules['torch'] = None\n"  # makes `import torch` fail
        "import ghostnote.export.pipeline\n"
        "from ghostnote import cli\n"
        f"sys.argv = ['ghostnote', 'inspect', {str(tiny_onnx)!r}]\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "GFLOP" in done.stdout


def test_the_case_of_an_ending_is_no_matter(tiny_onnx: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_onnx, tmp_path / "MINE.ONNX")
    assert examine(tmp_path / "MINE.ONNX").manifest == examine(tiny_onnx).manifest
