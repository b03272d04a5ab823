"""`export-model`: what the command makes, says and refuses before it begins."""

from __future__ import annotations

import importlib.metadata
import pickle
import shlex
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import typer
from exporting import product_inputs, run_main
from tiny import write_tiny_checkpoint
from typer.testing import CliRunner

from ghostnote.export import command, onnx_export, pipeline
from ghostnote.export.choices import Precision
from ghostnote.models.checkpoint import Checkpoint
from ghostnote.runtime.errors import InputError, OutputError

pytestmark = pytest.mark.usefixtures("short_streams")


def test_the_command_writes_beside_the_checkpoint(
    stored: None, tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture
) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint) == 0
    assert (tmp_path / "ckpt.onnx").read_bytes() == tiny_onnx.read_bytes()
    shown = capsys.readouterr().out
    for word in (
        "Plan",
        "verify",
        "onset_logits",
        "state_keys_00_out",
        "PASS",
        "1.0e-04",
        "drift",
        "Next: rt-transcribe",
    ):
        assert word in shown, word
    assert "FAIL" not in shown


@pytest.mark.parametrize("name", ["a[b]", "x[/b]", ":smile:"])
def test_a_folder_that_looks_like_markup_is_a_folder(
    stored: None, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    assert run_main(monkeypatch, write_tiny_checkpoint(folder / "ckpt.pt"), "--target", "onnx") == 0
    shown = capsys.readouterr().out
    assert f"load     {folder}/ckpt.pt" in shown
    assert f"Next: rt-transcribe --engine {shlex.quote(str(folder / 'ckpt.onnx'))}" in shown
    assert f"{name}/ckpt.onnx" in "".join(character for character in shown if character not in "│ \n")


def test_a_failed_gate_keeps_its_exit_code_in_such_a_folder(
    tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: onnx.load(tiny_onnx))
    monkeypatch.setattr(pipeline, "activation_peaks", lambda *_: dict.fromkeys(product_inputs(tiny_onnx), 0.05))
    folder = tmp_path / "x[/b]"
    folder.mkdir(parents=True)
    checkpoint = write_tiny_checkpoint(folder / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint, "--target", "onnx", "--precision", "int8") == 3
    assert f"{folder}/ckpt.int8.onnx.failed.npz" in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--precision", "int8")])
def test_without_onnxruntime_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, options: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # makes `import onnxruntime` fail
    monkeypatch.setattr(importlib.metadata, "version", _no_distribution)
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: pytest.fail("the work began"))
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint, *options) == 4
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "onnxruntime is not installed; install exactly one: pip install 'ghostnote[cpu]'" in error
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


def _no_distribution(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


@pytest.mark.parametrize(
    "options",
    [
        ("--batch", "4,2,1"),
        ("--tokens", "1,2"),
        ("--target", "tensorrt-rtx", "--version-compatible"),
        ("--target", "tensorrt", "--hardware-compatibility", "all"),
        ("--target", "auto", "--hardware-compatibility", "all"),
        ("--target", "auto", "--workspace-mib", "-3"),
        ("--target", "onnx", "--workspace-mib", "-3"),
    ],
)
def test_impossible_profiles_and_options_are_found_out_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: pytest.fail("the work began"))
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    assert run_main(monkeypatch, checkpoint, *options) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


@pytest.mark.parametrize("target", ["onnx", "triton"])
@pytest.mark.parametrize(
    ("options", "builders"),
    [
        (("--timing-cache", "cache"), "tensorrt or auto"),
        (("--hardware-compatibility", "ampere_plus"), "tensorrt or auto"),
        (("--version-compatible",), "tensorrt or auto"),
        (("--detailed",), "tensorrt, tensorrt-rtx or auto"),
        (("--workspace-mib", "512"), "tensorrt, tensorrt-rtx or auto"),
        (("--batch", "1,1,64"), "tensorrt, tensorrt-rtx or auto"),
        (("--tokens", "1,2,96"), "tensorrt, tensorrt-rtx or auto"),
    ],
)
def test_options_that_the_target_cannot_use_are_refused(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture, target: str, options: tuple[str, ...], builders: str
) -> None:
    assert run_main(monkeypatch, tmp_path / "ckpt.pt", "--target", target, *options) == 2
    error = capsys.readouterr().err
    assert f"{options[0]}: of plans, and --target {target} makes none; give --target {builders}, or" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "onnx"), "is float32 ONNX already: add --precision, or choose another --target"),
        (("--target", "onnx", "--verify", "song.wav"), "is float32 ONNX already"),
        (("--target", "triton", "--verify", "song.wav"), "--verify has nothing to compare"),
    ],
)
def test_what_would_do_nothing_is_refused(
    tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys, options: tuple[str, ...], message: str
) -> None:
    assert run_main(monkeypatch, tiny_onnx, "--out", tmp_path, *options) == 2
    streams = capsys.readouterr()
    assert message in streams.err
    assert streams.out == ""


