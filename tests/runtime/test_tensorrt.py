from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_kit import build_fake as build
from engine_kit import fake_key as key
from fake_cuda import PLUGIN_MARK, FakeGpu, fake_cudart, fake_pycuda, fake_tensorrt
from runtime_kit import CELLS, SIDE, make_bundle, picture, tiny_model

from cada_edge.bundle import Bundle
from cada_edge.engine_store import PLAN, PLUGIN, EngineRecord, KernelReport, engines_folder, store
from cada_edge.errors import EngineError, EngineMismatchError, PluginMissingError
from cada_edge.protocols import Runner
from cada_edge.runtime.runners.memory import Memory
from cada_edge.runtime.runners.memory.cuda_python import CudaPythonMemory
from cada_edge.runtime.runners.memory.pycuda import PycudaMemory
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.runtime.runners.tensorrt import TensorRTOptions, TensorRTRunner
from cada_edge.trt import TensorRT
from cada_edge.types import UInt8Array

OPENERS: dict[str, Callable[[FakeGpu], Memory]] = {
    "cuda-python": lambda gpu: CudaPythonMemory(fake_cudart(gpu)),
    "pycuda": lambda gpu: PycudaMemory(fake_pycuda(gpu)),
}
both = pytest.mark.parametrize("memory", OPENERS)
ALLOCATIONS = ("cudaHostAlloc", "cudaMalloc", "pagelocked_empty", "mem_alloc")


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """Where the bundle is."""
    return tmp_path / "line.cada"


def open_runner(
    bundle: Bundle, line: Path, gpu: FakeGpu, memory: str = "cuda-python", *, api: Any = None, **options: Any
) -> TensorRTRunner:
    """A runner on the fake GPU."""
    tensorrt = TensorRT("tensorrt", api or fake_tensorrt(gpu))
    return TensorRTRunner(bundle, line, TensorRTOptions(**options), tensorrt, OPENERS[memory](gpu))


def noise(count: int) -> UInt8Array:
    """uint8 (count, SIDE, SIDE, 3), different pictures."""
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


