"""The `ghostnote` command: one name for every tool of the package.

Each subcommand is a function in its own module, and its options live there. A module is imported only when its
subcommand is called, so `ghostnote --help` loads no engine and no torch. What a subcommand lacks is answered with the
line that installs it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperGroup

from . import __version__
from .runtime.errors import GhostnoteError, OutputError

__all__ = ["SUBCOMMANDS", "Subcommand", "app", "install_hint", "main"]


class Subcommand(NamedTuple):
    """Where a subcommand lives, what `ghostnote --help` says about it, and the exit code when a library is missing."""

    module: str
    function: str
    help: str
    missing_exit_code: int = 7


# Exit code 4 is export's own for "cannot be built here"; the others report a missing library as an unusable engine (7).
SUBCOMMANDS: dict[str, Subcommand] = {
    "transcribe": Subcommand("runtime.command", "transcribe", "Audio to drum hits: MIDI, JSON lines, CSV or labels."),
    "serve": Subcommand("runtime.serve.command", "serve", "Serve hits over WebSocket and HTTP, with a live page."),
    "evaluate": Subcommand("models.evaluation.command", "evaluate", "Score an engine against labelled recordings."),
    "robustness": Subcommand(
        "models.evaluation.robustness_command", "robustness", "Score an engine after codecs, rooms, clipping ..."
    ),
    "listen": Subcommand("models.evaluation.listening_command", "listen", "Write a blind listening test as a page."),
    "train": Subcommand("models.training.command", "train", "Train a model on audio rendered on the fly."),
    "render-data": Subcommand("models.data.store_command", "render_data", "Render ahead of training, and keep it."),
    "import-sounds": Subcommand(
        "models.data.packs.command", "import_sounds", "Add others' sounds to what training renders."
    ),
    "label-recordings": Subcommand(
        "models.labelling.command", "label_recordings", "Label recordings by a model, to train on."
    ),
    "preview-data": Subcommand("models.data.preview_command", "preview_data", "Hear and see what training renders."),
    "sweep": Subcommand("models.sweep.command", "sweep", "Search training settings with many short runs."),
    "ablate": Subcommand(
        "models.training.ablation_command", "ablate", "Train without one idea at a time; what each costs."
    ),
    "average": Subcommand("models.averaging", "average", "One checkpoint from several, weight by weight."),
    "calibrate": Subcommand("models.calibration_command", "calibrate", "Choose thresholds on held-out renders."),
    "export": Subcommand(
        "export.command", "export", "Turn a checkpoint into verified ONNX, plans, a Triton repository.", 4
    ),
    "inspect": Subcommand("export.inspection_command", "inspect", "Show what a model, checkpoint or plan holds."),
    "doctor": Subcommand(
        "runtime.doctor_command", "doctor", "What this machine can transcribe with, and what would add more."
    ),
    "bench": Subcommand("benchmarks.command", "bench", "Latency, throughput, memory, accuracy; two builds compared."),
}

# Libraries of the extras, and the extra that is meant where a subcommand does not say so itself. onnxruntime is not
# among them: the engine reports it (missing, or there twice) with its own error.
_EXTRA_OF = {
    "accelerate": "train",
    "fastapi": "serve",
    "fluidsynth": "soundfonts",
    "matplotlib": "eval",
    "mir_eval": "eval",
    "onnx": "export",
    "onnxscript": "export",
    "optuna": "sweep",
    "prometheus_client": "serve",
    "scipy": "eval",
    "torch": "train",
    "uvicorn": "serve",
    "websockets": "serve",
}
_EXTRA_OF_SUBCOMMAND = {
    "ablate": "eval,train",
    "average": "train",
    "calibrate": "train",
    "evaluate": "eval",
    "export": "export",
    "inspect": "export",
    "import-sounds": "soundfonts,train",
    "label-recordings": "train",
    "preview-data": "eval,train",
    "render-data": "train",
    "robustness": "eval,train",
    "sweep": "sweep",
    "train": "train",
}
_EXTRA_OF_BOTH = {("evaluate", "torch"): "eval,train"}  # for checkpoints and renders alone


class _LazyGroup(TyperGroup):
    """A group whose listed commands are stand-ins; the real one is imported once it is called for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, _load(name) if name in SUBCOMMANDS else stand_in, rest

    def invoke(self, ctx: Any) -> Any:
        """Raises OutputError where standard output takes no more; a reader who has seen enough is no error."""
        try:
            return super().invoke(ctx)
        except SystemExit as error:  # rich's answer to a reader who is gone
            if not isinstance(error.__context__, BrokenPipeError):
                raise
        except OSError as error:
            if not _stdout_fails():  # a worker's pipe, say: a bug, to be reported
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python's own flush at exit would fail a second time
            if not isinstance(error, BrokenPipeError):
                raise OutputError(f"standard output: cannot be written ({error.strerror})") from None
        return None


def _stdout_fails() -> bool:
    try:
        os.write(1, b"\n")
    except OSError:
        return True
    return False


app = typer.Typer(
    cls=_LazyGroup,
    name="ghostnote",
    help="Drum transcription, live and over whole catalogues. `ghostnote COMMAND --help` shows a command's options.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"ghostnote {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that stand before the subcommand."""


def _stand_in() -> None:
    """Never called: `_LazyGroup` puts the real command in its place."""


for _name, _subcommand in SUBCOMMANDS.items():
    app.command(_name, help=_subcommand.help)(_stand_in)


def _load(name: str) -> Any:
    """Import a subcommand's module and make a command of its function."""
    subcommand = SUBCOMMANDS[name]
    module = importlib.import_module(f".{subcommand.module}", __package__)
    function: Callable[..., Any] | typer.Typer = getattr(module, subcommand.function)
    if isinstance(function, typer.Typer):  # a group with commands of its own
        return typer.main.get_command(function)
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name, help=function.__doc__ or subcommand.help)(function)
    return typer.main.get_command(single)


def install_hint(error: ModuleNotFoundError, name: str) -> str | None:
    """One line on how to install what subcommand `name` lacks; None for a module that no extra of ours brings."""
    library = (error.name or "").partition(".")[0]
    if library not in _EXTRA_OF:
        return None
    extra = _EXTRA_OF_BOTH.get((name, library)) or _EXTRA_OF_SUBCOMMAND.get(name, _EXTRA_OF[library])
    return f"`{name}` needs {library}, which is not installed; pip install 'ghostnote[{extra}]'"


def main() -> None:
    """Run the `ghostnote` command and exit with the codes of docs/architecture.md."""
    try:
        app(prog_name="ghostnote")
    except GhostnoteError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        name = next((word for word in sys.argv[1:] if word in SUBCOMMANDS), "")
        hint = install_hint(error, name) if name else None
        if hint is None:
            raise
        _fail(hint, SUBCOMMANDS[name].missing_exit_code)


def _fail(message: str, exit_code: int) -> NoReturn:
    typer.echo(f"ghostnote: {message}", err=True)  # nothing where standard error is closed
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
