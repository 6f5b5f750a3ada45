"""Building on the device: what is found, what is missing, and what the cache keeps."""

from __future__ import annotations

import ctypes
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cada_edge.cli import app
from cada_edge.errors import ConfigError, DataError, EngineError, MissingDependencyError
from cada_edge.export.plugin import (
    LIBRARY,
    architectures_of,
    build,
    cached_plugin,
    holds_code,
    plugin_path,
    plugin_sha256,
    source_files,
)
from cada_edge.export.plugin.build import build_plugin, find_headers, headers_version
from cada_edge.export.plugin.host import HostPlugin


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of our own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CADA_EDGE_PLUGIN", raising=False)
    return tmp_path / "cada-edge" / "plugin"


def needs_nvcc() -> None:
    """Skip where nothing can be compiled for a GPU."""
    if not (shutil.which("nvcc") or Path("/usr/local/cuda/bin/nvcc").is_file()):
        pytest.skip("nvcc is not installed")
    if not (shutil.which("cmake") or build._CMAKE.is_file()):
        pytest.skip("cmake is not installed")


def fill(path: Path) -> Path:
    """A file as a build would leave it."""
    path.parent.mkdir(parents=True)
    path.write_bytes(b"library")
    return path


def test_it_builds_once_and_registers(cache: Path, double: Path, tmp_path: Path) -> None:
    """A built library has both symbols TensorRT asks for, lies in the cache, and is not built again."""
    needs_nvcc()
    copy = tmp_path / "out" / "plugin.so"
    assert build_plugin(double, "86-real", copy) == copy
    library = cached_plugin()
    assert library == plugin_path("10.3.0", "86-real")
    assert library is not None
    stamp = library.stat().st_mtime_ns
    loaded = ctypes.CDLL(str(library))
    count = ctypes.c_int32()
    loaded.getCreators(ctypes.byref(count))
    assert (count.value, hasattr(loaded, "setLoggerFinder")) == (1, True)
    assert build_plugin(double, "86-real").stat().st_mtime_ns == stamp
    assert [p.name for p in library.parent.iterdir()] == [LIBRARY]


def test_a_failed_build_says_what_the_compiler_said(cache: Path, tmp_path: Path) -> None:
    """Headers that are no headers end in the compiler's words, and leave no library behind."""
    needs_nvcc()
    headers = tmp_path / "broken"
    headers.mkdir()
    version = "".join(f"#define NV_TENSORRT_{part} 11\n" for part in ("MAJOR", "MINOR", "PATCH"))
    (headers / "NvInferVersion.h").write_text(version)
    (headers / "NvInferRuntime.h").write_text("#error not the headers\n")
    with pytest.raises(EngineError, match="not the headers"):
        build_plugin(headers, "86-real")
    assert cached_plugin() is None


def test_an_older_tensorrt_is_refused(cache: Path, double: Path, tmp_path: Path) -> None:
    """Headers before 10.3 lack the interface: both versions are named."""
    needs_nvcc()
    headers = shutil.copytree(double, tmp_path / "old")
    text = (headers / "NvInferVersion.h").read_text().replace("MINOR 3", "MINOR 2")
    (headers / "NvInferVersion.h").write_text(text)
    with pytest.raises(EngineError, match=r"10\.2\.0, expected 10\.3"):
        build_plugin(headers, "86-real")


