"""NVIDIA's two kinds of TensorRT. Neither loads the other's plans; what tells them apart is written here alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["FLAVOURS", "Flavour", "dotted"]


@dataclass(frozen=True)
class Flavour:
    """One kind of TensorRT: what tells it from the other, and nothing else does."""

    name: str  # in the command line and in the sidecar
    product: str
    module: str
    oldest: tuple[int, int]  # version: older ones have another API
    install: str
    lean: str | None = None  # module that only runs plans, and of those the version-compatible ones
    built_for: tuple[str, ...] = ()  # compute capabilities that its plans are for; empty: that of the GPU at hand
    flags: tuple[str, ...] = ()  # of the builder, always set
    noise: tuple[str, ...] = ()  # parts of error and warning lines that it logs when all is well

    @property
    def needs_gpu(self) -> bool:
        """It times kernels on the GPU that the plan is for; timing caches and compatibility levels belong to that."""
        return not self.built_for


FLAVOURS: Mapping[str, Flavour] = {
    flavour.name: flavour
    for flavour in (
        Flavour(
            name="tensorrt",
            product="TensorRT",
            module="tensorrt",
            oldest=(11, 0),
            install="install TensorRT 11 with its Python bindings from NVIDIA, or use NVIDIA's container of it",
            lean="tensorrt_lean",
        ),
        Flavour(
            name="tensorrt-rtx",
            product="TensorRT for RTX",
            module="tensorrt_rtx",
            oldest=(1, 7),
            install="pip install 'tensorrt-rtx>=1.7,<2'",
            built_for=("8.0", "8.6", "8.9", "12.0", "12.1"),  # its default; 9.0 (H100) and 10.x are not RTX GPUs
            flags=("REQUIRE_USER_ALLOCATION",),  # else its plans cannot be captured as CUDA graphs
            noise=(
                "Thread context has not been set",
                "has Int64 binding",
                "HardwareCompatibilityLevel() is unsupported",
                "(cudaError 35:",
            ),
        ),
    )
}


def dotted(numbers: Iterable[int]) -> str:
    """(9, 0) as "9.0"."""
    return ".".join(map(str, numbers))