def test_half_states_go_with_half_products(tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    assert run_main(monkeypatch, tiny_onnx, "--states", "fp16", "--precision", "bf16", "--out", tmp_path) == 2
    assert "states in fp16 go with products in fp16, not bf16: add --precision fp16" in capsys.readouterr().err


def test_a_reduced_graph_is_no_source(tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "half.onnx"
    out.write_bytes(pipeline.reduce(*onnx_export.read_graph(tiny_onnx), Precision.FP16).SerializeToString())
    assert run_main(monkeypatch, out, "--precision", "fp16") == 2
    assert "give the float32 graph" in capsys.readouterr().err


class Runs:
    """A pickle that would run code."""

    def __reduce__(self):
        return (Path.touch, (Path("was-here"),))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps(Runs()), None])
def test_what_is_no_checkpoint_of_ours(tmp_path: Path, monkeypatch, capsys, content: bytes | None) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "alien.pt"
    if content is not None:
        path.write_bytes(content)
    assert run_main(monkeypatch, path) == InputError.exit_code
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "alien.pt" in error
    assert not (tmp_path / "alien.onnx").exists()
    assert not (tmp_path / "was-here").exists()


def test_a_truncated_checkpoint(tmp_path: Path, monkeypatch, capsys) -> None:
    path = write_tiny_checkpoint(tmp_path / "cut.pt")
    path.write_bytes(path.read_bytes()[:-5000])
    assert run_main(monkeypatch, path) == InputError.exit_code
    assert "cut.pt" in capsys.readouterr().err


def test_an_unwritable_output_is_found_out_first(tiny: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: pytest.fail("the work began"))
    with pytest.raises(OutputError, match="cannot be written"):
        pipeline.export_onnx(tiny, tmp_path / "missing" / "out.onnx")
    assert run_main(monkeypatch, tmp_path / "ckpt.pt", "--out", tmp_path / "missing") == OutputError.exit_code


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(command, "LIBRARIES", ("torch", "no_such_library"))
    assert run_main(monkeypatch, tmp_path / "ckpt.pt") == 4
    assert "no_such_library is not installed; pip install 'ghostnote[export]'" in capsys.readouterr().err


def test_help_is_a_subcommand_too() -> None:
    app = typer.Typer()
    app.command()(command.export)
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for option in ("--out", "--target", "--precision", "--verify"):
        assert option in result.output


@pytest.mark.parametrize(
    ("tokens", "expected"), [("1,1,96", "at least 882 (20 ms)"), ("3,3,3", "at least 2646 (60 ms)")]
)
def test_recordings_shorter_than_a_call_are_refused_first(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture, tokens: str, expected: str
) -> None:
    monkeypatch.setattr(onnx_export, "graph_of", lambda _model: pytest.fail("the work began"))
    checkpoint = write_tiny_checkpoint(tmp_path / "ckpt.pt")
    soundfile.write(tmp_path / "click.wav", np.zeros(881), 44_100)
    assert run_main(monkeypatch, checkpoint, "--verify", tmp_path / "click.wav", "--tokens", tokens) == 5
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "click.wav: 881 samples" in error
    assert expected in error


def test_a_repository_for_triton_by_the_command(tiny_onnx: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    assert run_main(monkeypatch, tiny_onnx, "--target", "triton", "--out", tmp_path) == 0
    assert (tmp_path / "tiny-triton" / "tiny" / "1" / "model.onnx").read_bytes() == tiny_onnx.read_bytes()
