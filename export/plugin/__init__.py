"""The TensorRT plugin `CadaNormalize`: its sources, what they are known by, and where a built one lies.

The sources travel in the wheel; `cada_edge.export.plugin.build` compiles them on the device and
keeps the library in the cache that `cached_plugin` looks into.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
CMAKE = Path(__file__).resolve().parents[2] / "cmake"  # beside export/, in a checkout and in the wheel
LIBRARY = "libcada_normalize.so"
_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


def source_files() -> list[Path]:
    """The C++ and CUDA sources of the plugin, sorted; not those that only its host build has."""
    return sorted(path for path in SOURCES.iterdir() if path.suffix in _SUFFIXES)


@functools.cache
def plugin_sha256() -> str:
    """What this version of the plugin is known by: sha256 over the names and contents of its sources, hex."""
    digest = hashlib.sha256()
    for path in source_files():
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def cache_root() -> Path:
    """Where built libraries lie: ``cada-edge/plugin`` in the user's cache (XDG_CACHE_HOME)."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache") / "cada-edge" / "plugin"


def plugin_path(tensorrt: str, architectures: str) -> Path:
    """Where the library for these headers and GPUs lies, or would.

    Args:
        tensorrt: version of the headers, e.g. ``10.3.0``.
        architectures: as CMake writes them, e.g. ``87`` or ``86-real;120``.
    """
    name = f"trt{tensorrt}-sm{architectures.replace(';', '_')}-{plugin_sha256()[:16]}"
    return cache_root() / name / LIBRARY


def cached_plugin() -> Path | None:
    """The library built last of just these sources, or ``None``.

    ``CADA_EDGE_PLUGIN``, a path, comes first. Any one will do for a TensorRT from 10.3 on: the
    interface is the same; whether it holds code for a GPU shows when the engine runs.
    """
    named = os.environ.get("CADA_EDGE_PLUGIN")
    if named:
        return Path(named)
    built = [path for path in cache_root().glob(f"*-{plugin_sha256()[:16]}/{LIBRARY}") if path.is_file()]
    return max(built, key=lambda path: path.stat().st_mtime_ns, default=None)
