"""`ghostnote doctor`: crashes, absences and clashes are reported; what it says can be done was done."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from typer.testing import CliRunner

from ghostnote import cli
from ghostnote.runtime import doctor, doctor_command, probes
from ghostnote.runtime.engines.cuda_driver import Device, Driver

NO_DRIVER = Driver(None, (), "the NVIDIA driver is not installed (here)")
HOPPER = Driver("13.0", (Device("H", (9, 0)),), None)
ADA = Driver("13.0", (Device("A", (8, 9)),), None)

DIES = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
# A TensorRT whose builder takes the process down, after some talk of its own on stdout.
DIES_LATER = """
import os, signal, sys
__version__ = "9.9"
print("[library] hello")
class Logger:
    ERROR = 0
    def __init__(self, level): pass
def Builder(log):
    sys.stderr.write("[library] bad driver\\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGABRT)
"""


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules go before the installed ones, here and in processes started from here."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    return tmp_path


def examine(monkeypatch: pytest.MonkeyPatch, name: str, driver: Driver = NO_DRIVER, **options: Any) -> doctor.Finding:
    """What the doctor finds out about the one library whose probe has this name."""
    monkeypatch.setattr(doctor, "LIBRARIES", [entry for entry in doctor.LIBRARIES if entry.probe == name])
    monkeypatch.setattr(doctor, "probe_driver", lambda: driver)
    (finding,) = doctor.diagnose(**options).engines
    return finding


def test_this_machine_transcribes() -> None:
    result = CliRunner().invoke(cli.app, ["doctor", "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["transcribes"] is True
    assert [engine["name"] for engine in document["engines"]] == [entry.name for entry in doctor.LIBRARIES]
    cpu = document["engines"][0]
    assert cpu["can"] == ["load", "run"]
    assert cpu["problem"] is None
    assert cpu["version"] == importlib.metadata.version("onnxruntime")
    assert document["ghostnote"] == importlib.metadata.version("ghostnote")
    assert {"devices", "problem", "version"} == set(document["driver"])
    assert {"export", "train", "eval"} <= {extra["name"] for extra in document["extras"]}
    assert not {"cpu", "gpu", "dev"} & {extra["name"] for extra in document["extras"]}


def test_tables_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    engines = (
        doctor.Finding("one", "1.0", ("load", "run"), "did it"),
        doctor.Finding("two", None, (), None, "not installed", "pip install two"),
    )
    extras = (doctor.Extra("export", {"onnx": "1"}, ("torch",), "pip install 'ghostnote[export]'"),)
    found = doctor.Diagnosis("0.1", "CPython 3", "Linux", ADA, engines, extras)
    monkeypatch.setattr(doctor_command, "diagnose", lambda: found)
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 0
    for words in ("compute capability 8.9", "load, run", "two: pip install two", "pip install 'ghostnote[export]'"):
        assert words in result.output
    assert "Transcribing works: one." in result.output


@pytest.mark.parametrize("as_json", [["--json"], []])
def test_nothing_installed_is_exit_code_7(as_json: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(cli.app, ["doctor", *as_json])
    assert result.exit_code == 7
    assert "not installed" in result.output
    assert "pip install 'ghostnote[" in result.output


def test_onnxruntime_is_installed_once_with_or_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Following all of the advice must not bring both distributions onto one machine."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for driver, expected in ((NO_DRIVER, {"pip install 'ghostnote[cpu]'"}), (ADA, {"pip install 'ghostnote[gpu]'"})):
        monkeypatch.setattr(doctor, "probe_driver", lambda driver=driver: driver)
        fixes = {engine.fix for engine in doctor.diagnose().engines if engine.name.startswith("onnxruntime")}
        assert fixes - {None} == expected


def test_a_library_of_no_use_here_is_not_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    finding = examine(monkeypatch, "tensorrt", NO_DRIVER)
    assert finding.problem == "not installed, and of no use here: the NVIDIA driver is not installed (here)"
    assert finding.fix is None


def test_both_onnxruntimes_clash(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = fakes / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    found = doctor.diagnose()
    for finding in found.engines[:2]:
        assert "both installed" in (finding.problem or "")
        assert (finding.fix or "").startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install ")
    assert not found.transcribes


def test_a_crash_while_loading_is_reported(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fakes / "tensorrt.py").write_text(DIES)
    finding = examine(monkeypatch, "tensorrt")
    assert finding.problem == "crashes while it loads (SIGSEGV)"
    assert finding.can == ()
    assert (finding.fix or "").startswith("pip install --force-reinstall tensorrt")


def test_a_crash_later_on_keeps_what_was_found_before(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fakes / "tensorrt_rtx.py").write_text(DIES_LATER)
    finding = examine(monkeypatch, "tensorrt_rtx")
    assert finding.problem == "crashes after it is loaded (SIGABRT); it logged: [library] bad driver"
    assert (finding.can, finding.version) == (("load",), "9.9")


def test_a_library_that_hangs_is_given_up(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fakes / "tensorrt.py").write_text("import time\ntime.sleep(60)\n")
    finding = examine(monkeypatch, "tensorrt", timeout_s=0.5)
    assert finding.problem == "no answer within 0.5 s"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise ImportError('libnvinfer.so.11: cannot open shared object file')", "does not load: libnvinfer.so.11"),
        ("raise TypeError('pybind11::init(): factory function returned nullptr')", "finds no usable GPU"),
        ("raise RuntimeError('surprise')", "surprise"),
    ],
)
def test_a_library_that_raises(source: str, words: str, fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fakes / "tensorrt.py").write_text(source + "\n")
    finding = examine(monkeypatch, "tensorrt")
    assert words in (finding.problem or "")
    assert "\n" not in (finding.problem or "")
    assert finding.fix


def test_a_file_in_the_current_folder_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text(DIES)
    monkeypatch.chdir(tmp_path)
    assert examine(monkeypatch, "onnxruntime-cpu").can == ("load", "run")


def test_the_lean_runtime_is_not_called_without_a_driver(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fakes / "tensorrt_lean.py").write_text(DIES_LATER.replace("Builder", "Runtime"))
    if probes.probe_driver().problem is None:
        pytest.skip("this machine has a driver")
    finding = examine(monkeypatch, "tensorrt_lean")
    assert finding.can == ("load",)
    assert (finding.problem or "").startswith("plans cannot run here: the NVIDIA driver")


class FakeSession:
    """A session that was asked for CUDA and took the CPU."""

    def __init__(self, path: str, providers: list[str]) -> None:
        self.asked = providers

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def probe(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Run a probe in this process, and put together what it says."""
    monkeypatch.setattr(sys, "argv", ["probes", name])
    probes.main()
    facts: dict[str, str] = {}
    for line in capsys.readouterr().out.splitlines():
        facts |= json.loads(line.removeprefix(doctor.LINE))
    return facts


@pytest.mark.parametrize(
    ("providers", "problem", "fix"),
    [
        (["CPUExecutionProvider"], "made for CPUs", "ghostnote[gpu]"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "fell back to the CPU", "cuda,cudnn"),
    ],
)
def test_cuda_that_is_really_the_cpu(
    providers: list[str], problem: str, fix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ort = types.ModuleType("onnxruntime")
    for attribute, value in {
        "__version__": "1.0",
        "get_available_providers": lambda: providers,
        "preload_dlls": lambda: None,
        "InferenceSession": FakeSession,
    }.items():
        setattr(ort, attribute, value)
    monkeypatch.setitem(sys.modules, "onnxruntime", ort)
    monkeypatch.setattr(probes, "probe_driver", lambda: HOPPER)
    facts = probe("onnxruntime-cuda", monkeypatch, capsys)
    assert facts["can"] == "load"
    assert problem in facts["problem"]
    assert fix in facts["fix"]


def test_tensorrt_rtx_builds_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(probes, "probe_driver", lambda: HOPPER)
    facts = probe("tensorrt_rtx", monkeypatch, capsys)
    assert facts["can"] == "build"
    assert "takes an RTX GPU (compute capability 7.5, 8.0, 8.6, 8.9, 12.0, 12.1)" in facts["problem"]


def test_the_graph_of_one_node_is_what_it_is_called() -> None:
    proto = onnx.load_from_string(probes._DOUBLE_IT)
    onnx.checker.check_model(proto, full_check=True)
    x = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(ReferenceEvaluator(proto).run(None, {"x": x})[0], 2 * x)


def test_extras_name_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else "1.0")
    export = next(extra for extra in doctor._extras() if extra.name == "export")
    assert export.missing == ("torch",)
    assert set(export.versions) == {"ml_dtypes", "onnx", "onnxscript"}
    assert export.fix == "pip install 'ghostnote[export]'"


def test_neither_torch_nor_onnx_is_imported() -> None:
    script = (
        "import sys\nfrom ghostnote.runtime.doctor_command import doctor\ndoctor(True)\n"
        "sys.exit(len({'torch', 'onnx', 'onnxruntime', 'numpy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, capture_output=True).returncode == 0
