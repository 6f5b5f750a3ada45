"""On a GPU the kernels give, bit for bit, what their host build gives."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from plugin_kit import Case, make_case

from cada_edge.export.plugin.host import HostPlugin

torch = pytest.importorskip("torch", reason="the kernels are launched on torch's memory")

from gpu_kit import GpuCall, build_driver  # noqa: E402  # after the skip

pytestmark = pytest.mark.gpu
LITE0 = [(40, 32, 32), (112, 16, 16), (320, 8, 8)]
CASES = {
    "lite0": make_case(LITE0, (64, 64), batch=8, top=0.01),
    "half": make_case(LITE0, (64, 64), batch=3, half=True),
    "odd": make_case([(7, 9, 13), (33, 5, 7)], (17, 23)),
    "odd-half": make_case([(7, 9, 13), (33, 6, 10)], (17, 23), half=True),
    "distances": make_case(LITE0, (64, 64), "distances", batch=5),
    "beyond-shared-memory": make_case([(8, 10, 10)], (70, 90)),
    "longest-window": make_case([(16, 8, 8)], (33, 20), taps=31),
}
CHECKED = """
import sys
from pathlib import Path
import torch
from gpu_kit import GpuCall
from test_gpu import CASES
for case in CASES.values():
    GpuCall(Path(sys.argv[1]), case).launch()
torch.cuda.synchronize()
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels for this GPU."""
    return build_driver(tmp_path_factory.mktemp("driver"))


def by_host(host: HostPlugin, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Map and score of the host build."""
    return host.run(case.inputs, case.u, case.gamma, case.fusion.attributes())


@pytest.mark.parametrize("name", CASES)
def test_the_gpu_gives_the_host_build_s_bits(driver: Path, host: HostPlugin, name: str) -> None:
    """The arithmetic is specified to the bit, and both compilers keep to it, run after run."""
    call = GpuCall(driver, CASES[name])
    wanted = by_host(host, CASES[name])
    for _ in range(3):
        call.launch()
        torch.cuda.synchronize()
        assert np.array_equal(call.map.cpu().numpy(), wanted[0])
        assert np.array_equal(call.score.cpu().numpy(), wanted[1])


@pytest.mark.parametrize("name", ["lite0", "distances"])
def test_it_can_be_captured_into_a_cuda_graph(driver: Path, host: HostPlugin, name: str) -> None:
    """A replay reads new inputs from the same memory and gives their numbers."""
    call = GpuCall(driver, CASES[name])
    call.launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call.launch()
    other = make_case(LITE0, (64, 64), CASES[name].fusion.mode, batch=len(CASES[name].u), top=0.01, seed=9)
    for target, source in zip(call.tensors, [*other.inputs, other.u, other.gamma], strict=True):
        target.copy_(torch.from_numpy(source))
    graph.replay()
    torch.cuda.synchronize()
    same = Case(CASES[name].fusion, other.inputs, other.u, other.gamma)
    assert np.array_equal(call.score.cpu().numpy(), by_host(host, same)[1])


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer_finds_nothing(driver: Path, tool: str) -> None:
    """No access out of bounds, race, uninitialised read or divergent barrier in any case."""
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed")
    path = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
    options = ["--tool", tool, "--error-exitcode", "9", "--kernel-name-exclude", "kernel_substring=at::"]
    command = [sanitizer, *options, sys.executable, "-c", path + CHECKED, str(driver)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