@both
@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_pictures_is_judged_as_the_graph_judges(
    bundle: Bundle, line: Path, memory: str, integrated: bool, count: int
) -> None:
    """Fewer than the engine's batch, as many, and more: every row is the graph's own answer."""
    build(bundle, line)
    with open_runner(bundle, line, FakeGpu(integrated=integrated), memory) as runner, OrtRunner(bundle) as reference:
        found, expected = runner.infer(noise(count)), reference.infer(noise(count))
    for name in ("score", "map", "u", "gamma", "novelty"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_it_is_a_runner(bundle: Bundle, line: Path) -> None:
    """It has every method the line asks of a runner."""
    stored = build(bundle, line)
    with open_runner(bundle, line, FakeGpu()) as runner:
        assert isinstance(runner, Runner)
        assert (runner.spec, runner.map_spec) == (bundle.manifest.spec, bundle.manifest.map_spec)
        assert runner.engine == stored


@both
def test_a_frame_allocates_nothing_and_copies_what_it_must(bundle: Bundle, line: Path, memory: str) -> None:
    """After opening, calls move one input and five outputs of the batch's exact size, and no more."""
    build(bundle, line)
    gpu = FakeGpu()
    with open_runner(bundle, line, gpu, memory) as runner:
        before = {name: gpu.calls[name] for name in ALLOCATIONS}
        gpu.copies.clear()
        for _ in range(3):
            runner.infer(noise(2))
        assert {name: gpu.calls[name] for name in ALLOCATIONS} == before
    once = [("up", 2 * SIDE * SIDE * 3), ("down", 8), ("down", 8 * CELLS * CELLS), *[("down", 8)] * 3]
    assert gpu.copies == once * 3


def test_where_memory_is_shared_nothing_is_copied(bundle: Bundle, line: Path) -> None:
    """As on a Jetson: the GPU reads and writes the page-locked buffers themselves."""
    build(bundle, line)
    gpu = FakeGpu(integrated=True)
    with open_runner(bundle, line, gpu) as runner:
        runner.infer(noise(2))
    assert gpu.copies == []
    assert gpu.calls["cudaMalloc"] == 0


def test_each_call_replays_one_graph(bundle: Bundle, line: Path) -> None:
    """Recorded once after a first run; then one launch and one wait for each call."""
    build(bundle, line)
    gpu = FakeGpu()
    with open_runner(bundle, line, gpu) as runner:
        assert runner.execution == "CUDA graph"
        assert gpu.calls["execute_async_v3"] == 2  # the first run and the recording
        waits = gpu.calls["cudaStreamSynchronize"]
        for _ in range(4):
            runner.infer(noise(2))
        assert gpu.calls["cudaGraphLaunch"] == 4
        assert gpu.calls["cudaStreamSynchronize"] == waits + 4
        assert gpu.calls["execute_async_v3"] == 2
    assert gpu.calls["cudaGraphExecDestroy"] == 1


@pytest.mark.parametrize(
    ("memory", "graphs", "capturable", "told"),
    [
        ("pycuda", "auto", True, "stream: pycuda has no CUDA graphs"),
        ("cuda-python", "never", True, "stream: graphs are switched off"),
        ("cuda-python", "auto", False, "stream: TensorRT failed on a batch"),
    ],
)
def test_without_a_graph_it_says_why_and_judges_the_same(  # noqa: PLR0917  # one value for each column
    bundle: Bundle, line: Path, memory: str, graphs: str, capturable: bool, told: str
) -> None:
    """Each call is queued anew, and `execution` states the reason."""
    build(bundle, line)
    gpu = FakeGpu()
    gpu.capturable = capturable
    with open_runner(bundle, line, gpu, memory, graphs=graphs) as runner, OrtRunner(bundle) as reference:
        assert runner.execution.startswith(told)
        np.testing.assert_array_equal(runner.infer(noise(3)).map, reference.infer(noise(3)).map)


def test_a_graph_that_is_required_is_required(bundle: Bundle, line: Path) -> None:
    """Then doing without is an error."""
    build(bundle, line)
    with pytest.raises(EngineError, match="no CUDA graph can be recorded: pycuda has no"):
        open_runner(bundle, line, FakeGpu(), "pycuda", graphs="require")


def test_the_arrays_of_one_call_survive_the_next(bundle: Bundle, line: Path) -> None:
    """They are the caller's, not views of the page-locked buffers."""
    build(bundle, line)
    with open_runner(bundle, line, FakeGpu()) as runner:
        first = runner.infer(noise(2))
        kept = first.map.copy()
        runner.infer(255 - noise(2))
    np.testing.assert_array_equal(first.map, kept)


@both
def test_closing_frees_everything(bundle: Bundle, line: Path, memory: str) -> None:
    """And a closed runner, twice closed, says that it is."""
    build(bundle, line)
    gpu = FakeGpu()
    runner = open_runner(bundle, line, gpu, memory)
    runner.close()
    runner.close()
    assert gpu.blocks == {}
    with pytest.raises(EngineError, match="closed"):
        runner.infer(noise(1))


def test_a_batch_can_be_asked_for(bundle: Bundle, line: Path) -> None:
    """Within the engine's range, whatever it was tuned for."""
    build(bundle, line)
    gpu = FakeGpu()
    with open_runner(bundle, line, gpu, batch=4) as runner:
        gpu.copies.clear()
        runner.infer(picture(9)[None])
    assert gpu.copies[0] == ("up", 4 * SIDE * SIDE * 3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": "10.16.0.72"}, r"version is 10.16.0.72 in the engine and 10.3.0.30 here"),
        ({"compute_capability": "11.0"}, r"compute_capability is 11.0 in the engine and 8.7 here"),
        ({"flavour": "tensorrt-rtx"}, r"flavour is tensorrt-rtx in the engine and tensorrt here"),
        ({"onnx_sha256": "a" * 64}, r"onnx_sha256 is aaaaaaaaaaaa... in the engine and"),
    ],
)
def test_a_foreign_engine_is_refused_with_the_command(
    bundle: Bundle, line: Path, changes: dict[str, Any], told: str
) -> None:
    """The field, both values, and what to type here."""
    build(bundle, line, **changes)
    with pytest.raises(EngineMismatchError, match=rf"{told}.*cada-edge engine build .*line.cada --backend tensorrt"):
        open_runner(bundle, line, FakeGpu())


def test_a_batch_out_of_range_is_a_mismatch(bundle: Bundle, line: Path) -> None:
    """The command builds one for it."""
    build(bundle, line)
    with pytest.raises(EngineMismatchError, match=r"batch is 1x2x4 in the engine and 8x8x8 here.*--batch 8,8,8"):
        open_runner(bundle, line, FakeGpu(), batch=8)


def test_among_engines_the_one_that_fits_is_taken(bundle: Bundle, line: Path) -> None:
    """Foreign ones beside it do not matter, and one with the plugin is preferred."""
    build(bundle, line, version="11.1.0.106")
    build(bundle, line)
    wanted = build(bundle, line, plugin=PLUGIN_MARK + b"2")
    with open_runner(bundle, line, FakeGpu()) as runner:
        assert runner.engine == wanted


def test_a_bundle_without_engines_names_the_command(bundle: Bundle, line: Path) -> None:
    """Nothing else runs in its place."""
    with pytest.raises(EngineError, match=r"has no engine yet; build one here: cada-edge engine build .*line.cada"):
        open_runner(bundle, line, FakeGpu())


