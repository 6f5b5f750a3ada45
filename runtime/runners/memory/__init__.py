"""Memory and time on the GPU: buffers, one stream, and graphs where the package has them.

Two packages do it, `cuda-python` and `pycuda`, behind one protocol. Everything is allocated
when a runner opens; a frame allocates nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, Protocol, TypeAlias

from cada_edge.errors import ConfigError, MissingDependencyError
from cada_edge.types import UInt8Array

MemoryName = Literal["cuda-python", "pycuda"]
Replay: TypeAlias = Callable[[], None]
VARIABLE = "CADA_EDGE_GPU_MEMORY"
_MODULES: dict[MemoryName, str] = {"cuda-python": "cuda.bindings", "pycuda": "pycuda"}


@dataclass(frozen=True)
class Buffer:
    """The same bytes on host and GPU. Owned by the `Memory` that made it, gone when that closes.

    Attributes:
        host: uint8 (n,), page-locked; never handed to a caller.
        address: on the GPU. Where GPU and CPU share memory (Jetson) it is that of `host`
            itself, and no copy is ever made.
        mapped: whether they are one.
        native: what the package calls the two, for its own use.
    """

    host: UInt8Array
    address: int
    mapped: bool
    native: Any = None


class Memory(Protocol):
    """One GPU's memory and one stream on it, used by the thread that opened it.

    Every method raises `EngineError`: GPU out of memory, GPU lost, or what the driver says.
    """

    @property
    def name(self) -> MemoryName:
        """The package behind it."""

    @property
    def compute_capability(self) -> str:
        """Of the GPU, such as ``8.7``."""

    @property
    def stream(self) -> int:
        """Handle of the one stream, as TensorRT takes it; work on it is done in order."""

    def allocate(self, size_bytes: int) -> Buffer:
        """A buffer of so many bytes, > 0."""

    def upload(self, buffer: Buffer) -> None:
        """Queue the copy of the whole buffer to the GPU; nothing where it is mapped."""

    def download(self, buffer: Buffer) -> None:
        """Queue the copy of the whole buffer from the GPU; nothing where it is mapped."""

    def synchronize(self) -> None:
        """Wait until everything queued is done."""

    def capture(self, work: Callable[[], None]) -> Replay:
        """Record what `work` queues, without doing it; calling what is returned queues all of it at once.

        Raises `EngineError` also where the package has no CUDA graphs.
        """

    def close(self) -> None:
        """Free everything. Safe to call twice, and after the GPU was lost."""


def open_memory(name: MemoryName | None = None) -> Memory:
    """Open the first GPU through the package `name`; ``None`` takes what `VARIABLE` names, else cuda-python.

    Raises `ConfigError` for another name there, `MissingDependencyError`, or `NoDeviceError` where there is
    no driver or no GPU.
    """
    name = name or _named()
    if not _installed(_MODULES[name]):
        extra = "tensorrt" if name == "cuda-python" else "pycuda"
        raise MissingDependencyError(f"the package {name} is not installed; run: pip install 'cada-edge[{extra}]'")
    if name == "pycuda":
        from cada_edge.runtime.runners.memory.pycuda import PycudaMemory  # noqa: PLC0415  # optional

        return PycudaMemory()
    from cada_edge.runtime.runners.memory.cuda_python import CudaPythonMemory  # noqa: PLC0415  # optional

    return CudaPythonMemory()


def _named() -> MemoryName:
    asked = os.environ.get(VARIABLE, "cuda-python")
    for name in _MODULES:
        if name == asked:
            return name
    raise ConfigError(f"{VARIABLE}: got {asked!r}, expected one of {tuple(_MODULES)}")


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # what `module` is in is not there either
        return False
