"""A GPU without free memory: builder and runner name it, with TensorRT's own words and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_kit import build_fake, needs_builder
from fake_cuda import FakeGpu, fake_cudart, fake_tensorrt

from cada_edge.bundle import MODEL, Bundle
from cada_edge.errors import EngineError, EngineMismatchError
from cada_edge.export.engine import EngineConfig, build_engine
from cada_edge.export.trt_build import BuildOptions, build_plan
from cada_edge.runtime.runners.memory.cuda_python import CudaPythonMemory
from cada_edge.runtime.runners.tensorrt import TensorRTRunner
from cada_edge.trt import TensorRT

SET_UP = "CUDA initialization failure with error: 2. Please check your CUDA installation"
FULL = "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)"
ADVICE = "the GPU is out of memory: use a smaller batch, or end other programs on the GPU"


@pytest.fixture(scope="module")
def exported(bundle: Bundle, content: bytes) -> Bundle:
    """The small bundle with its graph."""
    return bundle.with_file(MODEL, content)


def refusing(severity: str, message: str) -> Callable[[Any], Any]:
    """A constructor that does what those of NVIDIA's binding do when CUDA cannot be set up."""

    def construct(logger: Any) -> Any:
        logger.log(SimpleNamespace(name=severity), message)
        raise TypeError("pybind11::init(): factory function returned nullptr")

    return construct


def open_runner(bundle: Bundle, line: Path, api: Any) -> None:
    """Open and close a runner on the GPU that is none; everything it had is given back."""
    gpu = FakeGpu()
    try:
        TensorRTRunner(bundle, line, None, TensorRT("tensorrt", api), CudaPythonMemory(fake_cudart(gpu))).close()
    finally:
        assert gpu.blocks == {}


@pytest.mark.parametrize("severity", ["INTERNAL_ERROR", "WARNING"])
def test_a_builder_that_cannot_start_says_why(severity: str) -> None:
    """NVIDIA's binding raises a TypeError of its own; the reason is in the log, at times as a warning."""
    api = SimpleNamespace(
        ILogger=fake_tensorrt(FakeGpu()).ILogger, Builder=refusing(severity, SET_UP), __version__="10.3.0.30"
    )
    with pytest.raises(EngineError, match=f"tensorrt 10.3.0.30 cannot be started.*error: 2.*{ADVICE}"):
        build_plan(TensorRT("tensorrt", api), b"", BuildOptions((64, 64), (1, 1, 1)))


def test_a_runtime_that_cannot_start_says_why(exported: Bundle, tmp_path: Path) -> None:
    """A driver too old for this TensorRT is told from a GPU without room."""
    build_fake(exported, tmp_path / "line.cada")
    api = fake_tensorrt(FakeGpu())
    api.Runtime = refusing("WARNING", SET_UP.replace("error: 2", "error: 35"))
    with pytest.raises(EngineError, match=r"cannot be started.*error: 35.*whether the driver fits"):
        open_runner(exported, tmp_path / "line.cada", api)


def test_an_engine_that_finds_no_room_is_no_foreign_engine(exported: Bundle, tmp_path: Path) -> None:
    """To build it again would help nobody."""
    build_fake(exported, tmp_path / "line.cada")
    api = fake_tensorrt(FakeGpu())

    class Runtime(api.Runtime):  # type: ignore[misc, name-defined]  # its base is known at run time only
        """Cannot allocate what a plan asks for."""

        def deserialize_cuda_engine(self, _plan: bytes) -> None:
            self._logger.log(SimpleNamespace(name="ERROR"), FULL)

    api.Runtime = Runtime
    with pytest.raises(EngineError, match=f"no room for the engine .*out of memory.*{ADVICE}") as raised:
        open_runner(exported, tmp_path / "line.cada", api)
    assert not isinstance(raised.value, EngineMismatchError)


def test_a_warning_of_the_start_explains_no_failure_of_later(exported: Bundle, tmp_path: Path) -> None:
    """A batch that fails without a word is told as such, not with advice for what went by long ago."""
    build_fake(exported, tmp_path / "line.cada")
    gpu = FakeGpu()
    api = fake_tensorrt(gpu)

    class Runtime(api.Runtime):  # type: ignore[misc, name-defined]  # its base is known at run time only
        """Warns, and works."""

        def __init__(self, logger: Any) -> None:
            super().__init__(logger)
            logger.log(SimpleNamespace(name="WARNING"), FULL)

    api.Runtime = Runtime
    gpu.capturable = False  # the engine refuses to be recorded, without a word
    memory = CudaPythonMemory(fake_cudart(gpu))
    with TensorRTRunner(exported, tmp_path / "line.cada", None, TensorRT("tensorrt", api), memory) as runner:
        told = "stream: TensorRT failed on a batch: it says nothing of why; if it goes on, restart the program"
        assert runner.execution.startswith(told)


@needs_builder
def test_a_build_without_room_names_the_limit_that_was_given(exported: Bundle, tmp_path: Path) -> None:
    """NVIDIA's own builder, given 1 MiB: its words, the limit, and what to change."""
    config = EngineConfig("tensorrt-rtx", batch=(1, 1, 1024), target="8.6", workspace_mib=1)
    with pytest.raises(EngineError, match=r"could not build.*workspace limit.*a larger --workspace-mib than 1, a smal"):
        build_engine(exported, tmp_path, config)
