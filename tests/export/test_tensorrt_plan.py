"""Plans: NVIDIA's real parser and builder (TensorRT for RTX, no GPU), what stands in the sidecar, what is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from onnx import helper

from ghostnote.export import tensorrt_builder, tensorrt_plan
from ghostnote.export.choices import Precision
from ghostnote.export.errors import CheckError, MissingLibraryError
from ghostnote.export.graph_facts import products_by_type
from ghostnote.export.onnx_export import manifest_of
from ghostnote.export.pipeline import reduce
from ghostnote.export.tensorrt_builder import Graph, Options, Profile, build, load_flavour
from ghostnote.export.tensorrt_plan import PlanReport, build_plan, inspect_plan
from ghostnote.models.checkpoint import Checkpoint
from ghostnote.runtime.engines.cuda_driver import Device, Driver, probe_driver
from ghostnote.runtime.engines.flavours import FLAVOURS, dotted
from ghostnote.runtime.engines.opening import model_file
from ghostnote.runtime.errors import EngineError, InputError, OutputError, UsageError
from ghostnote.runtime.manifest import METADATA_KEY, Manifest

RTX = FLAVOURS["tensorrt-rtx"]
TENSORRT = FLAVOURS["tensorrt"]
NO_GPU = Driver(None, (), "there is no GPU here")
GPU = Driver("13.0", (Device("some GPU", (9, 0)),), None)

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed (extra `dev`, Linux on x86-64)"
)


@pytest.fixture
def graph(tiny_onnx: Path) -> onnx.ModelProto:
    """The tiny model's float32 graph, to be changed."""
    return onnx.load(tiny_onnx)


@pytest.fixture(scope="module")
def report(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> PlanReport:
    """A plan of the tiny model in a folder of its own, with details. Do not change the files."""
    out = tmp_path_factory.mktemp("plan") / "tiny.plan"
    options = Options(workspace_mib=512, detailed=True)
    return build_plan(tiny_onnx, out, "tensorrt-rtx", batch=(1, 2, 4), tokens=(1, 2, 8), options=options)


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return path


def named(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@needs_rtx
def test_a_plan_comes_with_its_sidecar_and_nothing_else(report: PlanReport, tiny_onnx: Path) -> None:
    assert named(report.plan.parent) == ["tiny.plan", "tiny.plan.json"]
    document = json.loads(report.sidecar.read_text())
    record = document["plan"]
    assert (record["flavour"], record["version"]) == ("tensorrt-rtx", report.version)
    assert record["plan_sha256"] == hashlib.sha256(report.plan.read_bytes()).hexdigest()
    assert record["onnx_sha256"] == hashlib.sha256(tiny_onnx.read_bytes()).hexdigest()
    assert record["profiles"] == [{"batch": [1, 2, 4], "tokens": [1, 2, 8]}]
    assert record["compute_capabilities"] == ["8.0", "8.6", "8.9", "12.0", "12.1"]
    assert record["workspace_mib"] == 512
    assert record["seconds"] == pytest.approx(report.parse_seconds + report.build_seconds, abs=0.001)
    assert report.plan_bytes == report.plan.stat().st_size > 100_000
    assert str(report.plan.parent) not in report.sidecar.read_text()


@needs_rtx
def test_the_sidecar_is_a_manifest_that_claims_no_verification(report: PlanReport, tiny: Checkpoint) -> None:
    manifest = Manifest.from_json(report.sidecar.read_text())
    expected = tiny.manifest()
    assert manifest == report.manifest == replace(expected, notes=manifest.notes)
    assert not manifest.verified
    assert "TensorRT for RTX plan was not run where it was built" in manifest.notes[-1]


@needs_rtx
def test_what_the_builder_says(report: PlanReport) -> None:
    said = report.builder
    assert said.network_layers == sum(said.layer_kinds.values()) > 1000
    assert said.products == {"float32": said.layer_kinds["MATRIX_MULTIPLY"] + said.layer_kinds["CONVOLUTION"]}
    assert {"kgen", "gemm"} <= {layer.kind for layer in said.engine_layers}  # kernels, because details were asked for
    assert len(said.engine_layers) < said.network_layers / 10
    assert {element for layer in said.engine_layers for element in layer.elements} <= {"Float", "Int32", "Int64"}
    assert said.memory_bytes["activation"] > said.memory_bytes["weights"] > 0
    stored = json.loads(report.sidecar.read_text())["plan"]["builder"]
    assert stored["products"] == said.products
    assert len(stored["engine_layers"]) == len(said.engine_layers)


@needs_rtx
def test_the_shipped_model_builds(tmp_path: Path) -> None:
    report = build_plan(Path(str(model_file("small"))), tmp_path / "small.plan", "tensorrt-rtx")
    assert named(tmp_path) == ["small.plan", "small.plan.json"]
    assert (report.manifest.name, report.profile) == ("small", Profile())
    assert [layer.kind for layer in report.builder.engine_layers] == ["Myelin"]  # all of it is compiled as one


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "kernels"),
    [(Precision.FP16, "Half"), (Precision.BF16, "BFloat16"), (Precision.INT8, "Int8"), (Precision.FP8, "FP8")],
)
def test_every_precision_builds_and_is_what_kernels_compute_in(
    graph: onnx.ModelProto, tmp_path: Path, precision: Precision, kernels: str
) -> None:
    path = saved(reduce(graph, manifest_of(graph), precision), tmp_path)
    report = build_plan(path, tmp_path / "model.plan", "tensorrt-rtx", options=Options(detailed=True))
    name = precision.manifest_name
    said = {kind: sum(counts.values()) for kind, counts in products_by_type(onnx.load(path)).items()}
    assert said == report.builder.products
    assert said[name] >= 10
    assert said["float32"] > 0  # the front-end
    assert kernels in {element for layer in report.builder.engine_layers for element in layer.elements}
    assert report.manifest.precision == name


