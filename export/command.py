"""`export-model` and `ghostnote export`: a checkpoint in, verified artifacts out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..runtime.errors import GhostnoteError
from ..runtime.option_groups import flattened
from .errors import MissingLibraryError
from .options import ArtifactOptions, PlanOptions

__all__ = ["export", "main"]

LIBRARIES = ("torch", "onnx", "onnxscript")  # what the extra `export` brings


@flattened
def export(
    model: Annotated[
        Path, typer.Argument(help="A .pt file of `ghostnote train`, or a float32 .onnx file made by this command.")
    ],
    *,
    made: ArtifactOptions,
    plan: PlanOptions,
) -> None:
    """Turn a checkpoint into verified ONNX, in reduced precision if asked for, into a plan, or a model repository."""
    _need_libraries(model)
    from .card import show_card, show_parity, show_plan
    from .pipeline import Artifact, GateError, export_model
    from .request import Request, planned

    folder, recordings = made.folder(model), tuple(made.verify or ())
    request = Request(
        model, folder, made.target, made.precision, made.states, recordings, plan.profile(), plan.builder()
    )
    artifacts: list[Artifact] = []
    show_plan(planned(request))
    try:
        export_model(request, typer.echo, artifacts.append)
    except GateError as error:
        show_parity(error.report, error.precision)
        raise
    finally:
        if artifacts:
            show_card(artifacts, request)
    if not artifacts:
        typer.echo(f"nothing was made: {model} is float32 ONNX already")


def _need_libraries(model: Path) -> None:
    """Raises MissingLibraryError: what to install for this kind of file."""
    for library in LIBRARIES if model.suffix.lower() != ".onnx" else ("onnx",):
        if importlib.util.find_spec(library) is None:
            raise MissingLibraryError(f"{library} is not installed; pip install 'ghostnote[export]'")


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
