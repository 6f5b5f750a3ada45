"""FindTensorRT.cmake finds every layout TensorRT comes in, and says so when it does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cada_edge.export.plugin import CMAKE

CMAKE_DIR = CMAKE
PLAIN = "#define NV_TENSORRT_MAJOR 10 //!< major\n#define NV_TENSORRT_MINOR 3\n#define NV_TENSORRT_PATCH 0\n"
ALIASED = "".join(
    f"#define TRT_{part}_ENTERPRISE {number}\n#define NV_TENSORRT_{part} TRT_{part}_ENTERPRISE //!< alias\n"
    for part, number in {"MAJOR": 11, "MINOR": 1, "PATCH": 0, "BUILD": 106}.items()
)
RTX = ALIASED.replace("ENTERPRISE", "RTX").replace(" 11\n", " 1\n")
PROJECT = """
cmake_minimum_required(VERSION 3.22)
project(probe LANGUAGES NONE)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(TensorRT_NO_SYSTEM_PATHS ON)
list(PREPEND CMAKE_MODULE_PATH "%(modules)s")
find_package(TensorRT %(arguments)s)
message(STATUS "found=${TensorRT_FOUND} version=${TensorRT_VERSION} flavor=${TensorRT_FLAVOR}")
if(TARGET TensorRT::nvinfer)
  get_target_property(location TensorRT::nvinfer IMPORTED_LOCATION)
  get_target_property(headers TensorRT::nvinfer INTERFACE_INCLUDE_DIRECTORIES)
  message(STATUS "location=${location} headers=${headers}")
endif()
"""


def cmake() -> str:
    """The cmake of this environment (a dev requirement), else the system's, else skip."""
    beside = Path(sys.executable).with_name("cmake")
    found = str(beside) if beside.exists() else shutil.which("cmake")
    if found is None:
        pytest.skip("cmake is not installed; pip install 'cada-edge[dev]' brings it")
    return found


def configure(folder: Path, root: Path, arguments: str = "") -> subprocess.CompletedProcess[str]:
    """Configure a probe project with TensorRT_ROOT set to `root`."""
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(PROJECT % {"modules": CMAKE_DIR, "arguments": arguments})
    command = [cmake(), "-S", str(folder), "-B", str(folder / "build"), f"-DTensorRT_ROOT={root}"]
    generator = {**os.environ, "CMAKE_GENERATOR": os.environ.get("CMAKE_GENERATOR", "Unix Makefiles")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=generator)


def tree(root: Path, *files: str, header: str = PLAIN) -> Path:
    """A fake installation: empty libraries and a version header."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(header if name.endswith(".h") else "")
    return root


LAYOUTS = {
    "tar": ("include/NvInferVersion.h", "lib/libnvinfer.so"),
    "jetson": ("include/aarch64-linux-gnu/NvInferVersion.h", "lib/aarch64-linux-gnu/libnvinfer.so"),
    "sdk": ("targets/aarch64-linux-gnu/include/NvInferVersion.h", "targets/aarch64-linux-gnu/lib/libnvinfer.so"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_finds_every_layout_with_headers(tmp_path: Path, layout: str) -> None:
    """Tar, Jetson/Debian multiarch and SDK folders give version, target, library and headers."""
    header, library = LAYOUTS[layout]
    root = tree(tmp_path / "trt", header, library)
    done = configure(tmp_path / "probe", root, "10.3 REQUIRED")
    assert "found=TRUE version=10.3.0 flavor=TensorRT" in done.stdout, done.stderr
    assert f"location={root / library} headers={(root / header).parent}" in done.stdout


@pytest.mark.parametrize(
    ("header", "expected"), [(ALIASED, "11.1.0.106 flavor=TensorRT"), (RTX, "1.1.0.106 flavor=RTX")]
)
def test_it_follows_version_macros_of_newer_headers(tmp_path: Path, header: str, expected: str) -> None:
    """Headers in which the version stands behind a second macro are understood."""
    root = tree(tmp_path / "trt", "include/NvInferVersion.h", "lib/libnvinfer.so", header=header)
    assert f"version={expected}" in configure(tmp_path / "probe", root).stdout


@pytest.mark.parametrize(
    ("library", "metadata", "expected"),
    [
        ("tensorrt_libs/libnvinfer.so.10", "tensorrt_cu12_libs-10.16.1.11.dist-info", "10.16.1.11 flavor=TensorRT"),
        ("tensorrt_rtx_libs/libtensorrt_rtx.so.1", "tensorrt_rtx_cu13_libs-1.7.0.31.dist-info", "1.7.0.31 flavor=RTX"),
    ],
)
def test_it_finds_python_wheels(tmp_path: Path, library: str, metadata: str, expected: str) -> None:
    """Wheels carry libraries without headers or plain names; their metadata tells the version."""
    root = tree(tmp_path / "site-packages", library, f"{metadata}/METADATA")
    done = configure(tmp_path / "probe", root, "REQUIRED COMPONENTS nvinfer")
    assert f"found=TRUE version={expected}" in done.stdout, done.stderr
    assert f"location={root / library}" in done.stdout


def test_it_reads_the_version_behind_the_link(tmp_path: Path) -> None:
    """A library without headers or metadata still has its version in its real name."""
    root = tree(tmp_path / "trt", "lib/libnvinfer.so.10.3.0")
    (root / "lib/libnvinfer.so").symlink_to("libnvinfer.so.10.3.0")
    assert "version=10.3.0" in configure(tmp_path / "probe", root).stdout


@pytest.mark.parametrize("arguments", ["10.4", "10.0...10.2", "REQUIRED COMPONENTS nvonnxparser", "10.4 REQUIRED"])
def test_it_refuses_what_does_not_fit(tmp_path: Path, arguments: str) -> None:
    """Too old, out of range or without a wanted component is not found, and REQUIRED fails."""
    root = tree(tmp_path / "trt", "include/NvInferVersion.h", "lib/libnvinfer.so")
    done = configure(tmp_path / "probe", root, arguments)
    assert "found=TRUE" not in done.stdout
    assert (done.returncode != 0) == ("REQUIRED" in arguments)


def test_an_absent_tensorrt_says_what_to_set(tmp_path: Path) -> None:
    """REQUIRED without an installation names the places searched and the variable to set."""
    done = configure(tmp_path / "probe", tmp_path, "REQUIRED")
    assert done.returncode != 0
    assert "Set TensorRT_ROOT" in " ".join(done.stderr.split())
    assert str(tmp_path) in done.stderr


def test_the_project_configures_and_reports_without_tensorrt(tmp_path: Path) -> None:
    """cmake/ configures on any machine and says honestly what it found."""
    command = [
        cmake(),
        "-S",
        str(CMAKE_DIR),
        "-B",
        str(tmp_path),
        "-G",
        "Unix Makefiles",
        "-DTensorRT_NO_SYSTEM_PATHS=ON",
        "-DCADA_EDGE_BUILD_PLUGIN=OFF",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "TensorRT: not found; cada-edge runs on ONNX Runtime" in done.stdout


def configure_plugin(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Configure cmake/ itself, with nothing of this machine's TensorRT."""
    command = [
        cmake(),
        "-S",
        str(CMAKE_DIR),
        "-B",
        str(folder),
        "-G",
        "Unix Makefiles",
        "-DTensorRT_NO_SYSTEM_PATHS=ON",
    ]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def test_missing_headers_name_package_repository_and_variable(tmp_path: Path) -> None:
    """Without TensorRT's headers the error says where they come from and which variable to set."""
    said = " ".join(configure_plugin(tmp_path).stderr.split())
    for part in ("libnvinfer-headers-dev", "github.com/NVIDIA/TensorRT", "-DTensorRT_INCLUDE_DIR"):
        assert part in said


