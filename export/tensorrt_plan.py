"""One ONNX graph of ours to one TensorRT plan and its sidecar, for both of NVIDIA's builders.

Neither flavour loads the other's plans, and a plan holds no word of ours. So it never goes without `NAME.plan.json`:
the manifest, and under the key "plan" who built it from what, for which machine and which shapes.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..runtime.engines.cuda_driver import Driver, probe_driver
from ..runtime.engines.flavours import FLAVOURS, Flavour, dotted
from ..runtime.engines.plan_file import start_plan
from ..runtime.engines.protocol import Engine
from ..runtime.engines.sidecar import RECORD, Sidecar, read_sidecar, sidecar_of, this_platform
from ..runtime.engines.tensorrt_runtime import start_runtime
from ..runtime.errors import EngineError, InputError, UsageError
from ..runtime.files import put_in_place, writing, written_aside
from ..runtime.manifest import Manifest
from .errors import CheckError, MissingLibraryError
from .tensorrt_builder import (
    BATCH,
    DEFAULTS,
    TOKENS,
    BuilderReport,
    Built,
    Graph,
    Options,
    Profile,
    Range,
    build,
    collector,
    load_flavour,
)

__all__ = ["EngineReport", "PlanReport", "build_plan", "inspect_plan"]


@dataclass(frozen=True)
class PlanReport:
    """A plan that was built and written. `manifest` is the sidecar's; seconds are wall-clock time."""

    plan: Path
    sidecar: Path
    flavour: str
    version: str
    manifest: Manifest
    profile: Profile
    plan_bytes: int
    parse_seconds: float
    build_seconds: float
    builder: BuilderReport
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class EngineReport:
    """What the engine inspector says of a plan: its layers (names; with `detailed`, objects) and activation memory."""

    layers: tuple[Any, ...]
    device_memory_bytes: int


def build_plan(
    onnx_path: Path,
    out: Path,
    flavour: str,
    *,
    batch: Range = BATCH,
    tokens: Range = TOKENS,
    options: Options = DEFAULTS,
    verify: Callable[[Engine], None] | None = None,
) -> PlanReport:
    """Build `out` from an ONNX file of ours, and write `out`.json beside it; neither appears if anything fails.

    Where the plan can run here, `verify` is given it as an engine, and raises CheckError if it computes what it should
    not. Else the sidecar says `verified: false` and why. Raises UsageError (profile, options, flavour), InputError and
    EngineError (the ONNX file), MissingLibraryError (library, GPU), OutputError, and CheckError where the parser
    refuses the graph, no plan can be built, no product would compute in the precision of the manifest, or it fails.
    """
    if flavour not in FLAVOURS:
        raise UsageError(f"TensorRT flavour '{flavour}': expected one of {', '.join(FLAVOURS)}")
    chosen, profile = FLAVOURS[flavour], Profile(batch, tokens)
    options.check(chosen)
    graph = _read_graph(onnx_path)
    driver = probe_driver()
    trt = load_flavour(chosen, driver)
    with _published(out) as write:
        built = build(trt, chosen, graph, profile, options)
        record = _record(built, chosen, trt, driver, profile, options, graph)
        manifest = _tried(Path(out.name), Sidecar(graph.manifest, record), built.plan, driver, verify)
        write(built.plan, manifest.to_dict() | {RECORD: record})
    return _report(out, chosen, trt, manifest, profile, built)


def inspect_plan(plan: Path) -> EngineReport:
    """Load a plan of `build_plan` and ask the engine inspector about it. Needs the GPU that the plan is for.

    Without a GPU no plan can be loaded, by either flavour; what the builder said is in the sidecar under "plan",
    "builder". Raises MissingLibraryError (library, GPU), InputError (no file), EngineError (not ours, not loadable).
    """
    data, record = _read_plan(plan)
    flavour, driver = FLAVOURS[record["flavour"]], probe_driver()
    if driver.problem:
        raise MissingLibraryError(
            f"{plan}: a plan can only be loaded where there is a GPU, and {driver.problem}; "
            f"what the builder said of it is in {sidecar_of(plan)} under plan, builder"
        )
    trt = load_flavour(flavour, driver)
    log = collector(trt, flavour)
    # Version-compatible plans carry code of their own for the host; this one was made here.
    runtime = start_runtime(trt, flavour, log, host_code=record.get("version_compatible") is True)
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        here = driver.devices[0]
        raise EngineError(
            f"{plan} does not load: built by {flavour.product} {record['version']} for compute capability "
            f"{', '.join(record['compute_capabilities'])}; here are {trt.__version__} and {here.name} "
            f"({dotted(here.compute_capability)}); build it here. {log.last_errors()}"
        )
    inspector = engine.create_engine_inspector()
    information = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return EngineReport(tuple(information["Layers"]), engine.device_memory_size_v2)


