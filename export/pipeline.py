"""`export-model` as a library: stages that are functions, and what composes them.

load -> to_onnx -> check -> verify -> name.onnx
     -> retype or quantise -> check -> verify -> name.fp16.onnx
     -> build_plan -> name.fp16.plan, or write_repository -> name-triton/
"""

from __future__ import annotations

import importlib.resources
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.engines.cuda_driver import probe_driver
from ..runtime.engines.flavours import FLAVOURS, dotted
from ..runtime.engines.onnxruntime_engine import OnnxRuntimeEngine, import_onnxruntime
from ..runtime.engines.plan_profile import PlanProfile
from ..runtime.engines.protocol import Engine
from ..runtime.errors import EngineError, InputError, UsageError
from ..runtime.files import put_in_place, writing, written_aside
from ..runtime.input.audio import read_audio
from ..runtime.manifest import Manifest
from . import onnx_export
from .calibration import activation_peaks
from .choices import Precision, StatePrecision, Target
from .errors import CheckError, MissingLibraryError
from .graph_facts import products_by_type
from .onnxruntime_facts import integer_products, relative_cost
from .parity import TOLERANCES, ParityReport, Trial, check_parity, fitted, save_worst_chunk, trials
from .precision import FORMATS, quantise, retype
from .reference_engine import ReferenceEngine, check_evaluator
from .request import Request
from .tensorrt_builder import Options, load_flavour
from .tensorrt_plan import build_plan
from .triton import write_repository

if TYPE_CHECKING:
    import onnx

    from ..models.checkpoint import Checkpoint
    from ..models.config import FrameGrid

__all__ = [
    "Artifact",
    "GateError",
    "check",
    "export_model",
    "export_onnx",
    "export_onnx_files",
    "export_variant",
    "load",
    "reduce",
    "to_onnx",
    "verify",
]

LONG_S = 600.0  # of the long stream, on engines that are faster than real time
REFERENCE_LONG_S, REFERENCE_REAL_S = 60.0, 10.0  # on ONNX's reference evaluator

KEPT_STATES = ("state_audio", "state_attack")  # the front-end takes logarithms of powers 90 dB apart

Say = Callable[[str], None]


@dataclass(frozen=True)
class Artifact:
    """A file that was written, or was there already, and what is known about it."""

    path: Path
    manifest: Manifest
    products: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # by element type, by operator
    report: ParityReport | None = None
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()


class GateError(CheckError):
    """Parity failed: carries the report, and says where the worst chunk was saved."""

    def __init__(self, message: str, report: ParityReport, precision: str):
        super().__init__(message)
        self.report, self.precision = report, precision


def load(path: Path) -> Checkpoint:
    """A streaming model's checkpoint. Raises InputError for anything else."""
    from ..models.checkpoint import load as load_checkpoint

    return load_checkpoint(path)


def to_onnx(checkpoint: Checkpoint) -> onnx.ModelProto:
    """The float32 graph with its manifest, which says "verified": the file gets its name only once it is."""
    proto = onnx_export.graph_of(checkpoint.streaming_model())
    onnx_export.attach_manifest(proto, replace(checkpoint.manifest(), verified=True))
    return proto


check = onnx_export.check_graph


def reduce(
    proto: onnx.ModelProto, manifest: Manifest, precision: Precision, states: StatePrecision = StatePrecision.FP32
) -> onnx.ModelProto:
    """A float32 graph in reduced precision, with a manifest that says who verified it.

    Raises CheckError where no product would compute in that precision: parts of the graph are known by the names of
    its nodes, and another program may have renamed or joined them.
    """
    name = precision.manifest_name
    halved = [state for state in manifest.states if states is StatePrecision.FP16 and state not in KEPT_STATES]
    if name in FORMATS:
        reduced = quantise(proto, activation_peaks(proto, manifest), name)
    else:
        reduced = retype(proto, name, states=halved)
    if name not in products_by_type(reduced):
        raise CheckError(
            f"no product of this graph would compute in {name}: its nodes do not have the names that export-model "
            "gives them (another program saved it?); give the checkpoint, or the .onnx file as it was exported"
        )
    note = f"hits compared with the float32 graph's, computed in {name} by {precision.computed_by}"
    onnx_export.attach_manifest(
        reduced,
        replace(
            manifest,
            precision=name,
            state_types=dict.fromkeys(halved, "float16"),
            verified=True,
            notes=(*manifest.notes, note),
        ),
    )
    return reduced


