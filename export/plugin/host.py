"""The plugin's kernels on the CPU: the source that nvcc compiles, compiled by the system's C++ compiler.

For checking a plugin's numbers where no GPU is; slow (about a second an image), exact.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cada_edge.errors import ConfigError, EngineError, MissingDependencyError
from cada_edge.export.plugin import SOURCES, cache_root, make_cache, source_files
from cada_edge.types import Float32Array, require

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from 3.11

# -O1 compiles in seconds; without contraction a*b+c rounds as on the GPU.
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-U_FORTIFY_SOURCE", "-pthread")
_UNITS = ("host/host.cpp", "host/cuda_shim.cpp", "launch.cu")
_MODES = ("features", "distances")
_MAX_SCALES, _MAX_TAPS = 8, 31


class Parameters(ctypes.Structure):
    """The node's attributes, as parameters.h lays them out."""

    _fields_ = (
        ("mode", ctypes.c_int32),
        ("scales", ctypes.c_int32),
        ("levels", ctypes.c_float * _MAX_SCALES),
        ("rows", ctypes.c_int32),
        ("columns", ctypes.c_int32),
        ("taps", ctypes.c_int32),
        ("window", ctypes.c_float * _MAX_TAPS),
        ("top_k", ctypes.c_int32),
        ("min_spread", ctypes.c_float),
        ("cosine_floor", ctypes.c_float),
    )


class Extent(ctypes.Structure):
    """Channels, rows and columns of one scale, as parameters.h lays them out."""

    _fields_ = (("channels", ctypes.c_int32), ("height", ctypes.c_int32), ("width", ctypes.c_int32))


class HostPlugin:
    """A compiled host build of the plugin.

    Args:
        library: what `build` made.
    """

    def __init__(self, library: Path) -> None:
        try:
            loaded = ctypes.CDLL(str(library))
        except OSError as error:
            raise EngineError(
                f"the host build of the plugin cannot be loaded: {error}; delete it and build again"
            ) from (error)
        self._run = loaded.cada_host_run
        self._run.restype = ctypes.c_char_p
        self._schedule = loaded.cada_host_schedule
        self._submitted = loaded.cada_host_submitted

    @classmethod
    def build(cls, cache_dir: Path | None = None) -> Self:
        """Compile the sources, or take the library compiled of just them from `cache_dir`.

        Raises:
            MissingDependencyError: no C++ compiler.
            DataError: the cache cannot be written.
            EngineError: it failed; the message holds its words.
        """
        return cls(compile_host(SOURCES, cache_dir or cache_root()))

    def set_schedule(self, number: int) -> None:
        """Order in which threads run: 0 forward, 1 reversed, 2 blocks held at their ticket. For tests."""
        self._schedule(ctypes.c_int32(number))

    @property
    def submitted(self) -> int:
        """What a GPU's stream would have been given so far: kernels to launch and memory to clear."""
        return int(self._submitted())

    def run(
        self,
        inputs: Sequence[npt.NDArray[Any]],
        u: Float32Array,
        gamma: Float32Array,
        attributes: Mapping[str, Any],
    ) -> tuple[Float32Array, Float32Array]:
        """One batch through the kernels.

        Args:
            inputs: as the node's: teacher and student (N, C, h, w) of each scale, all float32 or all
                float16, or float32 distances (N, h, w).
            u: float32 (N,).
            gamma: float32 (N,).
            attributes: the node's, see `cada_edge.export.normalise.Fusion.attributes`.

        Returns:
            map float32 (N, H, W) and score float32 (N,).

        Raises:
            ConfigError: arrays or attributes do not fit the node.
        """
        parameters = as_parameters(attributes)
        arrays = [np.ascontiguousarray(x) for x in (*inputs, u, gamma)]
        _check(arrays, parameters)
        step = 2 if parameters.mode == 0 else 1
        scales = arrays[:-2:step]
        extents = as_extents([x.shape for x in scales])
        pointers = (ctypes.c_void_p * len(arrays))(*(x.ctypes.data for x in arrays))
        batch, half = len(arrays[-1]), arrays[0].dtype == np.float16
        maps = np.full((batch, parameters.rows, parameters.columns), np.nan, np.float32)
        score = np.full(batch, np.nan, np.float32)
        targets = (ctypes.c_void_p(maps.ctypes.data), ctypes.c_void_p(score.ctypes.data))
        wrong = self._run(
            ctypes.byref(parameters), ctypes.c_int32(batch), ctypes.c_int32(half), extents, pointers, *targets
        )
        if wrong is not None:
            raise ConfigError(f"CadaNormalize: {wrong.decode()}")
        return maps, score


