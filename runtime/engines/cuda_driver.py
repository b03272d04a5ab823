"""What the NVIDIA driver says about this machine, asked without any CUDA library: through ctypes and `libcuda` alone.

TensorRT's own calls crash the process where there is no driver, so everything that would load it asks here first.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

__all__ = ["Device", "Driver", "probe_driver"]

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_LIBRARIES = {"win32": "nvcuda.dll"}


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU: its name, and compute capability as in (9, 0)."""

    name: str
    compute_capability: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Driver:
    """The CUDA version that the driver supports ("13.0"), its GPUs, and why there are none, in one sentence."""

    version: str | None
    devices: tuple[Device, ...]
    problem: str | None


def probe_driver() -> Driver:
    """Ask the driver; never raises, never starts a CUDA context."""
    name = _LIBRARIES.get(sys.platform, "libcuda.so.1")
    try:
        cuda = ctypes.CDLL(name)
    except OSError:
        return Driver(None, (), f"the NVIDIA driver is not installed ({name} was not found)")
    if status := cuda.cuInit(0):
        return Driver(_version(cuda), (), f"the NVIDIA driver found no usable GPU (cuInit: error {status})")
    count = ctypes.c_int()
    if (status := cuda.cuDeviceGetCount(ctypes.byref(count))) or count.value == 0:
        return Driver(_version(cuda), (), f"the NVIDIA driver sees no GPU (cuDeviceGetCount: error {status})")
    return Driver(_version(cuda), tuple(_device(cuda, i) for i in range(count.value)), None)


def _version(cuda: ctypes.CDLL) -> str | None:
    number = ctypes.c_int()
    if cuda.cuDriverGetVersion(ctypes.byref(number)):
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _device(cuda: ctypes.CDLL, index: int) -> Device:
    handle, name, value = ctypes.c_int(), ctypes.create_string_buffer(100), ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(handle), index)
    cuda.cuDeviceGetName(name, len(name), handle)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        capability.append(value.value)
    return Device(name.value.decode(errors="replace"), (capability[0], capability[1]))
