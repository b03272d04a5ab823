"""The console commands: what they load, what they say when something is missing, where they lead."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ghostnote import cli
from ghostnote.runtime.errors import UsageError

HEAVY = {
    *("accelerate", "fastapi", "matplotlib", "mir_eval", "onnx", "onnxruntime", "onnxscript", "optuna"),
    *("prometheus_client", "scipy", "torch", "uvicorn", "websockets"),
}

# Runs a console command in a fresh interpreter and prints the top-level modules it has loaded by its end.
_PROBE = """
import importlib, json, sys
module, function, *sys.argv = {argv!r}
code = 0
try:
    getattr(importlib.import_module(module), function)()
except SystemExit as stop:
    code = stop.code or 0
print()
print(json.dumps([code, sorted({{name.partition(".")[0] for name in sys.modules}} | {{
    name for name in sys.modules if name.startswith("ghostnote.")}})]))
"""


def _modules_loaded_by(command: str, *arguments: str) -> tuple[int, set[str]]:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name=command)
    argv = [entry.module, entry.attr, command, *arguments]
    script = _PROBE.format(argv=argv)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize("command", ["rt-transcribe", "export-model", "ghostnote"])
def test_help_loads_nothing_heavy(command: str) -> None:
    """Help has to answer within half a second; what is not imported takes no time."""
    code, modules = _modules_loaded_by(command, "--help")
    assert code == 0
    assert modules & HEAVY == set()


def test_ghostnote_help_loads_no_subcommand() -> None:
    _, modules = _modules_loaded_by("ghostnote", "--help")
    assert modules & {f"ghostnote.{entry.module}" for entry in cli.SUBCOMMANDS.values()} == set()


@pytest.mark.parametrize("name", cli.SUBCOMMANDS)
def test_a_subcommand_loads_only_its_own_module(name: str) -> None:
    code, modules = _modules_loaded_by("ghostnote", name, "--help")
    assert code == 0
    others = {f"ghostnote.{entry.module}" for other, entry in cli.SUBCOMMANDS.items() if other != name}
    assert f"ghostnote.{cli.SUBCOMMANDS[name].module}" in modules
    assert modules & others == set()


@pytest.mark.parametrize("name", cli.SUBCOMMANDS)
def test_subcommands_exist(name: str) -> None:
    entry = cli.SUBCOMMANDS[name]
    assert callable(getattr(importlib.import_module(f"ghostnote.{entry.module}"), entry.function))


def test_help_lists_the_subcommands() -> None:
    result = CliRunner().invoke(cli.app, ["--help"])
    assert result.exit_code == 0
    assert [name for name in cli.SUBCOMMANDS if name not in result.output] == []


def test_version_is_the_installed_one() -> None:
    result = CliRunner().invoke(cli.app, ["--version"])
    assert result.output.strip() == f"ghostnote {importlib.metadata.version('ghostnote')}"


def test_unknown_subcommand_is_a_bad_command_line() -> None:
    assert CliRunner().invoke(cli.app, ["transcibe"]).exit_code == 2


@pytest.mark.parametrize(
    ("name", "library", "extra", "exit_code"),
    [
        ("train", "torch", "train", 7),
        ("evaluate", "mir_eval", "eval", 7),
        ("evaluate", "torch", "eval,train", 7),
        ("export", "torch", "export", 4),
        ("preview-data", "matplotlib", "eval,train", 7),
        ("sweep", "optuna", "sweep", 7),
        ("serve", "fastapi", "serve", 7),
    ],
)
def test_missing_extra_is_one_line_that_installs_it(
    name: str,
    library: str,
    extra: str,
    exit_code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(_: str) -> None:
        raise ModuleNotFoundError(f"No module named {library!r}", name=library)

    monkeypatch.setattr(cli, "_load", load)
    monkeypatch.setattr(sys, "argv", ["ghostnote", name])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    message = capsys.readouterr().err
    assert stop.value.code == exit_code
    assert message == f"ghostnote: `{name}` needs {library}, which is not installed; pip install 'ghostnote[{extra}]'\n"


GHOSTNOTE = (sys.executable, "-m", "ghostnote.cli")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*GHOSTNOTE, "doctor"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (
        6,
        b"ghostnote: standard output: cannot be written (No space left on device)\n",
    )


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    with subprocess.Popen([*GHOSTNOTE, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, b"")


def test_a_pipe_that_breaks_inside_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a worker process that died, say: nothing is wrong with standard output."""

    def load(_: str) -> typer.core.TyperCommand:
        return typer.core.TyperCommand("train", callback=broken)

    def broken() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli, "_load", load)
    assert CliRunner().invoke(cli.app, ["train"]).exit_code == 1


def test_a_missing_module_of_our_own_is_no_missing_extra() -> None:
    assert cli.install_hint(ModuleNotFoundError("no", name="ghostnote.models.nothing"), "train") is None


def test_an_error_has_its_exit_code_where_standard_error_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["ghostnote", "transcribe"])
    monkeypatch.setattr("ghostnote.cli.app", refuse)
    monkeypatch.setattr("sys.stderr", None)  # as Python leaves it for `2>&-`
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == UsageError.exit_code


def refuse(**_: object) -> None:
    raise UsageError("no input")