def verify(
    reference: Engine, proto: onnx.ModelProto, file: Path, real: Mapping[str, np.ndarray], failed: Path
) -> ParityReport:
    """Streaming parity of a graph (and the file it was written to) with `reference`, computed in the graph's precision.

    Raises GateError, after saving the worst chunk as `failed`; CheckError where the graph does not run.
    """
    manifest = onnx_export.manifest_of(proto)
    fast = Precision.named(manifest.precision).by_onnxruntime
    if not fast:
        real = {name: _loudest(audio, int(REFERENCE_REAL_S * manifest.sample_rate)) for name, audio in real.items()}
    tried = trials(manifest, real, LONG_S if fast else REFERENCE_LONG_S)
    try:
        engine: Engine = OnnxRuntimeEngine(file) if fast else ReferenceEngine(proto, manifest)
        report = _compared(reference, engine, tried, manifest.precision, failed)
        engine.close()
    except EngineError as error:
        raise CheckError(f"the exported graph does not run: {error}") from error
    return report


def _loudest(audio: np.ndarray, samples: int) -> np.ndarray:
    """The part [samples] of a recording [N] with the most energy; all of a shorter one."""
    if len(audio) <= samples:
        return audio
    energy = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    start = int(np.argmax(energy[samples:] - energy[:-samples]))
    return audio[start : start + samples]


def _compared(reference: Engine, engine: Engine, tried: Sequence[Trial], precision: str, failed: Path) -> ParityReport:
    """Parity of an engine in `precision`. Raises GateError, after saving the worst chunk as `failed`."""
    report = check_parity(reference, engine, tried, TOLERANCES[precision])
    if not report.passed:
        with writing(failed):
            save_worst_chunk(reference, engine, tried, failed)
        message = f"the {precision} graph disagrees; nothing was written but its worst chunk, {failed}"
        raise GateError(message, report, precision)
    return report


def export_onnx(checkpoint: Checkpoint, out: Path, real: Mapping[str, np.ndarray] | None = None) -> Artifact:
    """Write the float32 file if it passes the checker and parity with PyTorch; `real` audio [N] by name is tried, too.

    Raises CheckError, GateError; before the work begins, OutputError where `out` cannot be written, MissingLibraryError
    where nothing is there to verify it.
    """
    from ..models.torch_engine import TorchEngine

    _need_onnxruntime()
    begun = time.monotonic()
    with written_aside(out) as aside:
        proto = to_onnx(checkpoint)
        report = _gated(proto, aside, out, TorchEngine.of(checkpoint, exact=True), real)
        put_in_place(aside, out)
    return Artifact(out, onnx_export.manifest_of(proto), products_by_type(proto), report, time.monotonic() - begun)


def export_variant(
    float32: Path,
    out: Path,
    precision: Precision,
    real: Mapping[str, np.ndarray] | None = None,
    *,
    states: StatePrecision = StatePrecision.FP32,
    for_cpu: bool = True,
) -> Artifact:
    """Write a float32 file's graph in reduced precision if its hits are those of the float32 file.

    Raises CheckError, GateError, OutputError, MissingLibraryError; CheckError, too, for int8 that is no faster than
    float32 on this CPU, unless it is not meant for one.
    """
    _need_onnxruntime()
    check_evaluator(precision.manifest_name)
    begun = time.monotonic()
    proto, manifest = onnx_export.read_graph(float32)
    remarks: tuple[str, ...] = ()
    with written_aside(out) as aside:
        reference = OnnxRuntimeEngine(float32)  # before calibration, which needs onnxruntime, too
        reduced = reduce(proto, manifest, precision, states)
        report = _gated(reduced, aside, out, reference, real)
        reference.close()
        if precision is Precision.INT8:
            remarks = _integer_remarks(aside, float32, for_cpu)
        elif not precision.on_cpu:
            remarks = (f"onnxruntime cannot run {precision.manifest_name} on a CPU: this file is for TensorRT",)
        put_in_place(aside, out)
    written = onnx_export.manifest_of(reduced)
    return Artifact(out, written, products_by_type(reduced), report, time.monotonic() - begun, remarks)


