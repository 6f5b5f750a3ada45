"""GPU memory through NVIDIA's own cuda-python (``cuda.bindings.runtime``)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import numpy as np

from cada_edge.errors import EngineError, NoDeviceError
from cada_edge.runtime.runners.memory import Buffer, MemoryName, Replay

_OUT_OF_MEMORY = "cudaErrorMemoryAllocation"
_NO_DRIVER = ("cudaErrorInsufficientDriver", "cudaErrorNoDevice", "cudaErrorStubLibrary")


class CudaPythonMemory:
    """`Memory` over the CUDA runtime API.

    Args:
        api: the module ``cuda.bindings.runtime``; imported where it is not given.
    """

    name: MemoryName = "cuda-python"

    def __init__(self, api: Any = None) -> None:
        self._api = import_module("cuda.bindings.runtime") if api is None else api
        self._owned = ExitStack()
        api = self._api
        self._call(api.cudaSetDevice, 0)
        attribute = api.cudaDeviceAttr
        major = self._call(api.cudaDeviceGetAttribute, attribute.cudaDevAttrComputeCapabilityMajor, 0)
        minor = self._call(api.cudaDeviceGetAttribute, attribute.cudaDevAttrComputeCapabilityMinor, 0)
        self._integrated = bool(self._call(api.cudaDeviceGetAttribute, attribute.cudaDevAttrIntegrated, 0))
        self._capability = f"{major}.{minor}"
        self._stream = self._call(api.cudaStreamCreateWithFlags, api.cudaStreamNonBlocking)
        self._owned.callback(api.cudaStreamDestroy, self._stream)

    @property
    def compute_capability(self) -> str:
        """Of the GPU, such as ``8.7``."""
        return self._capability

    @property
    def stream(self) -> int:
        """Handle of the stream."""
        return int(self._stream)

    def allocate(self, size_bytes: int) -> Buffer:
        """Page-locked host memory, and GPU memory beside it unless the GPU can use the host's."""
        api = self._api
        flags = api.cudaHostAllocMapped if self._integrated else api.cudaHostAllocDefault
        pointer = int(self._call(api.cudaHostAlloc, size_bytes, flags))
        self._owned.callback(api.cudaFreeHost, pointer)
        host = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(pointer))
        if self._integrated:
            return Buffer(host, int(self._call(api.cudaHostGetDevicePointer, pointer, 0)), mapped=True, native=pointer)
        address = int(self._call(api.cudaMalloc, size_bytes))
        self._owned.callback(api.cudaFree, address)
        return Buffer(host, address, mapped=False, native=pointer)

    def upload(self, buffer: Buffer) -> None:
        """Queue the copy to the GPU."""
        if not buffer.mapped:
            kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
            self._copy(buffer.address, buffer.native, buffer.host.nbytes, kind)

    def download(self, buffer: Buffer) -> None:
        """Queue the copy from the GPU."""
        if not buffer.mapped:
            kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
            self._copy(buffer.native, buffer.address, buffer.host.nbytes, kind)

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._call(self._api.cudaStreamSynchronize, self._stream)

    def capture(self, work: Callable[[], None]) -> Replay:
        """Record `work` as a CUDA graph; other threads may go on using CUDA meanwhile."""
        api = self._api
        mode = api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(api.cudaStreamBeginCapture, self._stream, mode)
        try:
            work()
        except BaseException:
            api.cudaStreamEndCapture(self._stream)  # leaves capture mode; what failed is on its way up
            raise
        graph = self._call(api.cudaStreamEndCapture, self._stream)
        try:
            ready = self._call(api.cudaGraphInstantiate, graph, 0)
        finally:
            api.cudaGraphDestroy(graph)
        self._owned.callback(api.cudaGraphExecDestroy, ready)
        return lambda: self._call(api.cudaGraphLaunch, ready, self._stream)

    def close(self) -> None:
        """Free everything; a lost GPU's refusal to free is no error."""
        self._owned.close()

    def _copy(self, target: int, source: int, size_bytes: int, kind: Any) -> None:
        self._call(self._api.cudaMemcpyAsync, target, source, size_bytes, kind, self._stream)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a CUDA call; its status, if not success, as our error."""
        status, *result = function(*arguments)
        if int(status) != 0:
            kind = NoDeviceError if status.name in _NO_DRIVER else EngineError
            raise kind(_message(str(status.name), function.__name__, arguments))
        return result[0] if result else None


def _message(status: str, function: str, arguments: tuple[Any, ...]) -> str:
    if status == _OUT_OF_MEMORY:
        asked = f" for {arguments[0]} bytes" if arguments and isinstance(arguments[0], int) else ""
        return f"the GPU is out of memory ({function}{asked}); use a smaller batch, or end other programs on the GPU"
    if status in _NO_DRIVER:
        return f"no NVIDIA GPU can be used: {function} says {status}; install the driver, see nvidia-smi"
    return f"the GPU failed: {function} says {status}; if it goes on, restart the program, then the device; see dmesg"
