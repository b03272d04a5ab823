"""`ghostnote doctor`: the diagnosis, for people or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .doctor import Diagnosis, Extra, Finding, diagnose
from .terminal import plain

__all__ = ["doctor", "show"]

UNUSABLE = 7  # the exit code of docs/architecture.md for "no engine"


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
) -> None:
    """Try every inference library on this machine; exit code 0 where one of them transcribes, 7 where none does."""
    found = diagnose()
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False))
    else:
        show(found)
    if not found.transcribes:
        raise typer.Exit(UNUSABLE)


def show(found: Diagnosis) -> None:
    """Print the tables, the commands that would add what is missing, and the verdict."""
    console = Console(highlight=False)
    console.print(_machine(found))
    console.print(_engines(found.engines))
    console.print(_extras_table(found.extras))
    fixes = [(engine.name, engine.fix) for engine in found.engines if engine.fix]
    fixes += [(f"extra {extra.name}", extra.fix) for extra in found.extras if extra.fix]
    if fixes:
        optional = " (transcribing works without)" if found.transcribes else ""
        console.print(f"What would add the rest{optional}:")
    for name, fix in fixes:
        console.print(plain(f"  {name}: {fix}"), soft_wrap=True)
    names = [engine.name for engine in found.engines if "run" in engine.can]
    console.print(f"Transcribing works: {'; '.join(names)}." if names else "Transcribing does not work here.")


def _machine(found: Diagnosis) -> Table:
    table = _table("This machine", "", "")
    table.show_header = False
    table.add_row("ghostnote", found.ghostnote)
    table.add_row("Python", found.python)
    table.add_row("platform", plain(found.platform))
    driver = found.driver
    table.add_row("NVIDIA driver", plain(driver.problem or f"supports CUDA {driver.version}"))
    for device in driver.devices:
        major, minor = device.compute_capability
        table.add_row("GPU", plain(f"{device.name}, compute capability {major}.{minor}"))
    return table


def _engines(engines: tuple[Finding, ...]) -> Table:
    table = _table("Inference libraries", "library", "version", "can", "what was done, what is missing")
    for engine in engines:
        texts = [text for text in (engine.detail, engine.problem) if text]
        table.add_row(engine.name, engine.version or "-", ", ".join(engine.can) or "-", plain("; ".join(texts)))
    return table


def _extras_table(extras: tuple[Extra, ...]) -> Table:
    table = _table("Extras", "extra", "installed", "missing")
    for extra in extras:
        versions = ", ".join(f"{name} {version}" for name, version in extra.versions.items())
        table.add_row(extra.name, versions or "-", ", ".join(extra.missing) or "-")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index == 0)
    return table
