"""GPU memory through pycuda. It has no CUDA graphs, so each frame queues its work anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from typing import Any

import numpy as np

from cada_edge.errors import EngineError, NoDeviceError
from cada_edge.runtime.runners.memory import Buffer, MemoryName, Replay


class PycudaMemory:
    """`Memory` over the CUDA driver API, in the device's primary context, which TensorRT uses too.

    Args:
        api: the module ``pycuda.driver``; imported where it is not given.
    """

    name: MemoryName = "pycuda"

    def __init__(self, api: Any = None) -> None:
        self._api = _import() if api is None else api
        self._owned = ExitStack()
        api = self._api
        try:
            api.init()
        except api.Error as error:
            raise NoDeviceError(f"no NVIDIA GPU can be used: {error}; install the driver, see nvidia-smi") from error
        with self._failing("opening the GPU"):
            device = api.Device(0)
            major, minor = device.compute_capability()
            self._capability = f"{major}.{minor}"
            self._integrated = bool(device.get_attribute(api.device_attribute.INTEGRATED))
            context = device.retain_primary_context()
            context.push()
            self._owned.callback(context.pop)
            self._stream = api.Stream()

    @property
    def compute_capability(self) -> str:
        """Of the GPU, such as ``8.7``."""
        return self._capability

    @property
    def stream(self) -> int:
        """Handle of the stream."""
        return int(self._stream.handle)

    def allocate(self, size_bytes: int) -> Buffer:
        """Page-locked host memory, and GPU memory beside it unless the GPU can use the host's."""
        api = self._api
        flags = api.host_alloc_flags.DEVICEMAP if self._integrated else 0
        with self._failing(f"allocating {size_bytes} bytes"):
            host = api.pagelocked_empty(size_bytes, np.uint8, mem_flags=flags)
            self._owned.callback(host.base.free)
            if self._integrated:
                return Buffer(host, int(host.base.get_device_pointer()), mapped=True)
            device = api.mem_alloc(size_bytes)
            self._owned.callback(device.free)
            return Buffer(host, int(device), mapped=False, native=device)

    def upload(self, buffer: Buffer) -> None:
        """Queue the copy to the GPU."""
        if not buffer.mapped:
            with self._failing("copying to the GPU"):
                self._api.memcpy_htod_async(buffer.native, buffer.host, self._stream)

    def download(self, buffer: Buffer) -> None:
        """Queue the copy from the GPU."""
        if not buffer.mapped:
            with self._failing("copying from the GPU"):
                self._api.memcpy_dtoh_async(buffer.host, buffer.native, self._stream)

    def synchronize(self) -> None:
        """Wait for the stream."""
        with self._failing("waiting for the stream"):
            self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> Replay:
        """Always raises `EngineError`: pycuda has no graphs."""
        del work
        raise EngineError("pycuda has no CUDA graphs, cuda-python has")

    def close(self) -> None:
        """Free everything; a lost GPU's refusal to free is no error."""
        with suppress(self._api.Error):
            self._owned.close()

    @contextmanager
    def _failing(self, doing: str) -> Iterator[None]:
        """Turn pycuda's exceptions into ours."""
        api = self._api
        try:
            yield
        except api.MemoryError as error:
            raise EngineError(
                f"the GPU is out of memory ({doing}); use a smaller batch, or end other programs on the GPU"
            ) from error
        except api.Error as error:
            raise EngineError(
                f"the GPU failed: {doing}: {error}; if it goes on, restart the program, then the device; see dmesg"
            ) from error


def _import() -> Any:
    try:
        return import_module("pycuda.driver")
    except ImportError as error:  # pycuda is linked to libcuda itself
        raise NoDeviceError(
            f"no NVIDIA GPU can be used: pycuda does not load: {error}; install the driver, see nvidia-smi"
        ) from error
