from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from fake_cuda import FakeGpu, fake_cudart, fake_pycuda

from cada_edge.errors import EngineError, MissingDependencyError
from cada_edge.runtime.runners.memory import Memory, open_memory
from cada_edge.runtime.runners.memory.cuda_python import CudaPythonMemory
from cada_edge.runtime.runners.memory.pycuda import PycudaMemory

OPENERS: dict[str, Callable[[FakeGpu], Memory]] = {
    "cuda-python": lambda gpu: CudaPythonMemory(fake_cudart(gpu)),
    "pycuda": lambda gpu: PycudaMemory(fake_pycuda(gpu)),
}
both = pytest.mark.parametrize("open_on", OPENERS.values(), ids=OPENERS)


def ramp(size: int) -> np.ndarray[Any, Any]:
    """uint8 (size,): 0, 1, 2, ..."""
    return np.arange(size, dtype=np.uint8)


@both
@pytest.mark.parametrize("integrated", [False, True])
def test_bytes_go_to_the_gpu_and_back(open_on: Callable[[FakeGpu], Memory], integrated: bool) -> None:
    """What is uploaded is on the GPU, and what is there comes back; where memory is shared, without any copy."""
    gpu = FakeGpu(integrated=integrated)
    memory = open_on(gpu)
    buffer = memory.allocate(100)
    buffer.host[:] = ramp(100)
    memory.upload(buffer)
    memory.synchronize()
    assert np.array_equal(gpu.blocks[buffer.address], ramp(100))
    gpu.blocks[buffer.address][:] = 7
    memory.download(buffer)
    memory.synchronize()
    assert np.array_equal(buffer.host, np.full(100, 7))
    assert gpu.copies == ([] if integrated else [("up", 100), ("down", 100)])
    assert buffer.mapped is integrated


@both
def test_it_says_which_gpu_and_stream(open_on: Callable[[FakeGpu], Memory]) -> None:
    """As the engine's key and TensorRT take them."""
    memory = open_on(FakeGpu((12, 0)))
    assert (memory.compute_capability, memory.stream) == ("12.0", 77)


@both
@pytest.mark.parametrize("integrated", [False, True])
def test_closing_frees_everything_once(open_on: Callable[[FakeGpu], Memory], integrated: bool) -> None:
    """Twice closed is closed."""
    gpu = FakeGpu(integrated=integrated)
    memory = open_on(gpu)
    memory.allocate(8)
    memory.allocate(16)
    memory.close()
    memory.close()
    assert gpu.blocks == {}


@both
def test_no_room_on_the_gpu_is_said(open_on: Callable[[FakeGpu], Memory]) -> None:
    """With what was asked for and what to do; what was had before is freed with the rest."""
    gpu = FakeGpu()
    memory = open_on(gpu)
    gpu.room_bytes = 150
    memory.allocate(64)
    with pytest.raises(EngineError, match=r"out of memory.*64 bytes.*smaller batch"):
        memory.allocate(64)
    memory.close()
    assert gpu.blocks == {}


@both
def test_a_lost_gpu_is_said_at_once(open_on: Callable[[FakeGpu], Memory]) -> None:
    """Copies and waits fail with our error, and closing does not add one of its own."""
    gpu = FakeGpu()
    memory = open_on(gpu)
    buffer = memory.allocate(8)
    gpu.lost = True
    with pytest.raises(EngineError, match=r"the GPU failed.*dmesg"):
        memory.upload(buffer)
    with pytest.raises(EngineError, match=r"the GPU failed.*dmesg"):
        memory.synchronize()
    memory.close()


@both
def test_without_a_driver_the_message_says_so(open_on: Callable[[FakeGpu], Memory]) -> None:
    """Before anything is allocated."""
    gpu = FakeGpu()
    gpu.driver = False
    with pytest.raises(EngineError, match="GPU"):
        open_on(gpu)


def test_recorded_work_is_done_when_replayed_and_not_before() -> None:
    """A graph holds the copies in order; each replay does all of them."""
    gpu = FakeGpu()
    memory = CudaPythonMemory(fake_cudart(gpu))
    buffer = memory.allocate(4)

    def work() -> None:
        memory.upload(buffer)
        memory.download(buffer)

    replay = memory.capture(work)
    memory.synchronize()
    assert gpu.copies == []
    for _ in range(3):
        replay()
    memory.synchronize()
    assert gpu.copies == [("up", 4), ("down", 4)] * 3


def test_work_that_fails_while_it_is_recorded_leaves_the_stream_usable() -> None:
    """The recording is ended, and later work is done."""
    gpu = FakeGpu()
    memory = CudaPythonMemory(fake_cudart(gpu))
    buffer = memory.allocate(4)

    def work() -> None:
        raise EngineError("not to be recorded")

    with pytest.raises(EngineError, match="not to be recorded"):
        memory.capture(work)
    memory.upload(buffer)
    memory.synchronize()
    assert gpu.copies == [("up", 4)]


def test_pycuda_says_that_it_has_no_graphs() -> None:
    """And names the package that has."""
    with pytest.raises(EngineError, match="cuda-python has"):
        PycudaMemory(fake_pycuda(FakeGpu())).capture(lambda: None)


@pytest.mark.parametrize(("name", "module"), [("cuda-python", "cuda"), ("pycuda", "pycuda")])
def test_an_absent_package_names_its_extra(name: Any, module: str) -> None:
    """With the command that brings it."""
    if find_spec(module) is not None:
        pytest.skip(f"{name} is installed here")
    with pytest.raises(MissingDependencyError, match="pip install 'cada-edge"):
        open_memory(name)


def test_the_real_package_says_that_there_is_no_driver() -> None:
    """NVIDIA's own cuda-python, on a machine without a GPU."""
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed; pip install cuda-python")
    from ctypes.util import find_library

    if find_library("cuda") is not None:
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(EngineError, match=r"no NVIDIA GPU can be used: cudaSetDevice says cudaError.*nvidia-smi"):
        open_memory("cuda-python")
