"""The runner on a real GPU; everything here skips, with the reason, where there is none."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from runtime_kit import SIDE, make_bundle

from cada_edge.cuda_device import compute_capability
from cada_edge.engine_key import Flavour
from cada_edge.engine_store import engines_folder
from cada_edge.errors import EngineError
from cada_edge.runtime.runners.memory import MemoryName, open_memory
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.runtime.runners.tensorrt import TensorRTOptions, TensorRTRunner

pytestmark = pytest.mark.gpu
PACKAGES: dict[MemoryName, str] = {"cuda-python": "cuda", "pycuda": "pycuda"}


@pytest.fixture(scope="module")
def flavour() -> Flavour:
    """The TensorRT that is installed here beside a GPU."""
    try:
        compute_capability()
    except EngineError as error:
        pytest.skip(str(error))
    if find_spec("tensorrt") is not None:
        return "tensorrt"
    if find_spec("tensorrt_rtx") is not None:
        return "tensorrt-rtx"
    pytest.skip("there is a GPU and no TensorRT: pip install 'cada-edge[tensorrt]'")


@pytest.fixture(scope="module")
def line(flavour: Flavour, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an engine of batches 1 to 4, built here from ordinary operators."""
    from cada_edge.export.engine import EngineConfig, build_engine

    path = tmp_path_factory.mktemp("gpu") / "line.cada"
    make_bundle().write(path)
    build_engine(make_bundle(), engines_folder(path), EngineConfig(flavour, batch=(1, 2, 4)))
    return path


def memory(name: MemoryName) -> MemoryName:
    """The package; skips where it is not installed."""
    if find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{name} is not installed")
    return name


@pytest.mark.parametrize("name", PACKAGES)
def test_bytes_come_back_from_the_gpu(flavour: Flavour, name: MemoryName) -> None:
    """Up, cleared on the host, and down again."""
    opened = open_memory(memory(name))
    buffer = opened.allocate(1 << 20)
    sent = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)
    buffer.host[:] = sent
    opened.upload(buffer)
    opened.synchronize()
    if not buffer.mapped:
        buffer.host[:] = 0
    opened.download(buffer)
    opened.synchronize()
    np.testing.assert_array_equal(buffer.host, sent)
    opened.close()


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_engine_judges_as_onnx_runtime_does(flavour: Flavour, line: Path, name: MemoryName, count: int) -> None:
    """Fewer pictures than the batch, as many, and more."""
    pictures = np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    options = TensorRTOptions(flavour, memory=memory(name))
    with TensorRTRunner(make_bundle(), line, options) as runner, OrtRunner(make_bundle(), 1) as reference:
        found, expected = runner.infer(pictures), reference.infer(pictures)
    for output in ("score", "map", "u", "gamma", "novelty"):
        np.testing.assert_allclose(getattr(found, output), getattr(expected, output), rtol=1e-4, atol=1e-4)


def test_a_graph_is_recorded_and_replays_the_same(flavour: Flavour, line: Path) -> None:
    """A hundred replays of one picture give the same bits."""
    options = TensorRTOptions(flavour, batch=1, memory=memory("cuda-python"), graphs="require")
    pictures = np.random.default_rng(9).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    with TensorRTRunner(make_bundle(), line, options) as runner:
        assert runner.execution == "CUDA graph"
        first = runner.infer(pictures).map
        for _ in range(100):
            np.testing.assert_array_equal(runner.infer(pictures).map, first)
