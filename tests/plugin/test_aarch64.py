"""A plugin cross-built for Jetsons registers in NVIDIA's own aarch64 runtime, under an emulator.

`tests/peers/aarch64_runtime.sh` fetches what this needs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cada_edge.export.plugin import CMAKE, LIBRARY
from cada_edge.export.plugin.build import headers_version

CROSS, EMULATOR, SYSROOT = "aarch64-linux-gnu-g++", "qemu-aarch64-static", Path("/usr/aarch64-linux-gnu")
CUDA = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"
pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture(scope="module")
def fetched() -> Path:
    """The folder that the script filled; skips where something is missing."""
    named = os.environ.get("CADA_EDGE_AARCH64")
    if not named:
        pytest.skip("CADA_EDGE_AARCH64 is not set; run tests/peers/aarch64_runtime.sh FOLDER")
    for program in (CROSS, EMULATOR, "nvcc", "cmake"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return Path(named)


@pytest.fixture(scope="module")
def headers() -> dict[str, Path]:
    """NVIDIA's headers by major version; skips without them."""
    folders = [Path(p) for p in os.environ.get("CADA_EDGE_TENSORRT_HEADERS", "").split(os.pathsep) if p]
    if not folders:
        pytest.skip("CADA_EDGE_TENSORRT_HEADERS names no folders of NVIDIA's headers")
    return {headers_version(folder).split(".")[0]: folder for folder in reversed(folders)}


def done(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=["87", "110"], ids=["orin", "thor"])
def library(
    request: pytest.FixtureRequest, fetched: Path, headers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The plugin of one board, cross-built against the oldest headers with the toolchain file."""
    folder = tmp_path_factory.mktemp("cross")
    settings = {
        "CMAKE_TOOLCHAIN_FILE": CMAKE / "aarch64-toolchain.cmake",
        "CADA_EDGE_AARCH64_CUDART": fetched / "cuda/nvidia/cu13/lib",
        "TensorRT_INCLUDE_DIR": headers[min(headers, key=int)],
        "CMAKE_CUDA_ARCHITECTURES": request.param,
    }
    options = [f"-D{name}={value}" for name, value in settings.items()]
    configured = done("cmake", "-S", CMAKE, "-B", folder, "-G", "Unix Makefiles", *options)
    assert configured.returncode == 0, configured.stderr
    built = done("cmake", "--build", folder)
    assert built.returncode == 0, built.stderr
    return folder / LIBRARY


@pytest.mark.parametrize("major", ["10", "11"])
def test_it_registers_in_nvidia_s_runtime(
    library: Path, fetched: Path, headers: dict[str, Path], tmp_path: Path, major: str
) -> None:
    """One binary, built against the older headers, is loaded and found by TensorRT 10 and by 11."""
    if major not in headers:
        pytest.skip(f"no headers of TensorRT {major}")
    program = tmp_path / "register"
    includes = [f"-isystem{headers[major]}", f"-isystem{CUDA}"]
    source = Path(__file__).with_name("register.cpp")
    compiled = done(CROSS, "-std=c++17", *includes, source, "-ldl", "-o", program)
    assert compiled.returncode == 0, compiled.stderr
    runtime = next((fetched / f"lean-{major}").rglob("libnvinfer_lean.so.*"))
    ran = done(EMULATOR, "-L", SYSROOT, program, runtime, library)
    assert (ran.returncode, ran.stdout) == (0, "version 2: 1, version 1: 0\n"), ran.stderr
