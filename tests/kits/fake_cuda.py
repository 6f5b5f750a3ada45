"""A GPU that is none: stands in for NVIDIA's modules where no GPU is.

`FakeGpu` keeps "GPU" memory in host memory and a queue of work that runs only when somebody
waits for it, so a missing wait shows. Three faces on it have the names and the calling
conventions of ``cuda.bindings.runtime``, ``pycuda.driver`` and ``tensorrt``; a "plan" is an
ONNX graph that ONNX Runtime computes. It proves what our code asks of the driver, in which
order and with which sizes; it proves nothing of the driver or of TensorRT.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable
from enum import Enum, IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from 3.11

PLAN_MARK, PLUGIN_MARK = b"FAKEPLAN", b"FAKEPLUGIN"


class CudaStatus(IntEnum):
    """The statuses that are needed, with CUDA's own names and numbers."""

    cudaSuccess = 0  # noqa: N815  # CUDA's name
    cudaErrorMemoryAllocation = 2  # noqa: N815  # CUDA's name
    cudaErrorInsufficientDriver = 35  # noqa: N815  # CUDA's name
    cudaErrorIllegalAddress = 700  # noqa: N815  # CUDA's name


class FakeGpu:
    """Memory, one queue of work, and a record of every call.

    Attributes:
        calls: driver functions by name, and how often each was called.
        copies: direction and bytes of every copy that was done.
        room_bytes: memory that is left; ``None`` for any amount.
        lost: from now on everything fails, as after a fault in a kernel.
        driver: False for a machine without one.
        capturable: False for an engine that cannot be recorded.
    """

    def __init__(self, capability: tuple[int, int] = (8, 7), *, integrated: bool = False) -> None:
        self.capability, self.integrated = capability, integrated
        self.calls, self.copies = Counter[str](), list[tuple[str, int]]()
        self.room_bytes: int | None = None
        self.lost, self.driver, self.capturable = False, True, True
        self.blocks: dict[int, np.ndarray] = {}
        self._queue: list[Callable[[], None]] = []
        self._recording: list[Callable[[], None]] | None = None

    def allocate(self, size_bytes: int) -> int:
        """Address of new memory, or 0 where there is no room."""
        if self.room_bytes is not None:
            if size_bytes > self.room_bytes:
                return 0
            self.room_bytes -= size_bytes
        block = np.full(size_bytes, 0xCD, np.uint8)
        address = int(block.ctypes.data)
        self.blocks[address] = block
        return address

    def free(self, address: int) -> None:
        """Give memory back; twice is an error."""
        del self.blocks[address]

    def copy(self, kind: str, target: int, source: int, size_bytes: int) -> None:
        """Queue a copy between two whole blocks."""
        if not self.blocks[target].nbytes == self.blocks[source].nbytes == size_bytes:
            raise AssertionError(f"{kind} of {size_bytes} bytes between blocks of other sizes")

        def work() -> None:
            self.copies.append((kind, size_bytes))
            ctypes.memmove(target, source, size_bytes)

        self.enqueue(work)

    def enqueue(self, work: Callable[[], None]) -> None:
        """To the graph that is being recorded, else to the queue."""
        (self._queue if self._recording is None else self._recording).append(work)

    def launch(self, graph: list[Callable[[], None]]) -> None:
        """Queue a recorded graph."""
        for work in graph:
            self.enqueue(work)

    def begin(self) -> None:
        """Record from now on."""
        self._recording = []

    def end(self) -> list[Callable[[], None]]:
        """What was recorded."""
        recorded, self._recording = self._recording or [], None
        return recorded

    @property
    def recording(self) -> bool:
        """Whether work is being recorded."""
        return self._recording is not None

    def wait(self) -> None:
        """Do everything queued."""
        queue, self._queue = self._queue, []
        for work in queue:
            work()

    def read(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A view of the block at `address`."""
        return np.asarray(self.blocks[address].view(dtype).reshape(shape))


def fake_cudart(gpu: FakeGpu) -> Any:
    """``cuda.bindings.runtime``: functions that return a status and then their results."""
    good, bad, full = CudaStatus.cudaSuccess, CudaStatus.cudaErrorIllegalAddress, CudaStatus.cudaErrorMemoryAllocation
    values = {"major": gpu.capability[0], "minor": gpu.capability[1], "integrated": int(gpu.integrated)}

    def call(name: str, does: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        def function(*arguments: Any) -> tuple[Any, ...]:
            gpu.calls[name] += 1
            if not gpu.driver:
                return (CudaStatus.cudaErrorInsufficientDriver, None)
            if gpu.lost:
                return (bad, None)
            result = does(*arguments)
            if isinstance(result, tuple):
                return result
            return (good,) if result is None else (good, result)

        function.__name__ = name
        return function

    def allocate(size: int, _flags: int = 0) -> tuple[Any, ...]:
        address = gpu.allocate(size)
        return (good, address) if address else (full, None)

    functions: dict[str, Callable[..., Any]] = {
        "cudaSetDevice": lambda _index: None,
        "cudaDeviceGetAttribute": lambda attribute, _index: values[attribute],
        "cudaStreamCreateWithFlags": lambda _flags: 77,
        "cudaStreamDestroy": lambda _stream: None,
        "cudaHostAlloc": allocate,
        "cudaHostGetDevicePointer": lambda pointer, _flags: pointer,
        "cudaMalloc": allocate,
        "cudaFree": gpu.free,
        "cudaFreeHost": gpu.free,
        "cudaMemcpyAsync": lambda to, at, size, kind, _stream: gpu.copy(kind, to, at, size),
        "cudaStreamSynchronize": lambda _stream: gpu.wait(),
        "cudaStreamBeginCapture": lambda _stream, _mode: gpu.begin(),
        "cudaStreamEndCapture": lambda _stream: gpu.end(),
        "cudaGraphInstantiate": lambda graph, _flags: graph,
        "cudaGraphDestroy": lambda _graph: None,
        "cudaGraphExecDestroy": lambda _graph: None,
        "cudaGraphLaunch": lambda graph, _stream: gpu.launch(graph),
    }
    return SimpleNamespace(
        **{name: call(name, does) for name, does in functions.items()},
        cudaDeviceAttr=SimpleNamespace(
            cudaDevAttrComputeCapabilityMajor="major",
            cudaDevAttrComputeCapabilityMinor="minor",
            cudaDevAttrIntegrated="integrated",
        ),
        cudaMemcpyKind=SimpleNamespace(cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down"),
        cudaStreamCaptureMode=SimpleNamespace(cudaStreamCaptureModeThreadLocal=1),
        cudaStreamNonBlocking=1,
        cudaHostAllocDefault=0,
        cudaHostAllocMapped=2,
    )


def fake_pycuda(gpu: FakeGpu) -> Any:  # noqa: C901  # one module's face in one place
    """``pycuda.driver``: objects that free themselves, exceptions for failures."""

    class Error(Exception):
        """pycuda's base."""

    class MemoryError(Error):  # noqa: A001  # pycuda's own name
        """No room."""

    def called(name: str) -> None:
        gpu.calls[name] += 1
        if not gpu.driver:
            raise Error("cuInit failed: no CUDA-capable device is detected")
        if gpu.lost:
            raise Error(f"{name} failed: an illegal memory access was encountered")

    class Allocation:
        """What both kinds of memory are."""

        def __init__(self, name: str, size: int) -> None:
            called(name)
            self.address = gpu.allocate(size)
            if not self.address:
                raise MemoryError(f"{name} failed: out of memory")

        def free(self) -> None:
            called("free")
            gpu.free(self.address)

        def get_device_pointer(self) -> int:
            return self.address

        def __int__(self) -> int:
            return self.address

    def pagelocked_empty(size: int, dtype: Any, mem_flags: int = 0) -> Any:
        del mem_flags
        held = Allocation("pagelocked_empty", size)
        return HostArray(held, gpu.blocks[held.address].view(dtype))

    class HostArray(np.ndarray[Any, Any]):
        """numpy's array cannot be given a base: this one holds it beside itself."""

        held: Allocation

        def __new__(cls, held: Allocation, data: np.ndarray) -> Self:
            array = data.view(cls)
            array.held = held
            return array

        def __array_finalize__(self, source: Any) -> None:
            self.held = getattr(source, "held", None)  # type: ignore[assignment]  # views share it

        @property
        def base(self) -> Any:
            return self.held

    class Stream:
        """The queue."""

        handle = 77

        def __init__(self) -> None:
            called("Stream")

        def synchronize(self) -> None:
            called("synchronize")
            gpu.wait()

    class Device:
        """The only one."""

        def __init__(self, _index: int) -> None:
            called("Device")

        def compute_capability(self) -> tuple[int, int]:
            return gpu.capability

        def get_attribute(self, _attribute: str) -> int:
            return int(gpu.integrated)

        def retain_primary_context(self) -> Any:
            return SimpleNamespace(push=lambda: called("push"), pop=lambda: called("pop"))

    def upload(device: Allocation, host: Any, _stream: Stream) -> None:
        called("memcpy_htod_async")
        gpu.copy("up", device.address, host.base.address, host.nbytes)

    def download(host: Any, device: Allocation, _stream: Stream) -> None:
        called("memcpy_dtoh_async")
        gpu.copy("down", host.base.address, device.address, host.nbytes)

    return SimpleNamespace(
        Error=Error,
        MemoryError=MemoryError,
        Stream=Stream,
        Device=Device,
        init=lambda: called("init"),
        mem_alloc=lambda size: Allocation("mem_alloc", size),
        pagelocked_empty=pagelocked_empty,
        memcpy_htod_async=upload,
        memcpy_dtoh_async=download,
        host_alloc_flags=SimpleNamespace(DEVICEMAP=2),
        device_attribute=SimpleNamespace(INTEGRATED="integrated"),
    )


class DataType(Enum):
    """TensorRT's, as far as outputs go."""

    FLOAT = 0
    HALF = 1


class FakeContext:
    """An execution context: its work is queued on the GPU, and computed by ONNX Runtime."""

    def __init__(self, gpu: FakeGpu, session: Any) -> None:
        self._gpu, self._session = gpu, session
        self._image: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, _name: str, shape: tuple[int, ...]) -> bool:
        """Any shape but one of more than 64 pictures."""
        self._image = shape
        return shape[0] <= 64

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """That of the graph, with N set."""
        (value,) = [o for o in self._session.get_outputs() if o.name == name]
        return (self._image[0], *value.shape[1:])

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Remember it."""
        self.addresses[name] = address
        return address in self._gpu.blocks

    def execute_async_v3(self, _stream: int) -> bool:
        """Queue one execution."""
        gpu = self._gpu
        gpu.calls["execute_async_v3"] += 1
        if gpu.lost or (gpu.recording and not gpu.capturable):
            return False
        gpu.enqueue(self._compute)
        return True

    def _compute(self) -> None:
        names = [o.name for o in self._session.get_outputs()]
        pictures = self._gpu.read(self.addresses["image"], self._image, np.uint8)
        for name, value in zip(names, self._session.run(names, {"image": pictures}), strict=True):
            self._gpu.read(self.addresses[name], value.shape, np.float32)[:] = value


def fake_tensorrt(gpu: FakeGpu, version: str = "10.3.0.30", engine_room: bool = True) -> Any:  # noqa: C901  # one module's face in one place
    """``tensorrt``: a runtime whose plans are `PLAN_MARK` and an ONNX graph."""

    class ILogger:
        """Base of loggers."""

    class Registry:
        """Of plugins; a library is `PLUGIN_MARK` and its version."""

        def __init__(self) -> None:
            self.all_creators: list[Any] = []

        def load_library(self, path: str) -> Any:
            content = Path(path).read_bytes()
            if not content.startswith(PLUGIN_MARK):
                return None
            found = content[len(PLUGIN_MARK) :].decode()
            self.all_creators.append(SimpleNamespace(name="CadaNormalize", plugin_version=found))
            return object()

        def get_creator(self, name: str, version: str, _namespace: str) -> Any:
            return next((c for c in self.all_creators if (c.name, c.plugin_version) == (name, version)), None)

    class Engine:
        """A graph."""

        def __init__(self, logger: Any, content: bytes) -> None:
            self._logger = logger
            self._session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
            self._names = [v.name for v in (*self._session.get_inputs(), *self._session.get_outputs())]
            self.num_io_tensors = len(self._names)

        def get_tensor_name(self, index: int) -> str:
            return str(self._names[index])

        def get_tensor_dtype(self, name: str) -> DataType:
            (value,) = [o for o in self._session.get_outputs() if o.name == name]
            return DataType.HALF if value.type == "tensor(float16)" else DataType.FLOAT

        def create_execution_context(self) -> FakeContext | None:
            if engine_room:
                return FakeContext(gpu, self._session)
            self._logger.log(SimpleNamespace(name="ERROR"), "Requested size was 4096 bytes, out of memory")
            return None

    class Runtime:
        """Reads plans."""

        def __init__(self, logger: Any) -> None:
            self._logger, self._registry = logger, Registry()

        def get_plugin_registry(self) -> Registry:
            return self._registry

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if not plan.startswith(PLAN_MARK):
                self._logger.log(SimpleNamespace(name="ERROR"), "Serialization assertion magicTag failed")
                return None
            return Engine(self._logger, plan[len(PLAN_MARK) :])

    return SimpleNamespace(ILogger=ILogger, Runtime=Runtime, __version__=version)
