"""The wheel, the installed metadata, the links for type checkers."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

TOP_FOLDERS = ("benchmarks", "export", "models", "runtime")
TOP_MODULES = ("__init__.py", "cli.py")


def _requirements(*extras: str) -> set[str]:
    """Names of the distributions that `ghostnote[extras]` asks for directly."""
    names = set()
    for line in importlib.metadata.requires("ghostnote") or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"""extra == ['"](.+?)['"]""", marker)
        if extra is None or extra.group(1) in extras:
            names.add(re.split(r"[\s\[<>=!~(]", requirement.strip())[0].lower().replace("_", "-"))
    return names


@pytest.fixture
def wheel(tree: Path, tmp_path: Path) -> Path:
    """A wheel built without a network from a copy of the tree."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        tree,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = tmp_path.glob("*.whl")
    return built


def test_wheel_holds_every_module_and_the_bundled_model(wheel: Path, tracked: list[Path]) -> None:
    expected = {
        f"ghostnote/{path.as_posix()}"
        for path in tracked
        if path.suffix == ".py" and (path.parts[0] in TOP_FOLDERS or path.as_posix() in TOP_MODULES)
    }
    content = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in content if name.endswith(".py")} == expected
    assert {
        "ghostnote/runtime/assets/base.onnx",
        "ghostnote/runtime/assets/small.onnx",
        "ghostnote/runtime/output/report.html",
        "ghostnote/runtime/serve/page.html",
        "ghostnote/examples/groove.flac",
        "ghostnote/benchmarks/generated/audio/clip-000.ogg",
        "ghostnote/benchmarks/generated/labels/clip-000.txt",
        "ghostnote/py.typed",
    } <= content


def test_wheel_takes_one_name_only(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {re.sub(r"-.*\.dist-info$", ".dist-info", top) for top in tops} == {"ghostnote", "ghostnote.dist-info"}


def test_every_folder_with_modules_is_a_listed_package(root: Path, tracked: list[Path]) -> None:
    listed = set(tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {path.parent for path in tracked if path.suffix == ".py" and path.parts[0] in TOP_FOLDERS}
    assert listed == {"ghostnote", *(".".join(("ghostnote", *folder.parts)) for folder in folders)}


def test_base_install_asks_for_neither_torch_nor_scipy_nor_an_engine() -> None:
    assert _requirements() == {"mido", "numpy", "rich", "soundfile", "soxr", "typer"}
    assert _requirements("cpu") - _requirements() == {"onnxruntime"}
    assert _requirements("gpu") - _requirements() == {"onnxruntime-gpu"}


def test_no_extra_brings_both_engines() -> None:
    metadata = importlib.metadata.metadata("ghostnote")
    for extra in metadata.get_all("Provides-Extra") or []:
        assert not {"onnxruntime", "onnxruntime-gpu"} <= _requirements(extra), extra


def test_links_for_type_checkers_point_into_the_tree(root: Path, tracked: list[Path]) -> None:
    links = root / ".types" / "ghostnote"
    assert {path.name for path in links.iterdir()} == {*TOP_FOLDERS, *TOP_MODULES}
    for link in links.iterdir():
        assert link.readlink() == Path("..", "..", link.name)  # relative: survives a clone anywhere
        assert link.resolve() == root / link.name
        assert link.relative_to(root) in tracked


def test_imports_use_the_package_name(root: Path, tracked: list[Path]) -> None:
    """Ruff bans these too (TID251); this holds where ruff's configuration is edited or silenced by `noqa`."""
    generic = re.compile(rf"^\s*(?:from|import)\s+({'|'.join(TOP_FOLDERS)})\b", re.MULTILINE)
    sources = [path for path in tracked if path.suffix == ".py" and path.parts[0] != ".types"]
    assert [path for path in sources if generic.search((root / path).read_text())] == []


def test_licence_is_apache(root: Path) -> None:
    assert importlib.metadata.metadata("ghostnote")["License-Expression"] == "Apache-2.0"
    assert "Apache License" in (root / "LICENSE").read_text()[:200]


def test_changelog_names_the_version(root: Path) -> None:
    assert f"## {importlib.metadata.version('ghostnote')}" in (root / "CHANGELOG.md").read_text()


def test_lint_holds_in_a_clone_of_any_name(tree: Path, tmp_path: Path) -> None:
    """The root is a package, so that a rule for names of modules would see the folder's name."""
    clone = tree.rename(tmp_path / "Ghostnote-main")
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "."]
    done = subprocess.run(command, cwd=clone, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
