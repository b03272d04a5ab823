"""`ghostnote bench`: the suites, each with a card, a table and one line of JSON; the regression gate; the page.

`--out FOLDER` keeps a suite's document as SUITE-MODEL.json; benchmarks/baselines/<device>/ holds such folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..runtime.engines.opening import bundled_models, open_engine, open_engines
from ..runtime.engines.options import PoolThreadsOption, ThreadsOption
from ..runtime.engines.protocol import Engine
from ..runtime.errors import EngineError, UsageError
from ..runtime.number import finite
from .gate.command import compare_builds, compare_stored
from .machine import load_average, machine_card, model_card
from .measuring import GENERATED, Figure, pin_to_one_core
from .options import ClassesOption, EngineOption, OutOption, folder, place
from .result import Result

__all__ = ["bench"]

bench = typer.Typer(
    help="What transcribing costs and how good it is here: suites, a regression gate, the page of figures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench.command("compare")(compare_builds)
bench.command("against")(compare_stored)

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
# By default, of options that a document's title tells otherwise: what is stored was measured with them.
CHUNKS, MEMORY_MINUTES, PARITY_MINUTES, RENDER_S = 1500, 30.0, 2.0, 10.0


@bench.command("latency")
def latency_command(
    engine: EngineOption = None,
    chunks: Annotated[int, typer.Option(min=100, help="Chunks of each size to time.")] = CHUNKS,
    out: OutOption = None,
) -> None:
    """Chunks of a live stream, start of the command, the sum from attack to report; one core, one thread."""
    from .suites.latency import latency

    pin_to_one_core()
    opened = open_engine(engine)
    card = _card(opened, engine)
    figures, series = latency(opened, engine, chunks)
    title = _title("Latency on one core, one thread", f"{chunks} chunks" if chunks != CHUNKS else "")
    _conclude("latency", card, figures, out, title, series)


@bench.command("throughput")
def throughput_command(engine: EngineOption = None, out: OutOption = None) -> None:
    """Cost of a whole file and streams per core; one core, one thread."""
    from .suites.throughput import throughput

    pin_to_one_core()
    opened = open_engine(engine)
    card = _card(opened, engine)
    _conclude("throughput", card, throughput(opened, engine), out, "Throughput of one core, one thread")


@bench.command("memory")
def memory_command(
    engine: EngineOption = None,
    minutes: Annotated[float, typer.Option(min=1, callback=finite, help="Length of the long input.")] = MEMORY_MINUTES,
    out: OutOption = None,
) -> None:
    """Peak memory of the command for one minute and for a long input."""
    from .suites.memory import memory

    opened = open_engine(engine)
    card = _card(opened, engine)
    title = _title("Memory of rt-transcribe", f"{minutes:g} minutes" if minutes != MEMORY_MINUTES else "")
    _conclude("memory", card, memory(engine, opened.manifest.sample_rate, minutes), out, title)


@bench.command("streams")
def streams_command(
    engine: EngineOption = None,
    streams: Annotated[int, typer.Option(min=1, help="Live streams at once.")] = 64,
    seconds: Annotated[float, typer.Option(min=1, callback=finite, help="How long, in real time.")] = 60,
    threads: PoolThreadsOption = None,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, callback=finite, help="How long a ready stream waits for others.")
    ] = 20,
    out: OutOption = None,
) -> None:
    """Many live streams in real time in one process: lateness, cost, and whether each has its own hits."""
    from .suites.streams import streams as run

    opened = open_engines(engine, threads)
    card = _card(opened[0], engine)
    title = f"{streams} live streams for {seconds:g} s, {len(opened)} thread(s), waiting at most {max_wait_ms:g} ms"
    _conclude("streams", card, run(opened, streams, seconds, max_wait_ms), out, title)


@bench.command("endurance")
def endurance_command(
    engine: EngineOption = None,
    hours: Annotated[float, typer.Option(min=0.1, callback=finite, help="Length of the stream.")] = 24,
    out: OutOption = None,
) -> None:
    """Hours of audio through one stream at full speed: memory stays flat, the last hour is as good as the first."""
    from .suites.endurance import endurance

    opened = open_engine(engine)
    card = _card(opened, engine)
    _conclude("endurance", card, endurance(opened, hours), out, f"{hours:g} hours through one stream")


@bench.command("parity")
def parity_command(
    others: Annotated[list[Path], typer.Argument(help="Other forms of the model: .pt, .onnx, .plan.")],
    reference: Annotated[
        Path | None, typer.Option(help="What they are compared with. Default: the bundled one of its name.")
    ] = None,
    threads: ThreadsOption = 1,
    minutes: Annotated[
        float, typer.Option(min=0.1, callback=finite, help="Length of the long stream.")
    ] = PARITY_MINUTES,
    out: OutOption = None,
) -> None:
    """Logits and hits of other forms of a model against a reference, streamed from zero state.

    Ends with exit code 1 where one is further off than its precision may be.
    """
    from .suites.parity import counterpart, parity

    reference = reference or counterpart(others[0])
    if reference is None or reference.suffix != ".pt":
        card = _card(open_engine(reference), reference)
    else:
        card = machine_card() | {"model": reference.name}
    figures = parity(reference, others, threads, 60 * minutes)
    names = ", ".join(path.name for path in others)
    title = _title(f"Parity of {names}", f"{minutes:g} minutes" if minutes != PARITY_MINUTES else "")
    _conclude("parity", card, figures, out, title)
    if any(figure.verdict == "FAIL" for figure in figures):
        raise typer.Exit(1)


@bench.command("accuracy")
def accuracy_command(
    audio: Annotated[Path, typer.Option(help="Recordings; default: the generated set.")] = GENERATED / "audio",
    labels: Annotated[Path, typer.Option(help="Their labels, NAME.txt.")] = GENERATED / "labels",
    engine: EngineOption = None,
    classes: ClassesOption = "five",
    threads: ThreadsOption = 1,
    out: OutOption = None,
) -> None:
    """F against delay and per class on an annotated folder."""
    from ..models.evaluation.opening import streaming_engine_for
    from .suites.accuracy import accuracy

    opened = streaming_engine_for(engine, threads)
    card = _card(opened, engine)
    figures, series = accuracy(opened, audio, labels, classes)
    heard, labelled = audio.resolve(), labels.resolve()
    of = f"{heard.parent.name}/{heard.name}, labels of {labelled.parent.name}/{labelled.name}"
    if (audio, labels) == (GENERATED / "audio", GENERATED / "labels"):
        of = GENERATED.name
    _conclude("accuracy", card, figures, out, f"F at 50 ms, {classes} classes, {of}", series)


@bench.command("training")
def training_command(
    preset: Annotated[str, typer.Option(help="Shape of the model: small, base, large.")] = "base",
    kits: Annotated[Path | None, typer.Option(help="Kits folder; none: synthesised drums.")] = None,
    grooves: Annotated[Path | None, typer.Option(help="Folder of MIDI grooves; none: patterns.")] = None,
    backing: Annotated[Path | None, typer.Option(help="Notes of other instruments.")] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of PyTorch.")] = 1,
    seconds: Annotated[float, typer.Option(min=1, callback=finite, help="How long to render.")] = RENDER_S,
    out: OutOption = None,
) -> None:
    """Hours of audio rendered per minute and training steps per second."""
    from .suites.training import training

    card = machine_card() | {"model": preset}
    sources = {"kits": kits, "grooves": grooves, "backing": backing}
    figures = training(preset, sources, threads, seconds)
    given = [f"{name} {path.resolve().name}" for name, path in sources.items() if path is not None]
    rendered = f"{seconds:g} s of rendering" if seconds != RENDER_S else ""
    _conclude("training", card, figures, out, _title(f"Training `{preset}`, {threads} thread(s)", *given, rendered))


@bench.command("gpu")
def gpu_command(
    out: Annotated[Path, typer.Argument(callback=folder, help="Folder for the documents.")],
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="Checkpoints to step with PyTorch. Default: those of this checkout.")
    ] = None,
    engine: Annotated[list[Path] | None, typer.Option(help="Plans and ONNX files to step as well.")] = None,
    device: Annotated[
        str, typer.Option(help="cuda or cpu; CUDA_VISIBLE_DEVICES chooses one of several GPUs.")
    ] = "cuda",
) -> None:
    """Calls of 1 to 4096 streams and 1 to 8 tokens on a GPU, with copies: latency, streams in real time, limits."""
    import torch

    from ..models.arithmetic import gflop_per_second
    from ..models.checkpoint import load
    from .suites.gpu import device_figures, engine_caller, engine_label, gpu, torch_caller

    checkpoints = checkpoint or sorted(CHECKPOINTS.glob("*.pt"))
    if not (checkpoints or engine):
        raise UsageError(
            "no checkpoints lie beside this installation; name one with --checkpoint, or a plan with --engine"
        )
    stepped = {path: load(path) for path in checkpoints}
    _check_apart({path: f"{loaded.config.name}-pytorch" for path, loaded in stepped.items()})
    _check_apart({path: path.name for path in engine or ()})
    about = _device_name(device)
    limits, rates = device_figures(device)
    for path, loaded in stepped.items():
        card = machine_card() | {"model": f"{loaded.config.name}-pytorch", "weights_sha256": loaded.weights_sha256()}
        card |= {"device": about, "torch": torch.__version__}
        known = rates | {"gflop": gflop_per_second(loaded.streaming_model().config)["total"]}
        label = f"PyTorch, bfloat16{', CUDA graphs' if device.startswith('cuda') else ''}"
        figures, series = gpu(torch_caller(path, device), loaded.manifest(), label, known)
        _conclude("gpu", card, [*limits, *figures], out, f"`{loaded.config.name}` on {about}", series)
    for path in engine or ():
        opened = open_engine(path, device="cuda" if device.startswith("cuda") else "cpu")  # a plan has its GPU
        # With the suffix: a plan lies beside the file that it was built from.
        card = _card(opened, path) | {"model": path.name, "device": about}
        label = engine_label(path, opened.manifest)
        figures, series = gpu(engine_caller(opened), opened.manifest, label, rates)
        _conclude("gpu", card, [*limits, *figures], out, f"{path.name} on {about}", series)
        opened.close()


def _check_apart(names: Mapping[Path, str]) -> None:
    """Raises UsageError where the documents of two files would have one name: the later would replace the earlier."""
    for path, name in names.items():
        if alike := [str(other) for other in names if names[other] == name and other != path]:
            raise UsageError(f"{path} and {alike[0]}: the documents of both would be of {name}; measure one at a time")


def _device_name(device: str) -> str:
    """What PyTorch's `device` is called by its maker. Raises EngineError without a GPU, UsageError for what is none."""
    import torch

    kind, _, number = device.partition(":")
    if kind == "cuda" and number.strip("0"):
        raise UsageError(
            f"--device {device}: plans, ONNX files and the card are of the first GPU that programs see; "
            f"give --device cuda, and choose the GPU with CUDA_VISIBLE_DEVICES={number}"
        )
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EngineError("PyTorch sees no CUDA device here; `ghostnote doctor` says what is missing")
    try:
        torch.zeros(1, device=device)
    except (AssertionError, RuntimeError):
        raise UsageError(f"--device {device}: PyTorch has no such device here; expected cuda or cpu") from None
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