def export_model(request: Request, say: Say, keep: Callable[[Artifact], None]) -> None:
    """Make what a request asks for. `say` gets a line per stage, `keep` every artifact as soon as it has its name.

    The ONNX files are there before a plan or a repository is tried; what those raise leaves them alone.
    """
    export_onnx_files(request, say, keep)
    if request.target is Target.AUTO:
        flavour = _flavour_for_this_gpu(request.options, say)
    else:
        flavour = request.target if request.target in FLAVOURS else None
    if flavour:
        keep(_plan(request, flavour, say))
    if request.target is Target.TRITON:
        begun = time.monotonic()
        folder = write_repository(request.graph, request.repository)
        manifest = onnx_export.read_graph(request.graph)[1]
        artifact = Artifact(folder, manifest, seconds=time.monotonic() - begun)
        say(_done(artifact))
        keep(artifact)


def export_onnx_files(request: Request, say: Say, keep: Callable[[Artifact], None]) -> None:
    """The float32 ONNX file, and the one in the precision asked for."""
    if request.from_graph:
        _, manifest = onnx_export.read_graph(request.source)
        if manifest.precision != "float32":
            raise UsageError(f"{request.source} is {manifest.precision}; give the float32 graph, or the checkpoint")
        real = _tried_recordings(request, manifest)
    else:
        checkpoint = load(request.source)
        real = _tried_recordings(request, checkpoint.config)
        artifact = export_onnx(checkpoint, request.float32, real)
        say(_done(artifact))
        keep(artifact)
    if request.precision is not Precision.FP32:
        for_cpu = request.target not in FLAVOURS
        artifact = export_variant(
            request.float32, request.graph, request.precision, real, states=request.states, for_cpu=for_cpu
        )
        say(_done(artifact))
        keep(artifact)


def _flavour_for_this_gpu(options: Options, say: Say) -> str | None:
    """A TensorRT that can build for a GPU of this machine as asked; where there is none, a line says why."""
    driver = probe_driver()
    if driver.problem:
        say(f"no plan: {driver.problem}; --target tensorrt-rtx builds one for RTX GPUs without a GPU")
        return None
    here = dotted(driver.devices[0].compute_capability)
    for name, flavour in FLAVOURS.items():
        if flavour.built_for and here not in flavour.built_for:
            say(f"no plan by {flavour.product}: it is not for compute capability {here}")
            continue
        try:
            options.check(flavour)
            load_flavour(flavour, driver)
        except (UsageError, MissingLibraryError) as error:
            say(f"no plan: {error}")
        else:
            return name
    return None


def _plan(request: Request, flavour: str, say: Say) -> Artifact:
    begun = time.monotonic()
    out = request.plan(flavour)
    compared: list[ParityReport] = []

    def compare(engine: Engine) -> None:
        compared.append(_verify_plan(request, engine, out))

    report = build_plan(
        request.graph,
        out,
        flavour,
        batch=request.profile.batch,
        tokens=request.profile.tokens,
        options=request.options,
        verify=compare if _can_compare(say) else None,
    )
    seconds = time.monotonic() - begun
    say(f"wrote {out} and {out.name}.json in {seconds:.0f} s")
    products = {element: {"products": count} for element, count in report.builder.products.items()}
    layers = f"{report.flavour} {report.version}: {report.builder.network_layers} layers parsed"
    tried = "" if compared else f"; not run here, so not verified: see {out.name}.json"
    remarks = (f"{layers}{tried}", *report.warnings)
    return Artifact(out, report.manifest, products, compared[0] if compared else None, seconds, remarks)