def compile_host(sources: Path, folder: Path, flags: Sequence[str] = ()) -> Path:
    """Compile a folder of sources for the CPU into `folder`, once; returns the library's path."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise MissingDependencyError("no C++ compiler is installed; run: sudo apt-get install g++")
    library = folder / f"host-{_digest(sources, flags)[:16]}.so"
    if library.is_file():
        return library
    make_cache(folder)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".so", delete=False) as file:
        unfinished = Path(file.name)
    units = [str(sources / unit) for unit in _UNITS]
    command = [compiler, *FLAGS, *flags, "-shared", "-x", "c++", *units, "-o", str(unfinished)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own list
    if done.returncode != 0:
        unfinished.unlink()
        raise EngineError(f"compiling the plugin for the CPU failed; {compiler} said:\n{done.stderr[:3000]}")
    unfinished.replace(library)
    return library


def _digest(sources: Path, flags: Sequence[str]) -> str:
    digest = hashlib.sha256(" ".join((*FLAGS, *flags)).encode())
    names = [path.name for path in source_files()] + [f"host/{path.name}" for path in (SOURCES / "host").iterdir()]
    for name in sorted(names):
        digest.update(name.encode() + (sources / name).read_bytes())
    return digest.hexdigest()


def as_parameters(attributes: Mapping[str, Any]) -> Parameters:
    """Attributes as `cada_edge.export.normalise.Fusion.attributes` gives them. Raises `ConfigError`."""
    try:
        mode, levels, window = attributes["mode"], attributes["levels"], attributes["window"]
        rows, columns = attributes["map_size"]
        require(mode in _MODES, "mode", mode, f"one of {_MODES}")
        require(len(levels) <= _MAX_SCALES, "levels", levels, f"at most {_MAX_SCALES} numbers")
        require(len(window) <= _MAX_TAPS, "window", window, f"at most {_MAX_TAPS} numbers")
        return Parameters(
            mode=_MODES.index(mode),
            scales=len(levels),
            levels=(ctypes.c_float * _MAX_SCALES)(*levels),
            rows=rows,
            columns=columns,
            taps=len(window),
            window=(ctypes.c_float * _MAX_TAPS)(*window),
            **{name: attributes[name] for name in ("top_k", "min_spread", "cosine_floor")},
        )
    except KeyError as error:
        raise ConfigError(f"attributes: {error} is missing; take them from the node") from error


def as_extents(shapes: Sequence[tuple[int, ...]]) -> ctypes.Array[Extent]:
    """Of features (N, C, h, w) or distances (N, h, w), one shape a scale."""
    return (Extent * _MAX_SCALES)(*(Extent(shape[1] if len(shape) == 4 else 1, *shape[-2:]) for shape in shapes))


def _check(arrays: Sequence[npt.NDArray[Any]], parameters: Parameters) -> None:
    """Shapes and dtypes, before C reads the memory behind them."""
    features = parameters.mode == 0
    *tensors, u, gamma = arrays
    got = [f"{x.dtype}{x.shape}" for x in arrays]
    count = parameters.scales * (2 if features else 1)
    first = tensors[0].dtype if tensors else None
    kinds = {np.dtype(np.float32), np.dtype(np.float16)} if features else {np.dtype(np.float32)}
    pairs = [x.shape for x in tensors[::2]] == [x.shape for x in tensors[1::2]] if features else True
    fits = (
        len(tensors) == count
        and u.ndim == 1
        and u.shape == gamma.shape
        and u.dtype == gamma.dtype == np.float32
        and first in kinds
        and all(x.dtype == first and x.ndim == (4 if features else 3) and len(x) == len(u) for x in tensors)
        and pairs
    )
    require(fits, "inputs", got, f"{count} tensors of one dtype and batch, pairs of one shape, then u and gamma (N,)")