@needs_rtx
def test_a_reduced_precision_in_name_only_is_refused(graph: onnx.ModelProto, tmp_path: Path) -> None:
    (entry,) = graph.metadata_props
    entry.value = replace(Manifest.from_json(entry.value), precision="float16").to_json()
    path = saved(graph, tmp_path)
    with pytest.raises(CheckError, match=r"says float16, but no product .* computes in it \(\d+ in float32\)"):
        build_plan(path, tmp_path / "model.plan", "tensorrt-rtx")
    assert named(tmp_path) == ["model.onnx"]


@needs_rtx
def test_every_node_that_the_parser_refuses_is_named(graph: onnx.ModelProto, tmp_path: Path) -> None:
    graph.opset_import.append(helper.make_opsetid("elsewhere", 1))
    first, last = graph.graph.output[0].name, graph.graph.output[-1].name
    for name, kind, domain in ((first, "Swing", "elsewhere"), (last, "StringNormalizer", "")):
        for node in graph.graph.node:
            node.output[:] = [f"{name}_before" if output == name else output for output in node.output]
        graph.graph.node.append(helper.make_node(kind, [f"{name}_before"], [name], f"odd_{name}", domain=domain))
    path = saved(graph, tmp_path)
    out = tmp_path / "model.plan"
    out.write_bytes(b"older")
    with pytest.raises(CheckError) as refused:
        build_plan(path, out, "tensorrt-rtx")
    headline, *lines = str(refused.value).splitlines()
    assert refused.value.exit_code == 3
    assert headline == f"{path}: TensorRT for RTX refuses the graph:"
    assert len(lines) == 2
    assert f"'odd_{first}' (Swing): INVALID_NODE: creator && \"Plugin not found" in lines[0]
    assert f"'odd_{last}' (StringNormalizer): UNSUPPORTED_NODE" in lines[1]
    assert named(tmp_path) == ["model.onnx", "model.plan"]
    assert out.read_bytes() == b"older"


@needs_rtx
def test_types_that_do_not_fit_are_told_without_talk_of_drivers(graph: onnx.ModelProto, tmp_path: Path) -> None:
    product = next(node for node in reversed(graph.graph.node) if node.op_type == "MatMul")
    (weights,) = (tensor for tensor in graph.graph.initializer if tensor.name == product.input[1])
    values = onnx.numpy_helper.to_array(weights).astype("float16")
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    with pytest.raises(CheckError, match=r"\(MatMul\): INVALID_NODE: .*must have same input types") as refused:
        build_plan(saved(graph, tmp_path), tmp_path / "model.plan", "tensorrt-rtx")
    assert "cuda" not in str(refused.value).lower()


