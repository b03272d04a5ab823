"""The study of attention graphs: that they can be built, and that the table says why one cannot."""

from __future__ import annotations

import pytest

from ghostnote.benchmarks import attention_graphs
from ghostnote.export.tensorrt_builder import load_flavour
from ghostnote.runtime.engines.cuda_driver import probe_driver

pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed (extra `dev`, Linux on x86-64)")


def row(element: str, *, in_place: bool, fused: bool, decomposable: bool = False) -> str:
    trt = load_flavour(attention_graphs.RTX, probe_driver())
    data = attention_graphs.attention_graph(attention_graphs.ELEMENTS[element], in_place=in_place, fused=fused)
    return attention_graphs.report(trt, data, decomposable=decomposable)


@pytest.mark.parametrize("in_place", [False, True], ids=["concat", "in-place"])
@pytest.mark.parametrize("fused", [False, True], ids=["written-out", "one-node"])
def test_every_variant_builds(in_place: bool, fused: bool) -> None:
    cells = row("float16", in_place=in_place, fused=fused).split(" | ")
    assert len(cells) == 5
    assert int(cells[0]) > 100
    assert "kgen" in cells[1]


def test_the_attention_node_has_no_float32_kernel_unless_it_may_be_taken_apart() -> None:
    assert row("float32", in_place=False, fused=True).startswith("no plan: ")
    assert "kgen" in row("float32", in_place=False, fused=True, decomposable=True)