@bench.command("all")
def all_command(
    out: Annotated[
        Path, typer.Argument(callback=folder, help="Folder for the documents, and where the page is made from.")
    ],
    page: Annotated[Path | None, typer.Option(callback=place, help="Write the page here, too.")] = None,
) -> None:
    """What fits into ten minutes on two cores: streams of `small` and training of `base`.

    Then every bundled model's latency, throughput, memory and accuracy. Not endurance (hours), parity and gpu.
    """
    # In processes of their own, and first: the suites after them pin this one to a core.
    _in_process("streams", "--engine", "small", "--seconds", "30", "--out", str(out))
    _in_process("training", "--preset", "base", "--out", str(out))
    for name in bundled_models():
        model = Path(name)
        latency_command(model, out=out)
        throughput_command(model, out=out)
        memory_command(model, out=out)
        accuracy_command(engine=model, out=out)
    if page is not None:
        page_command([out], page)


@bench.command("page")
def page_command(
    folders: Annotated[list[Path], typer.Argument(help="Folders of documents, one per device.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page, .md; pictures go beside it.")],
    readme: Annotated[
        Path | None, typer.Option(help="README whose table is made anew, from the first folder that has all of it.")
    ] = None,
) -> None:
    """The page of figures from kept documents; with matplotlib, pictures too."""
    from .page import write_page

    write_page(folders, out, readme)
    typer.echo(f"wrote {out}")


def _card(engine: Engine, path: Path | None) -> dict[str, Any]:
    return machine_card() | model_card(engine, path)


def _title(what: str, *unusual: str) -> str:
    """With the options that are not those by default: documents of other options are told apart by their titles."""
    return ", ".join([what, *filter(None, unusual)])


def _conclude(
    suite: str,
    card: dict[str, Any],
    figures: Sequence[Figure],
    out: Path | None,
    title: str,
    series: Mapping[str, Any] | None = None,
) -> None:
    card["load_at_end"] = load_average()
    result = Result(suite, card, figures, title, series or {})
    result.show()
    if out is not None:
        result.write(out)


def _in_process(*arguments: str) -> None:
    """A suite in a process of its own. Where it fails, its message stands and its exit code is ours."""
    import subprocess
    import sys

    command = [sys.executable, "-m", "ghostnote.cli", "bench", *arguments]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise typer.Exit(code if code > 0 else 128 - code)  # -N: ended by signal N, which a shell calls 128 + N


if __name__ == "__main__":
    bench()