def _read_graph(path: Path) -> Graph:
    """The bytes and the manifest of an ONNX file of ours. Raises InputError, EngineError, MissingLibraryError."""
    try:
        from .onnx_export import read_graph

        manifest = read_graph(path)[1]
    except ModuleNotFoundError as error:
        raise MissingLibraryError(f"{error.name} is not installed; pip install 'ghostnote[export]'") from error
    return Graph(path, path.read_bytes(), manifest)


def _read_plan(path: Path) -> tuple[bytes, dict[str, Any]]:
    """A plan and its sidecar's record, which belong together. Raises InputError, EngineError."""
    record = read_sidecar(path).record
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if record.get("flavour") not in FLAVOURS or record.get("plan_sha256") != hashlib.sha256(data).hexdigest():
        raise EngineError(f"{sidecar_of(path)} does not describe {path}; build the plan again")
    return data, record


def _tried(
    name: Path, sidecar: Sidecar, plan: bytes, driver: Driver, verify: Callable[[Engine], None] | None
) -> Manifest:
    """The manifest of a plan: verified, if it can run here and `verify` finds nothing. Raises CheckError."""
    reason = driver.problem or "building does not run it"
    if verify and not driver.problem:
        try:
            opened = start_plan(name, sidecar, plan)
        except EngineError as error:
            reason = str(error).partition(";")[0]  # what is wrong, without what to do about it
        else:
            return _verified(opened, sidecar.manifest, verify)
    product = FLAVOURS[sidecar.record["flavour"]].product
    note = f"this {product} plan was not run where it was built: {reason}"
    return _noted(sidecar.manifest, note, verified=False)


def _verified(opened: Engine, manifest: Manifest, verify: Callable[[Engine], None]) -> Manifest:
    """The manifest of a plan that `verify` finds nothing wrong with. Raises CheckError."""
    try:
        verify(opened)
        return _noted(
            manifest, f"hits compared with the float32 graph's, computed by {opened.describe()}", verified=True
        )
    except EngineError as error:
        raise CheckError(f"the plan loads, but does not run: {error}") from error
    finally:
        opened.close()


def _noted(manifest: Manifest, note: str, *, verified: bool) -> Manifest:
    return replace(manifest, verified=verified, notes=(*manifest.notes, note))


def _record(
    built: Built, flavour: Flavour, trt: Any, driver: Driver, profile: Profile, options: Options, graph: Graph
) -> dict[str, Any]:
    """What the sidecar says under "plan": what decides whether this plan loads somewhere, and where it came from."""
    gpu = driver.devices[0] if driver.devices else None
    here = [dotted(gpu.compute_capability)] if gpu else []
    return {
        "flavour": flavour.name,
        "version": trt.__version__,
        "compute_capabilities": list(flavour.built_for) or here,
        "hardware_compatibility": options.hardware_compatibility,
        "version_compatible": options.version_compatible,
        "built_on": {
            "platform": this_platform(),
            "gpu": gpu.name if gpu else None,
            "driver_cuda": driver.version,
        },
        "profiles": [asdict(profile)],
        "workspace_mib": options.workspace_mib,
        "detailed": options.detailed,
        "plan_sha256": hashlib.sha256(built.plan).hexdigest(),
        "onnx_sha256": hashlib.sha256(graph.data).hexdigest(),
        "ghostnote": __version__,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seconds": round(built.parse_seconds + built.build_seconds, 3),
        "builder": asdict(built.report),
    }


def _report(out: Path, flavour: Flavour, trt: Any, manifest: Manifest, profile: Profile, built: Built) -> PlanReport:
    return PlanReport(
        plan=out,
        sidecar=sidecar_of(out),
        flavour=flavour.name,
        version=trt.__version__,
        manifest=manifest,
        profile=profile,
        plan_bytes=len(built.plan),
        parse_seconds=built.parse_seconds,
        build_seconds=built.build_seconds,
        builder=built.report,
        warnings=built.warnings,
    )


@contextmanager
def _published(plan: Path) -> Iterator[Callable[[bytes, Mapping[str, Any]], None]]:
    """What writes a plan and its sidecar's document; that they can be written is known before. Raises OutputError."""
    sidecar = sidecar_of(plan)
    with written_aside(plan) as plan_aside, written_aside(sidecar) as sidecar_aside:

        def write(data: bytes, document: Mapping[str, Any]) -> None:
            with writing(plan):
                plan_aside.write_bytes(data)
            with writing(sidecar):
                sidecar_aside.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            _publish(plan_aside, plan, sidecar_aside, sidecar)

        yield write


def _publish(plan_aside: Path, plan: Path, sidecar_aside: Path, sidecar: Path) -> None:
    """Give both files their names so that a plan never stands without its own sidecar, even if this is killed.

    An older plan goes first, because the new sidecar does not describe it; a sidecar alone is no artifact.
    """
    with writing(plan):
        plan.unlink(missing_ok=True)
    put_in_place(sidecar_aside, sidecar)
    put_in_place(plan_aside, plan)