def _can_compare(say: Say) -> bool:
    """Plans are kept, too, where there is nothing to compare them with."""
    try:
        import_onnxruntime()
    except EngineError as error:
        say(f"the plan will not be compared: {error}")
        return False
    return True


def _verify_plan(request: Request, engine: Engine, out: Path) -> ParityReport:
    """Streaming parity of a plan that runs here with the float32 graph. Raises GateError."""
    manifest, profile = engine.manifest, request.profile
    real = _tried_recordings(request, manifest)
    taken = PlanProfile((profile.batch[0], profile.batch[2]), (profile.tokens[0], profile.tokens[2]))
    tried = [fitted(trial, taken) for trial in trials(manifest, real, max(LONG_S, taken.tokens[0] * manifest.token_s))]
    tried = [trial for trial in tried if trial.plan]  # what is shorter than a call of this plan is not tried
    reference = OnnxRuntimeEngine(request.float32)
    report = _compared(reference, engine, tried, manifest.precision, out.with_name(f"{out.name}.failed.npz"))
    reference.close()
    return report


def _done(artifact: Artifact) -> str:
    return f"wrote {artifact.path} in {artifact.seconds:.0f} s"


def _tried_recordings(request: Request, grid: Manifest | FrameGrid) -> dict[str, np.ndarray]:
    """What a request compares on, mono [N] at the model's rate. Raises InputError, also for less than a call."""
    fewest = request.profile.tokens[0] * grid.samples_per_token
    recordings = _recordings(request.recordings, grid.sample_rate)
    for name, audio in [*recordings.items()][1:]:
        if len(audio) < fewest:
            raise InputError(
                f"{name}: {len(audio)} samples at {grid.sample_rate} Hz, expected at least {fewest} "
                f"({1000 * fewest / grid.sample_rate:g} ms), the shortest call; give --verify a longer recording"
            )
    return recordings


def _recordings(paths: tuple[Path, ...], sample_rate: int) -> dict[str, np.ndarray]:
    """The bundled example, then the user's recordings, mono [N] at the model's rate. Raises InputError."""
    with importlib.resources.as_file(importlib.resources.files("ghostnote") / "examples" / "groove.flac") as example:
        names = Counter(path.name for path in paths)
        tried = {f"the bundled {example.name}": example}  # the user may have a recording of that name, too
        tried |= {str(path) if names[path.name] > 1 else path.name: path for path in paths}
        return {name: read_audio(path, sample_rate) for name, path in tried.items()}


def _need_onnxruntime() -> None:
    """Whatever is exported is run before it gets its name. Raises MissingLibraryError: what to install."""
    try:
        import_onnxruntime()
    except EngineError as error:
        raise MissingLibraryError(f"{error} (what is exported is verified by running it)") from error


def _gated(
    proto: onnx.ModelProto, aside: Path, out: Path, reference: Engine, real: Mapping[str, np.ndarray] | None
) -> ParityReport:
    """Check the graph, write it aside, and verify it."""
    check(proto)
    with writing(out):
        aside.write_bytes(proto.SerializeToString(deterministic=True))
    heard = _recordings((), reference.manifest.sample_rate) if real is None else real
    return verify(reference, proto, aside, heard, out.with_name(f"{out.name}.failed.npz"))


def _integer_remarks(path: Path, float32: Path, for_cpu: bool) -> tuple[str, ...]:
    """What an int8 graph is worth on this CPU. Raises CheckError where it is worth nothing and meant for one."""
    ratio = relative_cost(path, float32)
    cost = f"takes {ratio.file:.2f} of float32's CPU time for files, {ratio.live:.2f} for live chunks, on this machine"
    if for_cpu and min(ratio) >= 1:
        raise CheckError(f"int8 {cost}: it would be slower, so it was not written; use fp32, or --target tensorrt-rtx")
    return (f"onnxruntime computes {integer_products(path)} products in integers", cost)
