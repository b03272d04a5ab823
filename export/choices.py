"""What can be asked of an export. Light: the command line needs it before any library is loaded."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["LARGEST_AXIS", "Precision", "StatePrecision", "Target"]

LARGEST_AXIS = 65536  # streams, and tokens, of a call: what graphs are exported for


class Target(StrEnum):
    """What to make beside the float32 ONNX file."""

    AUTO = "auto"  # a plan, where TensorRT can build one for a GPU of this machine
    ONNX = "onnx"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"
    TRITON = "triton"


class StatePrecision(StrEnum):
    """What streams' states are kept in between calls."""

    FP32 = "fp32"
    FP16 = "fp16"  # all but the samples of the past, which the front-end needs as they were


class Precision(StrEnum):
    """What products are computed in, as users say it."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"

    @classmethod
    def named(cls, manifest_name: str) -> Precision:
        """The precision that a manifest calls so."""
        return next(precision for precision in cls if precision.manifest_name == manifest_name)

    @property
    def manifest_name(self) -> str:
        return _MANIFEST_NAMES[self]

    @property
    def by_onnxruntime(self) -> bool:
        """Whether onnxruntime computes in it on a CPU; the others are tried on ONNX's reference evaluator, slowly."""
        return self in (Precision.FP32, Precision.INT8)

    @property
    def computed_by(self) -> str:
        """Who verifies it here."""
        return "onnxruntime" if self.by_onnxruntime else "ONNX's reference evaluator"

    @property
    def on_cpu(self) -> bool:
        """Whether onnxruntime runs such a graph on a CPU (float16 it computes in float32 there)."""
        return self in (Precision.FP32, Precision.FP16, Precision.INT8)


_MANIFEST_NAMES = {
    Precision.FP32: "float32",
    Precision.FP16: "float16",
    Precision.BF16: "bfloat16",
    Precision.INT8: "int8",
    Precision.FP8: "float8",
}