@pytest.mark.parametrize("program", ["cmake", "nvcc"])
def test_a_missing_program_is_named(
    cache: Path, double: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    """Without cmake or nvcc the error says which, and how it is installed."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in {"cmake", "nvcc"} - {program}:
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(build, "_NVCC", tmp_path / "nvcc")
    monkeypatch.setattr(build, "_CMAKE", tmp_path / "cmake")
    with pytest.raises(MissingDependencyError, match=f"{program} is not installed; "):
        build_plugin(double, "87")


def test_headers_are_asked_for_where_they_come_from(tmp_path: Path) -> None:
    """A folder without headers is refused with the package and the repository that have them."""
    with pytest.raises(ConfigError, match=r"libnvinfer-headers-dev.*--headers"):
        find_headers(tmp_path)


def test_the_folder_above_include_is_enough(tmp_path: Path) -> None:
    """As people unpack a release: --headers takes that folder as well."""
    include = tmp_path / "include"
    include.mkdir()
    for name in ("NvInferRuntime.h", "NvInferVersion.h"):
        (include / name).touch()
    assert find_headers(tmp_path) == include.resolve()


def test_versions_behind_a_second_macro_are_read(tmp_path: Path) -> None:
    """Headers of 10.13 and later name their version indirectly."""
    lines = [
        f"#define TRT_{p}_X {n}\n#define NV_TENSORRT_{p} TRT_{p}_X"
        for p, n in zip(("MAJOR", "MINOR", "PATCH"), (11, 1, 0), strict=True)
    ]
    (tmp_path / "NvInferVersion.h").write_text("\n".join(lines))
    assert headers_version(tmp_path) == "11.1.0"
    (tmp_path / "NvInferVersion.h").write_text("#define OTHER 1\n")
    with pytest.raises(ConfigError, match="states no version"):
        headers_version(tmp_path)


@pytest.mark.parametrize("architectures", ["", "sm_87", "87,86", "87; rm"])
def test_architectures_are_checked(double: Path, architectures: str) -> None:
    """What is no architecture never reaches a compiler; empty means this device's."""
    if architectures:
        with pytest.raises(ConfigError, match="architectures: got"):
            build_plugin(double, architectures)


def test_a_cache_that_cannot_be_written_says_how_to_move_it(
    double: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the library of a GPU and for the host build, before anything is compiled."""
    needs_nvcc()
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    told = "cannot make the folder: Not a directory; let XDG_CACHE_HOME name"
    with pytest.raises(DataError, match=told):
        build_plugin(double, "86-real")
    with pytest.raises(DataError, match=told):
        HostPlugin.build()


def test_a_copy_that_cannot_be_written_is_named(cache: Path, double: Path, tmp_path: Path) -> None:
    """The library stays in the cache."""
    (tmp_path / "file").write_bytes(b"")
    library = fill(plugin_path("10.3.0", "86-real"))
    with pytest.raises(DataError, match="file: cannot make the folder"):
        build_plugin(double, "86-real", tmp_path / "file" / "plugin.so")
    assert cache in library.parents
    assert library.is_file()


def test_the_cache_knows_versions_architectures_and_sources(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another TensorRT, GPU or source has another place; of several libraries the newest is taken."""
    assert cached_plugin() is None
    first, second = fill(plugin_path("10.3.0", "87")), fill(plugin_path("11.1.0", "86-real;120"))
    assert first.parent.parent == second.parent.parent == cache
    assert plugin_sha256()[:16] in first.parent.name
    assert cached_plugin() == second
    fill(cache / "trt10.3.0-sm87-0123456789abcdef" / LIBRARY)
    assert cached_plugin() == second
    monkeypatch.setenv("CADA_EDGE_PLUGIN", "/elsewhere/plugin.so")
    assert cached_plugin() == Path("/elsewhere/plugin.so")


def test_a_library_for_another_gpu_is_not_taken(cache: Path) -> None:
    """Though it was built last: an engine with it would fail at its first picture."""
    first, second = fill(plugin_path("10.3.0", "86-real;120")), fill(plugin_path("10.3.0", "87"))
    assert cache == second.parent.parent
    assert [architectures_of(path) for path in (first, second)] == ["86-real;120", "87"]
    assert (cached_plugin(), cached_plugin("8.7"), cached_plugin("8.6")) == (second, second, first)
    assert cached_plugin("8.0") is None


@pytest.mark.parametrize(
    ("architectures", "runs", "does_not"),
    [
        ("86-real", ("8.6", "8.9"), ("8.0", "8.7", "9.0")),
        ("87-real", ("8.7",), ("8.6", "8.9", "9.0")),
        ("86", ("8.6", "8.7", "9.0", "12.0"), ("8.0",)),
        ("90-virtual", ("9.0", "11.0"), ("8.9",)),
        ("90a", ("9.0",), ("8.9", "10.0")),
        ("86-real;89-real;90-real;120", ("8.6", "8.9", "9.0", "12.0", "12.1"), ("8.7", "11.0")),
    ],
)
def test_code_runs_where_cuda_says_it_does(
    architectures: str, runs: tuple[str, ...], does_not: tuple[str, ...]
) -> None:
    """Machine code within a generation and never between Jetsons and others, PTX on all later GPUs."""
    assert all(holds_code(architectures, gpu) for gpu in runs)
    assert not any(holds_code(architectures, gpu) for gpu in does_not)


def test_the_digest_is_of_what_is_compiled() -> None:
    """Kernels, launches and plugin count; the host shim, which no device sees, does not."""
    names = {path.name for path in source_files()}
    assert {"kernels.cuh", "launch.cu", "plugin.cpp", "parameters.h"} <= names
    assert "cuda_shim.h" not in names


def test_info_says_what_a_build_would_use(cache: Path, double: Path) -> None:
    """`cada-edge plugin info --json` names headers, GPUs, programs, sources and the library."""
    done = CliRunner().invoke(app.build("plugin"), ["plugin", "info", "--headers", str(double), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["headers"].startswith("10.3.0 in ")
    assert facts["library"].startswith("none; run cada-edge plugin build")
    assert facts["source_sha256"] == plugin_sha256()
