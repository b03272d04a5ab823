"""NVIDIA's two builders of plans, behind one function: `tensorrt` and `tensorrt_rtx` have nearly the same Python API.

`tensorrt` is the data-centre product: it times kernels on a GPU and builds for that GPU. `tensorrt-rtx` is TensorRT for
RTX GPUs: it compiles without any GPU, for a range of them. Networks are strongly typed: products compute in the types
that the ONNX graph says, and the builder has no say in that.

Letters: B streams, T tokens per call. Functions take the module as `trt`. A failure there is None or False with lines
in the log, so everything that can fail is asked, and the log's last errors become the exception's text.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..runtime.engines.cuda_driver import Driver
from ..runtime.engines.flavours import Flavour, dotted
from ..runtime.errors import InputError, OutputError, UsageError
from ..runtime.files import put_in_place, writing, written_aside
from ..runtime.manifest import Manifest
from ..runtime.streams.stream import FILE_TOKENS_PER_CALL
from .choices import LARGEST_AXIS
from .errors import CheckError, MissingLibraryError

__all__ = [
    "BATCH",
    "DEFAULTS",
    "HARDWARE_COMPATIBILITY",
    "TENSORRT_ALONE",
    "TOKENS",
    "BuilderReport",
    "Built",
    "EngineLayer",
    "Graph",
    "Options",
    "Profile",
    "Range",
    "build",
    "changed",
    "collector",
    "load_flavour",
]

Range = tuple[int, int, int]  # smallest, the one to be fastest at, largest

BATCH: Range = (1, 1, 32)
TOKENS: Range = (1, 1, FILE_TOKENS_PER_CALL)  # live calls are the ones in a hurry

MOST_WORKSPACE_MIB = 1 << 20  # more than any GPU has; builders overflow far beyond
HARDWARE_COMPATIBILITY = ("none", "same_compute_capability", "ampere_plus")
TENSORRT_ALONE = ("timing_cache", "version_compatible", "hardware_compatibility")  # of `Options`

_PRODUCTS = ("MATRIX_MULTIPLY", "CONVOLUTION", "EINSUM")
_VIEWS = ("SHUFFLE", "SLICE", "IDENTITY", "SQUEEZE", "UNSQUEEZE")  # layers that pass values on in another shape
_ELEMENTS = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "FP8": "float8"}  # the manifest's names
_MEMORY = re.compile(
    r"(?:Total|Max) (Host Persistent|Device Persistent|Scratch|Activation|Weights) Memory: (\d+) bytes"
)
# How the log lists the layers of an engine: what it starts with, and a line of it, plain and detailed.
_LISTINGS = ("Engine Layer Information:", "Layers:")
_LAYER = re.compile(r"Layer\((?P<kind>.*?)\): (?P<name>.*?), Tactic|Name: (?P<Name>.*?), LayerType: (?P<Kind>.*?),")
_LAYER_ELEMENT = re.compile(r"Datatype: (\w+)|\((\w+)\[")


@dataclass(frozen=True)
class Profile:
    """The shapes that a plan takes, and those that it is tuned to. Raises UsageError for ranges that make no sense."""

    batch: Range = BATCH
    tokens: Range = TOKENS

    def __post_init__(self) -> None:
        for name, sizes in (("batch", self.batch), ("tokens", self.tokens)):
            whole = len(sizes) == 3 and all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
            if not whole or not 1 <= sizes[0] <= sizes[1] <= sizes[2] <= LARGEST_AXIS:
                raise UsageError(
                    f"{name} {','.join(map(str, sizes))}: expected MIN,OPT,MAX, integers with "
                    f"1 <= MIN <= OPT <= MAX <= {LARGEST_AXIS}"
                )

    def shapes(self, manifest: Manifest) -> dict[str, list[tuple[int, ...]]]:
        """Smallest, preferred and largest shape of every input of the graph."""
        shapes: dict[str, list[tuple[int, ...]]] = {
            "audio": [
                (streams, tokens * manifest.samples_per_token)
                for streams, tokens in zip(self.batch, self.tokens, strict=True)
            ],
            "delay": [(streams, 1) for streams in self.batch],
        }
        states = {name: [(streams, *shape) for streams in self.batch] for name, shape in manifest.states.items()}
        return shapes | states


@dataclass(frozen=True)
class Options:
    """What may be asked of a builder, some of it of TensorRT alone. Raises UsageError for what none can do."""

    workspace_mib: int | None = None  # None: all of the GPU's memory
    timing_cache: Path | None = None  # read if it is there, written back; makes a second build fast
    version_compatible: bool = False  # loads in later versions of the same major version, too
    hardware_compatibility: str = "none"  # one of HARDWARE_COMPATIBILITY
    detailed: bool = False  # the plan keeps what its layers are, for `inspect_plan` and profilers

    def __post_init__(self) -> None:
        if self.workspace_mib is not None and not 1 <= self.workspace_mib <= MOST_WORKSPACE_MIB:
            raise UsageError(f"a workspace of {self.workspace_mib} MiB: expected 1 to {MOST_WORKSPACE_MIB} (1 TiB)")
        if self.hardware_compatibility not in HARDWARE_COMPATIBILITY:
            known = ", ".join(HARDWARE_COMPATIBILITY)
            raise UsageError(f"hardware compatibility '{self.hardware_compatibility}': expected one of {known}")

    def check(self, flavour: Flavour) -> None:
        """Raises UsageError for what this flavour does not have."""
        if not flavour.needs_gpu and not set(TENSORRT_ALONE).isdisjoint(changed(self)):
            raise UsageError(
                f"{flavour.product} has no timing cache and no compatibility levels: its plans are for all GPUs with "
                f"compute capability {', '.join(flavour.built_for)}; leave these options out"
            )


DEFAULTS = Options()


def changed(settings: Profile | Options) -> list[str]:
    """Names of what is not as it is by default."""
    return [field.name for field in fields(settings) if getattr(settings, field.name) != field.default]


@dataclass(frozen=True)
class EngineLayer:
    """What is left of many layers after fusion: its name, kind, and the element types that it reads and writes."""

    name: str
    kind: str
    elements: tuple[str, ...]


@dataclass(frozen=True)
class BuilderReport:
    """What a builder says without running anything.

    The parsed network: number of layers, how many of which kind, and how many products (of matrices, convolutions)
    compute in which element type (a dequantised one counts as what it was quantised to). The engine, as its log tells:
    what is left after fusion (mostly one compiled whole; with `Options.detailed` its kernels), and bytes of memory by
    use at the profile's largest shapes.
    """

    network_layers: int
    layer_kinds: Mapping[str, int]
    products: Mapping[str, int]
    engine_layers: tuple[EngineLayer, ...]
    memory_bytes: Mapping[str, int]


def load_flavour(flavour: Flavour, driver: Driver) -> Any:
    """The builder's module. Raises MissingLibraryError, which says what is missing and how to get it."""
    if importlib.util.find_spec(flavour.module) is None:
        raise MissingLibraryError(f"{flavour.product} is not installed (module {flavour.module}); {flavour.install}")
    # Before the import: without a driver some of TensorRT's calls end the process instead of raising.
    if flavour.needs_gpu and driver.problem:
        raise MissingLibraryError(
            f"{flavour.product} builds a plan on the GPU that is to run it, and {driver.problem}; run this on a "
            "machine with that GPU (all it needs is the ONNX file), or build for RTX GPUs with tensorrt-rtx instead"
        )
    try:
        trt = importlib.import_module(flavour.module)
    except (ImportError, OSError) as error:
        raise MissingLibraryError(
            f"{flavour.product} is installed, but its libraries do not load ({error}); {flavour.install}"
        ) from error
    version = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if version < flavour.oldest:
        oldest = dotted(flavour.oldest)
        raise MissingLibraryError(
            f"{flavour.product} {trt.__version__} is too old, expected {oldest} or later; {flavour.install}"
        )
    return trt


