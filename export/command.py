"""`export-model` and `ghostnote export`: a checkpoint in, verified artifacts out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..runtime.errors import GhostnoteError, OutputError
from .choices import Precision, Target
from .errors import MissingLibraryError

__all__ = ["export", "main"]

LIBRARIES = ("torch", "onnx", "onnxscript")  # what the extra `export` brings


def export(
    model: Annotated[
        Path, typer.Argument(help="A .pt file of `ghostnote train`, or a float32 .onnx file made by this command.")
    ],
    target: Annotated[
        Target, typer.Option(help="auto: ONNX, and a plan where TensorRT can build one for a GPU of this machine.")
    ] = Target.AUTO,
    precision: Annotated[Precision, typer.Option(help="Of the products inside; inputs and outputs stay float32.")] = (
        Precision.FP32
    ),
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the artifacts. [default: the model's]")] = (
        None
    ),
    verify: Annotated[list[Path] | None, typer.Option(help="Recordings to compare on, too. May be repeated.")] = None,
) -> None:
    """Turn a checkpoint into ONNX, in reduced precision if asked for, and keep each file only if its hits are right."""
    needed = LIBRARIES if model.suffix != ".onnx" else ("onnx",)
    for library in needed:
        if importlib.util.find_spec(library) is None:
            raise MissingLibraryError(f"{library} is not installed; pip install 'ghostnote[export]'")
    from .card import show_card, show_parity, show_plan
    from .pipeline import GateError, Request, export_onnx_files, planned

    folder = out or model.parent
    if not folder.is_dir():
        raise OutputError(f"{folder}: cannot be written to, as it is no folder; make it first")
    request = Request(model, folder, target, precision, tuple(verify or ()))
    show_plan(planned(request))
    try:
        artifacts = export_onnx_files(request, typer.echo)
    except GateError as error:
        show_parity(error.report, error.precision)
        raise
    show_card(artifacts)


def main() -> None:
    """The console command `export-model`; exits with the codes of docs/architecture.md."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name="export-model")(export)
    try:
        app(prog_name="export-model")
    except GhostnoteError as error:
        typer.echo(f"export-model: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
