"""Names and calls of cuda-bindings in our source, held against the real module; that needs no driver."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

from ghostnote.runtime.engines import cuda_device
from ghostnote.runtime.engines.cuda_device import CudaDevice, load_cuda
from ghostnote.runtime.engines.cuda_driver import probe_driver
from ghostnote.runtime.engines.device import DeviceError


@pytest.fixture(scope="module")
def cuda() -> Any:
    return pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed (extra `trt`)")


def uses(source: str) -> dict[tuple[str, ...], int | None]:
    """What is asked of `cuda` or `self._cuda`: names from the module on; how many arguments, where it is called."""
    tree = ast.parse(source)
    called = {id(node.func): len(node.args) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found: dict[tuple[str, ...], int | None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names = ast.unparse(node).removeprefix("self._cuda.").removeprefix("cuda.")
            if names != ast.unparse(node):
                found[tuple(names.split("."))] = called.get(id(node))
    return found


def wrong_in(cuda: Any, asked: dict[tuple[str, ...], int | None]) -> list[str]:
    wrong = []
    for path, arguments in asked.items():
        found = cuda
        try:
            for name in path:
                found = getattr(found, name)
            if arguments is not None:
                inspect.signature(found).bind(*[0] * arguments)
        except (AttributeError, TypeError) as error:
            wrong.append(f"{'.'.join(path)}: {error}")
    return wrong


def test_everything_that_we_use_exists_and_takes_our_arguments(cuda: Any) -> None:
    asked = uses(Path(cuda_device.__file__).read_text())
    assert wrong_in(cuda, asked) == []
    assert {
        ("cudaMemcpyAsync",): 5,
        ("cudaStreamBeginCapture",): 2,
        ("cudaMemcpyKind", "cudaMemcpyDeviceToHost"): None,
    }.items() <= asked.items()
    assert len(asked) > 20


def test_the_order_of_arguments_is_the_one_that_we_use(cuda: Any) -> None:
    names = {
        "cudaMemcpyAsync": ["dst", "src", "count", "kind", "stream"],
        "cudaMemsetAsync": ["devPtr", "value", "count", "stream"],
        "cudaGraphLaunch": ["graphExec", "stream"],
        "cudaStreamBeginCapture": ["stream", "mode"],
        "cudaGraphInstantiate": ["graph", "flags"],
    }
    assert {name: list(inspect.signature(getattr(cuda, name)).parameters) for name in names} == names


def test_a_wrong_name_or_argument_would_be_found(cuda: Any) -> None:
    source = (
        "self._cuda.cudaMalloc(size, 1); cuda.cudaMemcpyKind.cudaMemcpyHostToGpu; cuda.cudaAllocate; cuda.cudaFree(p)"
    )
    assert [line.partition(":")[0] for line in sorted(wrong_in(cuda, uses(source)))] == [
        "cudaAllocate",
        "cudaMalloc",
        "cudaMemcpyKind.cudaMemcpyHostToGpu",
    ]


def test_without_a_driver_the_error_is_cudas_own_sentence(cuda: Any) -> None:
    if probe_driver().devices:
        pytest.skip("there is a GPU here")
    with pytest.raises(DeviceError, match=r"CUDA failed at a stream: .*driver.* \(cudaError\w+\)"):
        CudaDevice(load_cuda(), "no GPU")
