"""GitHub's workflows: valid by GitHub's own schema, and doing what a developer can do with `make`."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from ghostnote.benchmarks.result import Result

WORKFLOWS = sorted((Path(__file__).parents[2] / ".github" / "workflows").glob("*.yml"))


def test_there_are_workflows_for_all_that_is_promised() -> None:
    assert {path.stem for path in WORKFLOWS} == {"benchmarks", "ci", "gpu", "release"}


def test_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*command, *map(str, WORKFLOWS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_linted() -> None:
    linter = Path(sysconfig.get_path("scripts")) / "zizmor"
    done = subprocess.run([linter, "--offline", *WORKFLOWS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_make_targets_exist(path: Path, root: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([\w-]+)", path.read_text())) <= targets


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_job_ends_and_none_has_more_rights_than_it_says(path: Path) -> None:
    text = path.read_text()
    assert text.count("runs-on:") == text.count("timeout-minutes:")
    assert re.search(r"^permissions:\n  contents: read\n", text, re.MULTILINE)


def test_a_change_is_compared_with_what_it_was_merged_into(root: Path) -> None:
    """A pull request is checked out merged into its branch as that is now; the event's `base.sha` may be older."""
    text = (root / ".github" / "workflows" / "benchmarks.yml").read_text()
    assert "make compare BASE=HEAD^1 HEAD=HEAD" in text
    assert "base.sha" not in text


def test_a_device_without_a_baseline_is_said_and_fails_nothing(root: Path, tmp_path: Path) -> None:
    text = (root / ".github" / "workflows" / "gpu.yml").read_text()
    conditions = re.findall(r"if: hashFiles\('(.+?)'\) ([!=]=) ''\n\s+run: (.+(?:\n {10}.+)*)", text)
    (stored, there, held), (same, missing, said) = conditions
    assert (stored, there, missing) == (same, "!=", "==")
    assert held.startswith("make against")
    assert "::warning" in said
    kept = Result("gpu", {"model": "base-pytorch"}, []).write(tmp_path / "benchmarks" / "baselines" / "device")
    assert kept in tmp_path.glob(stored)


def test_what_users_write_reaches_no_shell(root: Path) -> None:
    """Titles, branch names and the like of a pull request are anybody's text; they come as environment variables."""
    for path in WORKFLOWS:
        for script in re.findall(r"run: (?:\|\n((?:\s{10,}.*\n)+)|(.*))", path.read_text()):
            assert "${{" not in "".join(script), path


def test_the_installed_environment_is_named_as_the_system_writes_paths(root: Path, tmp_path: Path) -> None:
    """Bash on Windows has paths of its own (/d/a): in GITHUB_PATH they name nothing, and another Python runs."""
    lines = (root / ".github" / "workflows" / "ci.yml").read_text().splitlines()
    (line,) = (line.strip() for line in lines if "GITHUB_PATH" in line)
    assert "$PWD" not in line
    command, _, _ = line.partition(" >> ")
    environment = {"PATH": str(Path(sys.executable).parent)}
    done = subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert Path(done.stdout.strip()) == tmp_path / "installed" / "bin"
