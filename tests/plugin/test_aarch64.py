"""A plugin cross-built for Jetsons registers in NVIDIA's own aarch64 runtime, under an emulator.

`tests/peers/aarch64_runtime.sh` fetches what this needs. NVIDIA's headers are used where
CADA_EDGE_TENSORRT_HEADERS names them, else our double of them.
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
SLOTS = {"10": ("10", "14"), "11": ("6", "10")}  # of loadLibrary and getCreator in the registry's virtual functions
LIMIT_S = 120.0
pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture(scope="module")
def fetched() -> Path:
    """The folder that the script filled; skips where something is missing."""
    named = os.environ.get("CADA_EDGE_AARCH64", "")
    if named == "0":
        pytest.skip("CADA_EDGE_AARCH64=0 switches it off")
    if not named:
        pytest.skip("CADA_EDGE_AARCH64 is not set; run tests/peers/aarch64_runtime.sh FOLDER")
    for program in (CROSS, EMULATOR, "nvcc", "cmake"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return Path(named)


@pytest.fixture(scope="module")
def headers(double: Path) -> Path:
    """The oldest of NVIDIA's headers that are named, else our double."""
    folders = [Path(p) for p in os.environ.get("CADA_EDGE_TENSORRT_HEADERS", "").split(os.pathsep) if p]
    return min(folders, key=lambda folder: [int(part) for part in headers_version(folder).split(".")], default=double)


def done(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, which must come."""
    words = [str(part) for part in command]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT_S)


@pytest.fixture(scope="module", params=["87", "110"], ids=["orin", "thor"])
def library(
    request: pytest.FixtureRequest, fetched: Path, headers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The plugin of one board, cross-built with the toolchain file."""
    folder = tmp_path_factory.mktemp("cross")
    settings = {
        "CMAKE_TOOLCHAIN_FILE": CMAKE / "aarch64-toolchain.cmake",
        "CADA_EDGE_AARCH64_CUDART": fetched / "cuda/nvidia/cu13/lib",
        "TensorRT_INCLUDE_DIR": headers,
        "CMAKE_CUDA_ARCHITECTURES": request.param,
    }
    options = [f"-D{name}={value}" for name, value in settings.items()]
    configured = done("cmake", "-S", CMAKE, "-B", folder, "-G", "Unix Makefiles", *options)
    assert configured.returncode == 0, configured.stderr
    built = done("cmake", "--build", folder)
    assert built.returncode == 0, built.stderr
    return folder / LIBRARY


@pytest.fixture(scope="module")
def program(fetched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What loads a library into a runtime and asks for the plugin, for aarch64."""
    del fetched  # without it there is no cross compiler
    path = tmp_path_factory.mktemp("register") / "register"
    source = Path(__file__).with_name("register.cpp")
    compiled = done(CROSS, "-std=c++17", "-Wall", "-Werror", source, "-ldl", "-o", path)
    assert compiled.returncode == 0, compiled.stderr
    return path


def register(program: Path, fetched: Path, library: Path, major: str) -> subprocess.CompletedProcess[str]:
    """Load `library` into the lean runtime of TensorRT `major`."""
    runtime = next((fetched / f"lean-{major}").rglob("libnvinfer_lean.so.*"))
    return done(EMULATOR, "-L", SYSROOT, program, runtime, library, *SLOTS[major])


@pytest.mark.parametrize("major", SLOTS)
def test_it_registers_in_nvidia_s_runtime(library: Path, program: Path, fetched: Path, major: str) -> None:
    """One binary, built against one header, is loaded and found by TensorRT 10 and by 11."""
    ran = register(program, fetched, library, major)
    assert (ran.returncode, ran.stdout) == (0, "version 2: 1, version 1: 0\n"), ran.stderr


@pytest.mark.parametrize("major", SLOTS)
def test_a_library_that_is_no_plugin_does_not_register(program: Path, fetched: Path, major: str) -> None:
    """So the test above can fail: CUDA's own runtime is loaded by neither."""
    other = next((fetched / "cuda").rglob("libcudart.so.*"))
    assert register(program, fetched, other, major).returncode != 0
