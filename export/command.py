"""`export-model` and `ghostnote export`: a checkpoint in, a verified ONNX file out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..runtime.errors import GhostnoteError
from .errors import CheckError, MissingLibraryError

if TYPE_CHECKING:
    from .parity import ParityReport

__all__ = ["export", "main"]

LIBRARIES = ("torch", "onnx", "onnxscript")  # what the extra `export` brings


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A .pt file written by `ghostnote train`.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: the checkpoint's name with .onnx.")] = None,
) -> None:
    """Turn a checkpoint into an ONNX file, compare the two over 64 streamed chunks, and keep the file if they agree."""
    for library in LIBRARIES:
        if importlib.util.find_spec(library) is None:
            raise MissingLibraryError(f"{library} is not installed; pip install 'ghostnote[export]'")
    from ..models.checkpoint import load
    from .onnx_export import export_onnx

    path = out or checkpoint.with_suffix(".onnx")
    report = export_onnx(load(checkpoint), path)
    show(report)
    if not report.passed:
        raise CheckError("the exported graph disagrees with PyTorch; nothing was written")
    typer.echo(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


def main() -> None:
    """The console command `export-model`; exits with the codes of docs/architecture.md."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name="export-model")(export)
    try:
        app(prog_name="export-model")
    except GhostnoteError as error:
        typer.echo(f"export-model: {error}", err=True)
        sys.exit(error.exit_code)


def show(report: ParityReport) -> None:
    """Print the parity table and what became of the hits."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Parity with PyTorch, {report.chunks} streamed chunks", title_justify="left")
    for column in ("output", "max |diff|", "mean |diff|", "tolerance", ""):
        table.add_column(column, justify="left" if column == "output" else "right", no_wrap=True)
    for row in report.outputs:
        verdict = "[green]PASS[/green]" if row.passed else "[red]FAIL[/red]"
        table.add_row(row.name, f"{row.max_abs:.1e}", f"{row.mean_abs:.1e}", f"{row.tolerance:.1e}", verdict)
    console = Console()
    console.print(table)
    hits = report.hits
    verdict = "FAIL" if hits.unexplained else "PASS"
    console.print(
        f"hits: {hits.same} of {hits.reference} the same, {hits.ties} decided by a tie, "
        f"{hits.unexplained} different: {verdict}",
        highlight=False,
    )


if __name__ == "__main__":
    main()