def test_old_headers_are_refused_with_both_versions(tmp_path: Path) -> None:
    """Headers older than 10.3 cannot build the plugin."""
    old = PLAIN.replace("MINOR 3", "MINOR 2")
    root = tree(tmp_path / "trt", "include/NvInferVersion.h", "include/NvInferRuntime.h", header=old)
    done = configure_plugin(tmp_path / "build", f"-DTensorRT_INCLUDE_DIR={root / 'include'}")
    assert "headers are 10.2.0, expected 10.3 or newer" in " ".join(done.stderr.split())


def test_the_toolchain_asks_for_cuda_s_runtime(tmp_path: Path) -> None:
    """A cross build without CUDA's static runtime for aarch64 says which file it wants."""
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={CMAKE_DIR / 'aarch64-toolchain.cmake'}"
    said = " ".join(configure_plugin(tmp_path, toolchain, "-DCADA_EDGE_AARCH64_CUDART=/nowhere").stderr.split())
    assert "expected a folder with libcudart_static.a for aarch64" in said


def test_every_board_has_its_preset() -> None:
    """Orin, Thor and workstations, on the device and cross-built, with their GPU's architecture."""
    presets = json.loads((CMAKE_DIR / "CMakePresets.json").read_text())
    found = {
        p["name"]: p.get("cacheVariables", {}).get("CMAKE_CUDA_ARCHITECTURES") or p["inherits"]
        for p in presets["configurePresets"]
        if not p.get("hidden")
    }
    assert found == {
        "orin": "87",
        "thor": "110",
        "desktop": "86-real;89-real;90-real;120",
        "orin-cross": "orin",
        "thor-cross": "thor",
    }
    assert {p["name"] for p in presets["buildPresets"]} == set(found)


def test_it_installs_the_plugin(tmp_path: Path) -> None:
    """Built against any headers that have the V3 classes, the library is installed under lib/."""
    if not (shutil.which("nvcc") or Path("/usr/local/cuda/bin/nvcc").is_file()):
        pytest.skip("nvcc is not installed")
    headers = Path(__file__).resolve().parents[1] / "plugin" / "double"
    options = [
        f"-DTensorRT_INCLUDE_DIR={headers}",
        "-DCMAKE_CUDA_ARCHITECTURES=87-virtual",
        "-DCMAKE_INSTALL_LIBDIR=lib",
    ]
    done = configure_plugin(tmp_path / "build", *options)
    assert done.returncode == 0, done.stderr
    for command in (["--build", "build"], ["--install", "build", "--prefix", "root"]):
        done = subprocess.run([cmake(), *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "root/lib/libcada_normalize.so").is_file()
