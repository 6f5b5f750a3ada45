"""Which GPU is here, asked of NVIDIA's driver itself, without any package."""

from __future__ import annotations

import ctypes

from cada_edge.errors import EngineError, NoDeviceError

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h


def compute_capability(index: int = 0) -> str:
    """Of GPU `index`, such as ``8.7``. Raises `NoDeviceError` without a driver, `EngineError` where it refuses."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise NoDeviceError(
            f"this machine has no NVIDIA driver: {error}; build and run engines on the device"
        ) from error
    device, values = ctypes.c_int(), [ctypes.c_int(), ctypes.c_int()]
    _call(driver.cuInit(0), "cuInit")
    _call(driver.cuDeviceGet(ctypes.byref(device), index), f"cuDeviceGet of GPU {index}")
    for value, attribute in zip(values, (_MAJOR, _MINOR), strict=True):
        _call(driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device), "cuDeviceGetAttribute")
    return f"{values[0].value}.{values[1].value}"


def _call(status: int, what: str) -> None:
    if status != 0:
        raise EngineError(f"the NVIDIA driver refuses {what} with error {status}; see nvidia-smi")