@needs_rtx
def test_a_failed_build_gives_the_builders_reason(tiny_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckError, match=r"built no plan: .*workspace"):
        build_plan(tiny_onnx, tmp_path / "model.plan", "tensorrt-rtx", options=Options(workspace_mib=1))
    assert named(tmp_path) == []


@needs_rtx
def test_a_graph_with_fixed_axes_takes_a_profile_that_fits(graph: onnx.ModelProto, tmp_path: Path) -> None:
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    path, out = saved(graph, tmp_path), tmp_path / "model.plan"
    with pytest.raises(UsageError, match=r"axis 0 of input 'audio' is fixed at 2 in the graph, .* asks for 1 to 4"):
        build_plan(path, out, "tensorrt-rtx", batch=(1, 2, 4))
    assert build_plan(path, out, "tensorrt-rtx", batch=(2, 2, 2), tokens=(1, 1, 1)).plan == out


@needs_rtx
def test_inputs_that_the_manifest_does_not_know(graph: onnx.ModelProto, tmp_path: Path) -> None:
    (entry,) = graph.metadata_props
    manifest = Manifest.from_json(entry.value)
    states = {name: shape for name, shape in manifest.states.items() if name != "state_taps"}
    entry.value = replace(manifest, states=states).to_json()
    with pytest.raises(CheckError, match=r"the graph has the inputs .*state_taps"):
        build_plan(saved(graph, tmp_path), tmp_path / "model.plan", "tensorrt-rtx")


@needs_rtx
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # TensorRT for RTX keeps these calls, and does nothing in them
def test_what_only_tensorrt_can_do_is_asked_of_the_module(tiny_onnx: Path, tiny: Checkpoint, tmp_path: Path) -> None:
    trt, cache = load_flavour(RTX, NO_GPU), tmp_path / "timing.cache"
    tuning = replace(RTX, built_for=(), noise=())
    graph = Graph(tiny_onnx, tiny_onnx.read_bytes(), tiny.manifest())
    options = Options(timing_cache=cache, hardware_compatibility="ampere_plus")
    built = build(trt, tuning, graph, Profile(), options)
    assert any("setHardwareCompatibilityLevel() is unsupported" in warning for warning in built.warnings)
    assert named(tmp_path) == ["timing.cache"]
    assert build(trt, tuning, graph, Profile(), options).plan  # with the cache that is there now
    cache.unlink()
    cache.mkdir()
    with pytest.raises(InputError, match=r"timing\.cache: cannot be read"):
        build(trt, tuning, graph, Profile(), options)


