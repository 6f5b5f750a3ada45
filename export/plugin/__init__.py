"""The TensorRT plugin `CadaNormalize`: its sources, what they are known by, and where a built one lies.

The sources travel in the wheel; `cada_edge.export.plugin.build` compiles them on the device and
keeps the library in the cache that `cached_plugin` looks into.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from pathlib import Path

from cada_edge.engine_store import make_folder
from cada_edge.errors import DataError

SOURCES = Path(__file__).resolve().parent
CMAKE = Path(__file__).resolve().parents[2] / "cmake"  # beside export/, in a checkout and in the wheel
LIBRARY = "libcada_normalize.so"
_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}
_TEGRA = {53, 62, 72, 87, 101, 110}  # Jetsons run machine code of just their own architecture


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


def make_cache(folder: Path) -> None:
    """Make a folder of the cache. Raises `DataError` that says how to move it."""
    move = "let XDG_CACHE_HOME name a folder that can be written"
    try:
        make_folder(folder)
    except DataError as error:
        raise DataError(f"{error}; {move}") from error
    if not os.access(folder, os.W_OK):
        raise DataError(f"{folder}: may not be written; {move}")


def plugin_path(tensorrt: str, architectures: str) -> Path:
    """Where the library for these headers and GPUs lies, or would.

    Args:
        tensorrt: version of the headers, e.g. ``10.3.0``.
        architectures: as CMake writes them, e.g. ``87`` or ``86-real;120``.
    """
    name = f"trt{tensorrt}-sm{architectures.replace(';', '_')}-{plugin_sha256()[:16]}"
    return cache_root() / name / LIBRARY


def cached_plugin(target: str | None = None) -> Path | None:
    """The library built last of just these sources, or ``None``.

    ``CADA_EDGE_PLUGIN``, a path, comes first. Any one will do for a TensorRT from 10.3 on: the
    interface is the same.

    Args:
        target: compute capability such as ``8.7`` that it must hold code for; ``None`` takes any.
    """
    named = os.environ.get("CADA_EDGE_PLUGIN")
    if named:
        return Path(named)
    fit = [path for path in built_plugins() if target is None or holds_code(architectures_of(path), target)]
    return max(fit, key=lambda path: path.stat().st_mtime_ns, default=None)


def built_plugins() -> list[Path]:
    """Every library in the cache that was built of just these sources, sorted."""
    return sorted(path for path in cache_root().glob(f"*-{plugin_sha256()[:16]}/{LIBRARY}") if path.is_file())


def architectures_of(library: Path) -> str:
    """What a library of the cache was built for, as CMake writes it: the other way round of `plugin_path`."""
    return library.parent.name.partition("-sm")[2].rpartition("-")[0].replace("_", ";")


def holds_code(architectures: str, target: str) -> bool:
    """Whether a library built for `architectures`, as CMake writes them, runs on a GPU of `target`, such as ``8.7``.

    ``86-real`` is machine code, for the GPUs of its generation from its number on, Jetsons apart;
    ``86-virtual`` is compiled when loaded, for all GPUs from its number on; ``86`` is both;
    ``90a`` is for its own number alone.
    """
    return any(_runs(part, int(target.replace(".", ""))) for part in architectures.split(";"))


def _runs(architecture: str, wanted: int) -> bool:
    parts = re.fullmatch(r"(\d+)(a?)(-real|-virtual)?", architecture)
    if parts is None:
        return False
    built = int(parts[1])
    if built == wanted or parts[2]:
        return built == wanted
    sibling = built // 10 == wanted // 10 and not _TEGRA & {built, wanted}
    return built < wanted and (parts[3] != "-real" or sibling)
