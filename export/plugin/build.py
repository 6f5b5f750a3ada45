"""Builds the plugin on this machine with CMake and nvcc, once for each TensorRT and each set of GPUs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cada_edge.engine_store import make_folder
from cada_edge.errors import ConfigError, EngineError, MissingDependencyError
from cada_edge.export.plugin import CMAKE, LIBRARY, SOURCES, make_cache, plugin_path
from cada_edge.imaging import write_atomic

_MULTIARCH = "/usr/include/{}-linux-gnu"
_PLACES = ("/usr/local/tensorrt/include", "/usr/src/tensorrt/include", "/opt/tensorrt/include", "/usr/include")
_CMAKE = Path(sys.executable).with_name("cmake")
_NVCC = Path("/usr/local/cuda/bin/nvcc")
_ARCHITECTURE = re.compile(r"\d{2,3}a?(-real|-virtual)?")
DESKTOP = "86-real;89-real;90-real;120"


def build_plugin(headers: Path | None = None, architectures: str | None = None, out: Path | None = None) -> Path:
    """Build the plugin, or take it from the cache; returns the library's path.

    Args:
        headers: folder with NVIDIA's ``NvInferRuntime.h``; default is where JetPack and Debian put them.
        architectures: GPUs as CMake writes them, e.g. ``87`` (Orin), ``110`` (Thor) or ``86-real;120``;
            default is the GPU of this machine, else `DESKTOP`.
        out: copy the library to this file too.

    Raises:
        ConfigError: a folder without headers, or an architecture that is none.
        DataError: the cache or `out` cannot be written.
        MissingDependencyError: cmake or nvcc is not installed.
        EngineError: the build failed; the message holds the compiler's.
    """
    found = find_headers(headers)
    wanted = architectures or _here() or DESKTOP
    if not all(_ARCHITECTURE.fullmatch(part) for part in wanted.split(";")):
        raise ConfigError(f"architectures: got {wanted!r}, expected numbers such as 87 or 86-real;120")
    library = plugin_path(headers_version(found), wanted)
    if not library.is_file():
        _build(found, wanted, library)
    if out is not None:
        make_folder(out.parent)
        write_atomic(out, library.read_bytes())
    return out or library


def situation(headers: Path | None = None) -> dict[str, str]:
    """What a build here would use, in words: TensorRT's headers, GPUs, cmake and nvcc."""
    try:
        found = find_headers(headers)
        described = f"{headers_version(found)} in {found}"
    except ConfigError as error:
        described = str(error).removeprefix("headers: ")
    return {
        "headers": described,
        "architectures": _here() or f"{DESKTOP} (no GPU found here)",
        "cmake": _which("cmake", _CMAKE) or "not installed",
        "nvcc": _which("nvcc", _NVCC) or "not installed",
    }


def find_headers(given: Path | None = None) -> Path:
    """Folder of TensorRT's headers. Raises `ConfigError` that says where they come from."""
    root = os.environ.get("TensorRT_ROOT")  # noqa: SIM112  # CMake's own spelling
    usual = [*([f"{root}/include"] if root else []), *_PLACES, _MULTIARCH.format(os.uname().machine)]
    places = [given, given / "include"] if given else [Path(place) for place in usual]
    for place in places:
        if (place / "NvInferRuntime.h").is_file() and (place / "NvInferVersion.h").is_file():
            return place.resolve()
    raise ConfigError(
        f"headers: no NvInferRuntime.h in {', '.join(map(str, places))}. On a Jetson: sudo apt-get install "
        "libnvinfer-headers-dev; elsewhere take the include/ folder of github.com/NVIDIA/TensorRT at the tag of your "
        "version and name it with --headers"
    )


def headers_version(headers: Path) -> str:
    """Version that ``NvInferVersion.h`` states, e.g. ``10.3.0``. Raises `ConfigError`."""
    text = (headers / "NvInferVersion.h").read_text(encoding="utf-8", errors="replace")
    numbers = [_macro(text, f"NV_TENSORRT_{part}") for part in ("MAJOR", "MINOR", "PATCH")]
    if None in numbers:
        raise ConfigError(f"headers: {headers}/NvInferVersion.h states no version; they are not TensorRT's of 10 or 11")
    return ".".join(str(number) for number in numbers)


def _macro(text: str, name: str) -> str | None:
    """A macro's number; from 10.13 on it stands behind a second macro."""
    match = re.search(rf"#define\s+{name}\s+(\w+)", text)
    if match is None or match[1].isdecimal():
        return match and match[1]
    return _macro(text, match[1])


def _here() -> str | None:
    """Compute capability of this machine's GPU without its dot, or ``None``. Jetsons older than JetPack 7 lack it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "87" if Path("/etc/nv_tegra_release").exists() else None
    query = [tool, "--query-gpu=compute_cap", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)  # noqa: S603  # a fixed command
    found = sorted({line.replace(".", "") for line in done.stdout.split() if re.fullmatch(r"\d+\.\d", line)})
    return ";".join(found) or None


def _which(name: str, elsewhere: Path) -> str | None:
    return shutil.which(name) or (str(elsewhere) if elsewhere.is_file() else None)


def _program(name: str, elsewhere: Path, advice: str) -> str:
    found = _which(name, elsewhere)
    if found is None:
        raise MissingDependencyError(f"{name} is not installed; {advice}")
    return found


def _build(headers: Path, architectures: str, library: Path) -> None:
    cmake = _program("cmake", _CMAKE, "run: pip install cmake")
    nvcc = _program("nvcc", _NVCC, "install CUDA's compiler, on a Jetson: sudo apt-get install cuda-nvcc-12-6")
    make_cache(library.parent)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as folder:
        configure = [cmake, "-S", str(CMAKE), "-B", folder, "-G", "Unix Makefiles", "-DCMAKE_BUILD_TYPE=Release"]
        settings = {
            "TensorRT_INCLUDE_DIR": str(headers),
            "CMAKE_CUDA_ARCHITECTURES": architectures,
            "CMAKE_CUDA_COMPILER": nvcc,
            "CADA_EDGE_PLUGIN_DIR": str(SOURCES),
        }
        _run([*configure, *(f"-D{name}={value}" for name, value in settings.items())])
        _run([cmake, "--build", folder])
        (Path(folder) / LIBRARY).replace(library)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own list
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[:3000]  # the first error is the cause of the rest
        raise EngineError(f"building the plugin failed: {' '.join(command[:2])} said:\n{said}")