@dataclass(frozen=True)
class Graph:
    """An ONNX file of ours: where it is from, its bytes, its manifest."""

    path: Path
    data: bytes
    manifest: Manifest


@dataclass(frozen=True)
class Built:
    """A plan in memory and what became known while building it."""

    plan: bytes
    parse_seconds: float
    build_seconds: float
    report: BuilderReport
    warnings: tuple[str, ...]


def build(trt: Any, flavour: Flavour, graph: Graph, profile: Profile, options: Options) -> Built:
    """Parse a graph and build a plan from it. Raises what `build_plan` says, except for files."""
    return _Build(trt, flavour, graph, profile, options).run()


class _Build:
    """One run of a builder. Holds what NVIDIA's objects refer to without keeping it alive."""

    def __init__(self, trt: Any, flavour: Flavour, graph: Graph, profile: Profile, options: Options):
        self.trt, self.flavour, self.graph, self.profile, self.options = trt, flavour, graph, profile, options
        self.subject = f"{graph.path}: {flavour.product}"
        self.log = collector(trt, flavour)
        self.builder = _make_builder(trt, flavour, self.log)

    def run(self) -> Built:
        """Parse, check, build. Raises CheckError, UsageError; InputError and OutputError for the timing cache."""
        begun = time.monotonic()
        network = self.builder.create_network()
        parser = self.trt.OnnxParser(network, self.log)  # owns the weights: must live until the plan is built
        if not parser.parse(self.graph.data, str(self.graph.path)):
            raise CheckError(f"{self.subject} refuses the graph:{_refusals(parser, self.flavour)}")
        products = _count_products(network)
        self._check_precision(products)
        parsed = time.monotonic()
        config = self._configure(network)
        cache = self._start_timing_cache(config)
        plan = self.builder.build_serialized_network(network, config)
        if plan is None:
            raise CheckError(f"{self.subject} built no plan: {self.log.last_errors()}")
        built = time.monotonic()
        unkept = () if cache is None else self._keep_timing_cache(cache)
        layers = [network.get_layer(i) for i in range(network.num_layers)]
        kinds = Counter(layer.type.name for layer in layers)
        report = BuilderReport(
            len(layers), dict(kinds.most_common()), products, self.log.engine_layers(), self.log.memory_bytes()
        )
        return Built(bytes(plan), parsed - begun, built - parsed, report, (*self.log.warnings(), *unkept))

    def _check_precision(self, products: Mapping[str, int]) -> None:
        """A "half" plan that computes in float32 is what users of other exporters complain about most."""
        if self.graph.manifest.precision not in products:
            found = ", ".join(f"{count} in {element}" for element, count in products.items()) or "there are none"
            raise CheckError(
                f"{self.graph.path}: the manifest says {self.graph.manifest.precision}, but no product of the parsed "
                f"network computes in it ({found}); export the graph again"
            )

    def _configure(self, network: Any) -> Any:
        """The builder's configuration, with one optimisation profile."""
        trt, options = self.trt, self.options
        config = self.builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # on unless told otherwise: float32 products with 10 bits of mantissa
        for flag in self.flavour.flags:
            config.set_flag(trt.BuilderFlag.__members__[flag])
        if options.workspace_mib is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if options.hardware_compatibility != "none":
            levels = trt.HardwareCompatibilityLevel.__members__
            config.hardware_compatibility_level = levels[options.hardware_compatibility.upper()]
        if options.detailed:
            config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        ranges = self.builder.create_optimization_profile()
        shapes = self.profile.shapes(self.graph.manifest)
        inputs = {tensor.name: tensor for tensor in map(network.get_input, range(network.num_inputs))}
        if inputs.keys() != shapes.keys():
            raise CheckError(
                f"{self.graph.path}: the graph has the inputs {sorted(inputs)}, its manifest describes "
                f"{sorted(shapes)}; export the model again"
            )
        for name, tensor in inputs.items():
            _check_fixed_axes(name, tuple(tensor.shape), shapes[name])
            ranges.set_shape(name, *shapes[name])
        if config.add_optimization_profile(ranges) < 0:
            raise CheckError(f"{self.subject} refuses the profile: {self.log.last_errors()}")
        return config

    def _start_timing_cache(self, config: Any) -> Any:
        """A timing cache that the builder reads and fills, or None. That it can be written is known afterwards."""
        path = self.options.timing_cache
        if path is None:
            return None
        _check_place(path)
        try:
            stored = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
        cache = config.create_timing_cache(stored)
        if cache is None or not config.set_timing_cache(cache, False):  # False: no cache of another GPU
            raise UsageError(
                f"{path}: a timing cache of another GPU or version, or none at all; name another file, or delete it. "
                f"{self.log.last_errors()}"
            )
        return cache

    def _keep_timing_cache(self, cache: Any) -> tuple[str, ...]:
        """Write the cache; a failure is a warning, because the plan that was built is good."""
        path = self.options.timing_cache
        assert path is not None
        try:
            with written_aside(path) as aside:
                with writing(path):
                    aside.write_bytes(bytes(cache.serialize()))
                put_in_place(aside, path)
        except OutputError as error:
            return (f"no timing cache was kept, so that a second build takes as long: {error}",)
        return ()