def test_a_truncated_plan_is_refused(bundle: Bundle, line: Path) -> None:
    """Before TensorRT reads a byte of it."""
    stored = build(bundle, line)
    (stored.folder / PLAN).write_bytes(stored.plan()[:-100])
    with pytest.raises(EngineError, match="truncated or changed"):
        open_runner(bundle, line, FakeGpu())


def test_a_plan_that_tensorrt_cannot_read_is_refused(bundle: Bundle, line: Path) -> None:
    """With TensorRT's own words and the command."""
    plan = b"no plan"
    record = EngineRecord(key(bundle), hashlib.sha256(plan).hexdigest(), len(plan), "", "0", {}, KernelReport())
    store(engines_folder(line), record, plan)
    with pytest.raises(EngineMismatchError, match=r"magicTag failed; build it again here: cada-edge engine build"):
        open_runner(bundle, line, FakeGpu())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"plugin.so cannot be read.*cada-edge plugin build"),
        (PLUGIN_MARK + b"2 and more", r"has sha256 .*, the engine was built with .*build the engine again"),
    ],
)
def test_a_plugin_library_that_is_gone_or_changed_is_refused(
    bundle: Bundle, line: Path, content: bytes | None, told: str
) -> None:
    """The engine would compute something else, or not load at all."""
    stored = build(bundle, line, plugin=PLUGIN_MARK + b"2")
    (stored.folder / PLUGIN).unlink()
    if content is not None:
        (stored.folder / PLUGIN).write_bytes(content)
    with pytest.raises(EngineError, match=told):
        open_runner(bundle, line, FakeGpu())


@pytest.mark.parametrize(
    ("plugin", "told"),
    [
        (PLUGIN_MARK + b"1", r"has CadaNormalize of version 1, needed is 2; build it here: cada-edge plugin build"),
        (PLUGIN_MARK + b"3", r"of version 3, needed is 2; the graph is of an older cada-edge: run cada-edge export"),
        (b"\x7fELF", r"is no TensorRT plugin library"),
    ],
)
def test_another_plugin_library_is_refused(bundle: Bundle, line: Path, plugin: bytes, told: str) -> None:
    """TensorRT itself would say nothing; of an older library and an older graph, the older one is to be made again."""
    build(bundle, line, plugin=plugin)
    with pytest.raises(PluginMissingError, match=told):
        open_runner(bundle, line, FakeGpu())


@both
def test_a_gpu_without_room_is_one_error_and_nothing_stays(bundle: Bundle, line: Path, memory: str) -> None:
    """The buffers had before are freed."""
    build(bundle, line)
    gpu = FakeGpu()
    gpu.room_bytes = 4 * SIDE * SIDE * 3
    with pytest.raises(EngineError, match=r"out of memory.*smaller batch"):
        open_runner(bundle, line, gpu, memory)
    assert gpu.blocks == {}


def test_a_gpu_without_room_for_the_engine_says_so(bundle: Bundle, line: Path) -> None:
    """With TensorRT's own words."""
    build(bundle, line)
    gpu = FakeGpu()
    with pytest.raises(EngineError, match=r"Requested size was 4096 bytes.*smaller batch"):
        open_runner(bundle, line, gpu, api=fake_tensorrt(gpu, engine_room=False))


@both
def test_a_gpu_that_is_lost_is_an_error_for_each_call(bundle: Bundle, line: Path, memory: str) -> None:
    """Every later batch is refused, none is judged with old numbers, and closing still works."""
    build(bundle, line)
    gpu = FakeGpu()
    with open_runner(bundle, line, gpu, memory) as runner:
        runner.infer(noise(2))
        gpu.lost = True
        for _ in range(2):
            with pytest.raises(EngineError, match=r"GPU failed|TensorRT failed"):
                runner.infer(noise(2))


def test_an_engine_of_another_contract_is_refused(bundle: Bundle, line: Path) -> None:
    """Maps of another size than the bundle says never reach a verdict."""
    other = make_bundle(tiny_model(side=SIDE))
    manifest = replace(other.manifest, map_spec=replace(other.manifest.map_spec, size_hw=(CELLS // 2, CELLS // 2)))
    build(other, line)
    with pytest.raises(EngineError, match=r"map as FLOAT \(2, 8, 8\), the bundle says FLOAT \(2, 4, 4\)"):
        open_runner(replace(other, manifest=manifest), line, FakeGpu())


def test_a_wrong_batch_is_refused(bundle: Bundle, line: Path) -> None:
    """As by every runner."""
    build(bundle, line)
    with open_runner(bundle, line, FakeGpu()) as runner, pytest.raises(EngineError, match=r"expected uint8"):
        runner.infer(np.zeros((1, 3, SIDE, SIDE), np.uint8))
