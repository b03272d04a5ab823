"""Every name and call of NVIDIA's modules in our source exists in the real ones: TensorRT 11's and TensorRT for RTX's.

TensorRT's library is not to be had from a package index, but its Python bindings are: they are imported over stub
libraries, in a process of their own, and describe all classes. Our source is read, not run: names of variables say
which of NVIDIA's classes an object is of (`OBJECTS`), and everything that is asked of them is looked up there.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ghostnote.export import tensorrt_builder, tensorrt_plan
from ghostnote.runtime.engines import tensorrt_runtime

OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "refusal": "ParserError",
    "ranges": "IOptimizationProfile",
    "layer": "ILayer",
    "tensor": "ITensor",
    "cache": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "context": "IExecutionContext",
    "settings": "IRuntimeConfig",
}
# What we ask of TensorRT for RTX alone.
RTX_ONLY = {
    ("DynamicShapesKernelSpecializationStrategy",),
    ("DynamicShapesKernelSpecializationStrategy", "NONE"),
    ("IExecutionContext", "is_stream_capturable"),
    ("IRuntimeConfig", "create_runtime_cache"),
    ("IRuntimeConfig", "dynamic_shapes_kernel_specialization_strategy"),
    ("IRuntimeConfig", "set_runtime_cache"),
}
STUBS = ("libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11")
STUB_SOURCE = "".join(
    f"void *{name}(void) {{ return 0; }}\n"
    for name in (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "createNvOnnxParser_INTERNAL",
        "createNvOnnxParserRefitter_INTERNAL",
        "getNvOnnxParserVersion",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
        "initLibNvInferPlugins",
    )
)

# Looks up what it reads from stdin in the module that it is given; prints what is wrong, a line each.
_LOOK_UP = r"""
import importlib, inspect, json, re, sys
module = importlib.import_module(sys.argv[1])

def signatures(documentation):
    "Signatures of a pybind11 function, from the first lines of its documentation; one per overload."
    for text in re.findall(r"^(?:\d+\. )?\w+\((self: .*)\)(?: -> .*)?$", documentation, re.MULTILINE):
        depth, parts = 0, [""]
        for letter in text:
            depth += (letter in "[(") - (letter in "])")
            if letter == "," and depth == 0:
                parts.append("")
            else:
                parts[-1] += letter
        yield inspect.Signature([
            inspect.Parameter(
                part.strip().partition(":")[0],
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=None if " = " in part else inspect.Parameter.empty,
            )
            for part in parts
        ])

def takes(signature, positional, keywords):
    try:
        signature.bind(*[None] * (positional + 1), **dict.fromkeys(keywords))
    except TypeError:
        return False
    return True

for path, call in json.load(sys.stdin):
    found = module
    try:
        for name in path:
            found = getattr(found, name)
    except AttributeError:
        print(f"{'.'.join(path)} does not exist")
        continue
    if isinstance(found, type):
        found = found.__init__
    if call is not None and not any(takes(known, *call) for known in signatures(found.__doc__)):
        print(f"{'.'.join(path)} does not take {call}: {found.__doc__.strip().splitlines()[0]}")
"""

Use = tuple[tuple[str, ...], tuple[int, tuple[str, ...]] | None]  # names from the module on; arguments of a call


def uses(source: str) -> set[Use]:
    """What source code asks of NVIDIA's module and of objects from it."""
    tree = ast.parse(source)
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found: set[Use] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (path := path_of(node)) and "__version__" not in path[:-1]:
            call = called.get(id(node))
            arguments = call and (len(call.args), tuple(keyword.arg or "" for keyword in call.keywords))
            # An unpacked list stands for the three shapes of a profile, the only thing that is unpacked in a call.
            if call and any(isinstance(argument, ast.Starred) for argument in call.args):
                arguments = (len(call.args) + 2, ())
            found.add((path, arguments))
    return found


def path_of(node: ast.Attribute) -> tuple[str, ...] | None:
    """("Builder", "create_network") for `builder.create_network`; None where the object is none of NVIDIA's."""
    names: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        names.insert(0, inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name):
        return None
    names.insert(0, inner.id)
    if names[0] == "self":
        del names[0]
    if names[0] == "trt":
        return tuple(names[1:]) or None
    if names[0] in OBJECTS and len(names) > 1:
        return (OBJECTS[names[0]], names[1])
    return None


@pytest.fixture(scope="module")
def asked() -> set[Use]:
    """What our own source asks of NVIDIA's modules."""
    modules = (tensorrt_builder, tensorrt_plan, tensorrt_runtime)
    return set().union(*(uses(Path(module.__file__).read_text()) for module in modules))


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libraries that TensorRT's bindings can be loaded over; nothing in them works."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed; it makes the stub libraries")
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "stub.c").write_text(STUB_SOURCE)
    for name in STUBS:
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name, folder / "stub.c"]
        subprocess.run(command, check=True)
    return folder


def wrong_in(module: str, asked: set[Use], libraries: Path) -> list[str]:
    """What the module does not have or does not take."""
    done = subprocess.run(
        [sys.executable, "-c", _LOOK_UP, module],
        input=json.dumps(sorted(asked, key=str)),
        env=os.environ | {"LD_LIBRARY_PATH": str(libraries)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("module", ["tensorrt_bindings", "tensorrt_rtx"])
def test_everything_that_we_use_exists_and_takes_our_arguments(module: str, asked: set[Use], stubs: Path) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed (extra `dev`, Linux on x86-64)")
    if module == "tensorrt_bindings":
        asked = {(path, call) for path, call in asked if path not in RTX_ONLY}
    assert wrong_in(module, asked, stubs) == []


@pytest.mark.parametrize("module", ["tensorrt_bindings", "tensorrt_rtx"])
def test_a_wrong_name_or_argument_would_be_found(module: str, stubs: Path) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed (extra `dev`, Linux on x86-64)")
    source = """
config.set_flag(trt.BuilderFlag.FP16)
builder.build_engine(network)
builder.create_network(0, 1)
parser.parse(data, file=path)
runtime.deserialize_cuda_engine(data)
trt.Builder()
"""
    wrong = wrong_in(module, uses(source), stubs)
    assert [line.split()[0] for line in sorted(wrong)] == [
        "Builder",
        "Builder.build_engine",
        "Builder.create_network",
        "BuilderFlag.FP16",
        "OnnxParser.parse",
    ]


def test_the_source_is_read_as_it_is_meant(asked: set[Use]) -> None:
    assert {
        (("Builder", "build_serialized_network"), (2, ())),
        (("Builder",), (1, ())),
        (("OnnxParser", "parse"), (2, ())),
        (("OnnxParser",), (2, ())),
        (("IBuilderConfig", "set_timing_cache"), (2, ())),
        (("IBuilderConfig", "hardware_compatibility_level"), None),
        (("IOptimizationProfile", "set_shape"), (4, ())),
        (("MemoryPoolType", "WORKSPACE"), None),
        (("ParserError", "node_operator"), (0, ())),
        (("ICudaEngine", "device_memory_size_v2"), None),
        (("EngineInspector", "get_engine_information"), (1, ())),
        (("IExecutionContext", "execute_async_v3"), (1, ())),
        (("ICudaEngine", "create_execution_context"), (1, ())),
    } <= asked
    assert {path[0] for path, _ in asked} >= set(OBJECTS.values())
    assert {path for path, _ in asked} >= RTX_ONLY