def _check_place(timing_cache: Path) -> None:
    """Raises OutputError where the cache could not be written, which would be found after a long build else."""
    try:
        with written_aside(timing_cache):
            pass
    except OutputError as error:
        raise OutputError(f"{error}; name a timing cache in a folder that can be written, or none") from error


def collector(trt: Any, flavour: Flavour) -> Any:
    """A logger that keeps what is worth telling. Its class can only be made once the module is there."""

    class Collector(trt.ILogger):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[tuple[str, str]] = []

        def log(self, severity: Any, msg: str) -> None:
            # Ten thousand verbose lines per build; one of them lists the layers of the engine.
            if severity != trt.ILogger.VERBOSE or msg.startswith(_LISTINGS):
                self.lines.append((severity.name, msg))

        def last_errors(self) -> str:
            """The last error lines, in one line."""
            errors = self._worth_telling("ERROR", "INTERNAL_ERROR")[-3:]
            return "; ".join(" ".join(text.split()) for text in errors) or "no reason was logged"

        def warnings(self) -> tuple[str, ...]:
            return tuple(dict.fromkeys(self._worth_telling("WARNING")))

        def engine_layers(self) -> tuple[EngineLayer, ...]:
            """The layers of the engine; none where the version does not log them."""
            listings = [text for _, text in self.lines if text.startswith(_LISTINGS)]
            return tuple(_engine_layer(line) for text in listings for line in text.splitlines() if _LAYER.match(line))

        def memory_bytes(self) -> dict[str, int]:
            found = (_MEMORY.fullmatch(text.strip()) for _, text in self.lines)
            return {match[1].lower(): int(match[2]) for match in found if match}

        def _worth_telling(self, *severities: str) -> list[str]:
            return [
                text
                for severity, text in self.lines
                if severity in severities and not any(part in text for part in flavour.noise)
            ]

    return Collector()


