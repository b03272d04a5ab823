"""`export-model` and `ghostnote export`: a checkpoint in, verified artifacts out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..runtime.errors import GhostnoteError, OutputError, UsageError
from .choices import Precision, StatePrecision, Target
from .errors import MissingLibraryError
from .tensorrt_builder import BATCH, DEFAULTS, TOKENS, Options, Profile, Range

__all__ = ["export", "main"]

LIBRARIES = ("torch", "onnx", "onnxscript")  # what the extra `export` brings


def _shown(sizes: Range) -> str:
    return ",".join(map(str, sizes))


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
    states: Annotated[
        StatePrecision, typer.Option(help="Of streams' states, with --precision fp16: half the memory and copying.")
    ] = StatePrecision.FP32,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the artifacts. [default: the model's]")] = (
        None
    ),
    verify: Annotated[list[Path] | None, typer.Option(help="Recordings to compare on, too. May be repeated.")] = None,
    batch: Annotated[str, typer.Option(metavar="MIN,OPT,MAX", help="Streams per call of a plan.")] = _shown(BATCH),
    tokens: Annotated[str, typer.Option(metavar="MIN,OPT,MAX", help="Tokens per call of a plan.")] = _shown(TOKENS),
    workspace_mib: Annotated[int | None, typer.Option(help="Memory that the builder of a plan may use.")] = None,
    timing_cache: Annotated[Path | None, typer.Option(help="TensorRT: file that makes a second build fast.")] = None,
    version_compatible: Annotated[bool, typer.Option(help="TensorRT: loads in later 11.x versions, too.")] = False,
    hardware_compatibility: Annotated[
        str, typer.Option(help="TensorRT: none, same_compute_capability or ampere_plus.")
    ] = DEFAULTS.hardware_compatibility,
    detailed: Annotated[bool, typer.Option(help="The plan keeps what its layers are, for profilers.")] = False,
) -> None:
    """Turn a checkpoint into verified ONNX, in reduced precision if asked for, into a plan, or a model repository."""
    needed = LIBRARIES if model.suffix != ".onnx" else ("onnx",)
    for library in needed:
        if importlib.util.find_spec(library) is None:
            raise MissingLibraryError(f"{library} is not installed; pip install 'ghostnote[export]'")
    from .card import show_card, show_parity, show_plan
    from .pipeline import Artifact, GateError, export_model
    from .request import Request, planned

    folder = out or model.parent
    if not folder.is_dir():
        raise OutputError(f"{folder}: cannot be written to, as it is no folder; make it first")
    profile = Profile(_range("--batch", batch), _range("--tokens", tokens))
    options = Options(workspace_mib, timing_cache, version_compatible, hardware_compatibility, detailed)
    request = Request(model, folder, target, precision, states, tuple(verify or ()), profile, options)
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


def _range(option: str, text: str) -> Range:
    try:
        low, preferred, high = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text}: expected MIN,OPT,MAX, three whole numbers") from None
    return low, preferred, high


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
