"""Whose commit is recorded: that of the package's own checkout, or none."""

import subprocess
from pathlib import Path

import pytest

from ghostnote.models import revision


def test_a_checkout_of_ours_has_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "theirs" / "site-packages" / "ghostnote"
    package.mkdir(parents=True)
    monkeypatch.setattr(revision, "PACKAGE", package)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert revision.commit() == "unknown"
    commits(tmp_path / "theirs")
    assert revision.commit() == "unknown"  # a virtual environment in somebody else's repository
    commits(package)
    assert len(revision.commit()) == 40
    assert not revision.changed()
    (package / "file").write_text("changed")
    assert revision.changed()


def test_without_git_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert revision.commit() == "unknown"
    assert not revision.changed()


def commits(folder: Path) -> None:
    (folder / "file").write_text("as committed")
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for arguments in (("init", "-q"), ("add", "file"), (*identity, "commit", "-q", "-m", "one")):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