def _engine_layer(line: str) -> EngineLayer:
    """A layer from its line in the log."""
    found = _LAYER.match(line)
    assert found is not None
    elements = {detailed or plain for detailed, plain in _LAYER_ELEMENT.findall(line)}
    return EngineLayer(found["name"] or found["Name"], found["kind"] or found["Kind"], tuple(sorted(elements)))


def _make_builder(trt: Any, flavour: Flavour, log: Any) -> Any:
    try:
        return trt.Builder(log)
    except TypeError as error:  # "factory function returned nullptr"
        raise MissingLibraryError(
            f"{flavour.product} {trt.__version__} cannot start a builder ({log.last_errors()}): no usable GPU, or a "
            "driver too old for it; `nvidia-smi` tells which CUDA version the driver supports"
        ) from error


def _refusals(parser: Any, flavour: Flavour) -> str:
    """All errors of the parser, a line each: node, operator, reason."""
    lines = []
    for i in range(parser.num_errors):
        refusal = parser.get_error(i)
        reason = " ".join(
            line for line in refusal.desc().splitlines() if not any(part in line for part in flavour.noise)
        )
        where = f"node {refusal.node()} '{refusal.node_name()}' ({refusal.node_operator()})"
        lines.append(f"\n  {where if refusal.node() >= 0 else 'the file'}: {refusal.code().name}: {reason}")
    return "".join(lines) or " no reason was given"


def _check_fixed_axes(name: str, axes: Sequence[int], shapes: Sequence[Sequence[int]]) -> None:
    """A graph may have been made for one batch or length only; -1 is an axis that is free."""
    if len(axes) != len(shapes[0]):
        raise CheckError(f"input '{name}' has {len(axes)} axes, its manifest {len(shapes[0])}; export the model again")
    for axis, size in enumerate(axes):
        wanted = {shape[axis] for shape in shapes}
        if size >= 0 and wanted != {size}:
            raise UsageError(
                f"axis {axis} of input '{name}' is fixed at {size} in the graph, and the profile asks for "
                f"{min(wanted)} to {max(wanted)}; ask for what the graph has, or export it with free axes"
            )


def _count_products(network: Any) -> dict[str, int]:
    """How many products of a parsed network compute in which element type, by the manifest's names."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    makers = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    elements = (_element_of(layer, makers) for layer in layers if layer.type.name in _PRODUCTS)
    return dict(Counter(elements).most_common())


def _element_of(layer: Any, makers: Mapping[str, Any]) -> str:
    """Element type of a product's first operand; of its quantised form, where it comes from a dequantisation."""
    tensor = layer.get_input(0)
    layer = makers.get(tensor.name)
    while layer is not None and layer.type.name in _VIEWS:
        layer = makers.get(layer.get_input(0).name)
    if layer is not None and layer.type.name == "DEQUANTIZE":
        tensor = layer.get_input(0)
    name = tensor.dtype.name
    return _ELEMENTS.get(name, name.lower())