@needs_rtx
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_timing_cache_that_cannot_be_written_costs_no_build(
    tiny_onnx: Path, tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt, cache = load_flavour(RTX, NO_GPU), tmp_path / "missing" / "timing.cache"
    tuning = replace(RTX, built_for=(), noise=())
    graph = Graph(tiny_onnx, tiny_onnx.read_bytes(), tiny.manifest())
    options = Options(timing_cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr(trt.Builder, "build_serialized_network", lambda *_: pytest.fail("the build began"))
        with pytest.raises(OutputError, match=r"timing\.cache: cannot be written .*; name a timing cache in a folder"):
            build(trt, tuning, graph, Profile(), options)
    cache.parent.mkdir()

    def full(_aside: Path, out: Path) -> None:
        raise OutputError(f"{out}: cannot be written (no space left on device)")

    monkeypatch.setattr(tensorrt_builder, "put_in_place", full)
    built = build(trt, tuning, graph, Profile(), options)
    assert built.plan
    assert "no timing cache was kept" in built.warnings[-1]
    assert "no space left on device" in built.warnings[-1]
    assert named(cache.parent) == []


def test_a_profile_gives_every_input_three_shapes(tiny: Checkpoint) -> None:
    manifest = tiny.manifest()
    shapes = Profile((1, 2, 4), (1, 3, 50)).shapes(manifest)
    assert shapes["audio"] == [(1, 882), (2, 2646), (4, 44100)]
    assert shapes["delay"] == [(1, 1), (2, 1), (4, 1)]
    assert shapes.keys() == {"audio", "delay", *manifest.states}
    assert shapes["state_audio"][2] == (4, *manifest.states["state_audio"])


@pytest.mark.parametrize(
    "sizes",
    [(0, 1, 2), (-1, 1, 2), (2, 1, 3), (1, 3, 2), (1, 2), (1, 1.5, 2), (True, 1, 2), (1, 1, 65537), (1, 1, 10**20)],
)
@pytest.mark.parametrize("axis", ["batch", "tokens"])
def test_a_bad_profile_is_refused_before_anything_is_done(tmp_path: Path, axis: str, sizes: tuple) -> None:
    with pytest.raises(UsageError, match=rf"^{axis} .*expected MIN,OPT,MAX") as refused:
        build_plan(tmp_path / "no.onnx", tmp_path / "no.plan", "tensorrt-rtx", **{axis: sizes})
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("flavour", "options", "message"),
    [
        ("tensorrt-lean", Options(), "expected one of tensorrt, tensorrt-rtx"),
        ("tensorrt-rtx", Options(timing_cache=Path("cache")), "has no timing cache .* 8.0, 8.6"),
        ("tensorrt-rtx", Options(version_compatible=True), "leave these options out"),
        ("tensorrt-rtx", Options(hardware_compatibility="ampere_plus"), "leave these options out"),
    ],
)
def test_what_a_flavour_does_not_have(tmp_path: Path, flavour: str, options: Options, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_plan(tmp_path / "no.onnx", tmp_path / "no.plan", flavour, options=options)


def test_what_no_builder_can_do() -> None:
    for size in (0, 1 << 44):  # as many bytes are more than a builder can count
        with pytest.raises(UsageError, match=f"a workspace of {size} MiB: expected 1 to 1048576"):
            Options(workspace_mib=size)
    with pytest.raises(UsageError, match="expected one of none, same_compute_capability, ampere_plus"):
        Options(hardware_compatibility="all")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, InputError, "cannot be read"),
        (b"no protobuf \xff\xff", EngineError, "not an ONNX file"),
        (b"", EngineError, f"no '{METADATA_KEY}' metadata"),
    ],
)
def test_files_that_are_not_ours(tmp_path: Path, content: bytes | None, error: type, message: str) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=message):
        build_plan(path, tmp_path / "model.plan", "tensorrt-rtx")


@needs_rtx
def test_an_unwritable_folder_is_found_out_first(tiny_onnx: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tensorrt_plan, "build", lambda *_: pytest.fail("the work began"))
    with pytest.raises(OutputError, match="cannot be written"):
        build_plan(tiny_onnx, tmp_path / "missing" / "model.plan", "tensorrt-rtx")


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=FLAVOURS)
def test_a_module_that_is_not_installed(tiny_onnx: Path, tmp_path: Path, monkeypatch, flavour) -> None:
    missing = replace(flavour, module="no_such_module")
    monkeypatch.setattr(tensorrt_plan, "FLAVOURS", {flavour.name: missing})
    with pytest.raises(MissingLibraryError) as refused:
        build_plan(tiny_onnx, tmp_path / "model.plan", flavour.name)
    assert refused.value.exit_code == 4
    assert str(refused.value) == f"{flavour.product} is not installed (module no_such_module); {flavour.install}"
    assert named(tmp_path) == []


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> str:
    """A module of that source, on the path; its name."""
    name = f"fake_{hashlib.sha256(source.encode()).hexdigest()[:8]}"
    (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    return name


def test_tensorrt_without_a_gpu_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = installed(tmp_path, monkeypatch, "import os; os.abort()")
    with pytest.raises(MissingLibraryError, match="there is no GPU here; run this on a machine with that GPU"):
        load_flavour(replace(TENSORRT, module=module), NO_GPU)


def test_libraries_that_do_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "raise ImportError('libnvinfer.so.11: cannot open shared object file')"
    module = installed(tmp_path, monkeypatch, source)
    with pytest.raises(MissingLibraryError, match=r"libraries do not load \(libnvinfer\.so\.11: .*install TensorRT 11"):
        load_flavour(replace(TENSORRT, module=module), GPU)


def test_a_version_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = installed(tmp_path, monkeypatch, "__version__ = '10.13.2.6'")
    with pytest.raises(MissingLibraryError, match=r"TensorRT 10\.13\.2\.6 is too old, expected 11\.0 or later"):
        load_flavour(replace(TENSORRT, module=module), GPU)


def test_a_builder_that_does_not_start(tiny_onnx: Path, tiny: Checkpoint) -> None:
    def nothing(_log: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    trt = SimpleNamespace(__version__="11.4.0.106", ILogger=object, Builder=nothing)
    graph = Graph(tiny_onnx, b"", tiny.manifest())
    with pytest.raises(MissingLibraryError, match=r"cannot start a builder .*no usable GPU.*nvidia-smi"):
        build(trt, TENSORRT, graph, Profile(), Options())


_KILLED = """
import os, pathlib, signal, sys
from ghostnote.export import tensorrt_plan
folder, steps = pathlib.Path(sys.argv[1]), int(sys.argv[2])

def counted(method):
    def call(*arguments, **named):
        global steps
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps -= 1
        return method(*arguments, **named)
    return call

for name in ("unlink", "replace"):
    setattr(pathlib.Path, name, counted(getattr(pathlib.Path, name)))
plan, sidecar = folder / "model.plan", folder / "model.plan.json"
tensorrt_plan._publish(folder / ".plan", plan, folder / ".sidecar", sidecar)
"""


@pytest.mark.parametrize("older", [False, True], ids=["first", "again"])
def test_killed_between_the_renames_no_plan_stands_without_its_own_sidecar(tmp_path: Path, older: bool) -> None:
    seen = []
    for steps in range(4):
        folder = tmp_path / str(steps)
        folder.mkdir()
        for name in (".plan", ".sidecar"):
            (folder / name).write_text("new")
        for name in ("model.plan", "model.plan.json") if older else ():
            (folder / name).write_text("old")
        done = subprocess.run([sys.executable, "-c", _KILLED, folder, str(steps)], check=False)
        assert done.returncode == (0 if steps == 3 else -9)
        found = [folder / "model.plan", folder / "model.plan.json"]
        seen.append([path.read_text() if path.exists() else None for path in found])
    begin = ["old", "old"] if older else [None, None]
    assert seen == [begin, [None, begin[1]], [None, "new"], ["new", "new"]]


@needs_rtx
def test_a_plan_cannot_be_looked_into_without_a_gpu(report: PlanReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_plan, "probe_driver", lambda: NO_GPU)
    with pytest.raises(MissingLibraryError, match=r"there is no GPU here; what the builder said .*tiny\.plan\.json"):
        inspect_plan(report.plan)


@needs_rtx
def test_a_sidecar_of_another_plan_is_noticed(report: PlanReport, tmp_path: Path) -> None:
    plan, sidecar = tmp_path / "model.plan", tmp_path / "model.plan.json"
    plan.write_bytes(report.plan.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"model\.plan\.json: cannot be read"):
        inspect_plan(plan)
    sidecar.write_bytes(report.sidecar.read_bytes())
    with pytest.raises(EngineError, match="does not describe"):
        inspect_plan(plan)


def test_the_log_is_read_in_both_of_its_forms() -> None:
    plain = (
        "Layer(Myelin): {ForeignNode[a...b]}, Tactic: 0x0, audio (Float[-1,-1]), delay (Int64[-1,1]) -> y (Half[-1,18])"
    )
    detailed = (
        "Name: node_matmul_13_myl0_93, LayerType: gemm, Inputs: [ { Name: x, Datatype: Half, Format: f }], Outputs: []"
    )
    layers = [tensorrt_builder._engine_layer(line) for line in (plain, detailed)]
    assert [layer.kind for layer in layers] == ["Myelin", "gemm"]
    assert [layer.name for layer in layers] == ["{ForeignNode[a...b]}", "node_matmul_13_myl0_93"]
    assert [layer.elements for layer in layers] == [("Float", "Half", "Int64"), ("Half",)]


@pytest.mark.gpu
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_plan_loads_on_the_gpu_that_it_is_for(tiny_onnx: Path, tmp_path: Path, flavour: str) -> None:
    chosen, driver = FLAVOURS[flavour], probe_driver()
    try:
        load_flavour(chosen, driver)
    except MissingLibraryError as error:
        pytest.skip(str(error))
    here = dotted(driver.devices[0].compute_capability) if driver.devices else "none"
    if here not in (chosen.built_for or (here,)) or not driver.devices:
        pytest.skip(f"{chosen.product} has no plans for compute capability {here}")
    report = build_plan(tiny_onnx, tmp_path / "tiny.plan", flavour, options=Options(detailed=True))
    inspected = inspect_plan(report.plan)
    assert len(inspected.layers) > 0
    assert inspected.device_memory_bytes > 0
    assert not report.manifest.verified
