"""The plugin object lives as TensorRT leads it, with sanitizers watching, and gives the kernels' numbers."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from plugin_kit import Case, make_case

from cada_edge.export.plugin import SOURCES
from cada_edge.export.plugin.host import FLAGS, HostPlugin

UNITS = ("plugin.cpp", "fields.cpp", "launch.cu", "host/cuda_shim.cpp")
STRICT = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-deprecated-declarations")
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
CASES = {
    "features": make_case([(24, 8, 8), (40, 4, 4)], (16, 40), batch=3),
    "half": make_case([(24, 8, 8), (40, 4, 4)], (16, 40), batch=2, half=True),
    "odd": make_case([(7, 9, 13), (33, 5, 7)], (17, 23), taps=7),
    "distances": make_case([(1, 9, 13), (1, 5, 7)], (17, 23), "distances"),
    "beyond-shared-memory": make_case([(1, 9, 13)], (70, 65), "distances", batch=1),
}


@pytest.fixture(scope="session")
def harness(compiler: str, double: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole plugin with its harness, built for AddressSanitizer and UBSan."""
    program = tmp_path_factory.mktemp("object") / "harness"
    sources = [str(SOURCES / unit) for unit in UNITS]
    driver = str(Path(__file__).with_name("harness.cpp"))
    includes = [f"-I{double}", f"-I{SOURCES}"]
    command = [compiler, *FLAGS, *STRICT, *SANITIZERS, *includes, "-x", "c++", driver, *sources, "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find -lasan" in done.stderr or "cannot find -lubsan" in done.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert done.returncode == 0, done.stderr
    return program


def as_bytes(case: Case, **changes: int) -> bytes:
    """A case as the harness reads it."""
    features, attributes = case.fusion.mode == "features", case.fusion.attributes()
    scales = case.inputs[:: 2 if features else 1]
    head = {
        "mode": 0 if features else 1,
        "scales": len(scales),
        "rows": attributes["map_size"][0],
        "columns": attributes["map_size"][1],
        "taps": len(attributes["window"]),
        "top_k": attributes["top_k"],
        "half": int(case.inputs[0].dtype == np.float16),
        "batch": len(case.u),
    }
    extents = [n for x in scales for n in (x.shape[1] if features else 1, *x.shape[-2:])]
    numbers = [attributes["min_spread"], attributes["cosine_floor"], *attributes["levels"], *attributes["window"]]
    integers = [*{**head, **changes}.values(), *extents]
    content = struct.pack(f"{len(integers)}i", *integers) + np.array(numbers, np.float32).tobytes()
    return content + b"".join(x.tobytes() for x in (*case.inputs, case.u, case.gamma))


def lead(harness: Path, content: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run the harness; leaks count."""
    environment = {**os.environ, "ASAN_OPTIONS": "detect_stack_use_after_return=0"}
    return subprocess.run([str(harness)], input=content, capture_output=True, check=False, env=environment)


@pytest.mark.parametrize("name", CASES)
def test_the_object_gives_the_kernels_numbers(harness: Path, host: HostPlugin, name: str) -> None:
    """Created, configured, cloned, serialised, revived, attached and run twice: clean, and the same bits."""
    case = CASES[name]
    done = lead(harness, as_bytes(case))
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    found = np.frombuffer(done.stdout, np.float32)
    wanted = host.run(case.inputs, case.u, case.gamma, case.fusion.attributes())
    assert np.array_equal(found, np.concatenate([x.ravel() for x in wanted]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"taps": 4}, "window: expected an odd number"),
        ({"top_k": 0}, "top_k: expected 1 to the number of cells"),
        ({"top_k": 1 << 20}, "top_k: expected 1 to the number of cells"),
        ({"rows": 5000}, "map_size: expected 1 to 4096"),
        ({"columns": -1}, "map_size: expected 1 to 4096"),
    ],
    ids=str,
)
def test_wrong_attributes_are_refused_by_name(harness: Path, changes: dict[str, int], said: str) -> None:
    """The creator gives no plugin and says which attribute is wrong and what was expected."""
    done = lead(harness, as_bytes(CASES["odd"], **changes))
    assert done.returncode == 3, done.stderr.decode()[-2000:]
    assert f"CadaNormalize: {said}" in done.stderr.decode()


def real_headers() -> list[Path]:
    """Folders of NVIDIA's headers that CADA_EDGE_TENSORRT_HEADERS names."""
    return [Path(p) for p in os.environ.get("CADA_EDGE_TENSORRT_HEADERS", "").split(os.pathsep) if p]


@pytest.mark.parametrize("unit", ["plugin.cpp", "fields.cpp"])
def test_it_compiles_against_nvidia_s_headers(compiler: str, unit: str) -> None:
    """The same source, unchanged, with every release of the headers that is at hand."""
    if not real_headers():
        pytest.skip("CADA_EDGE_TENSORRT_HEADERS names no folders of NVIDIA's headers")
    for folder in real_headers():
        cuda = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"
        system = ["-isystem", str(folder), "-isystem", str(cuda)]
        command = [compiler, "-std=c++17", "-fno-exceptions", *STRICT, *system, "-fsyntax-only", str(SOURCES / unit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{folder}: {done.stderr[-3000:]}"


RECORDS = ("Dims64", "PluginField", "PluginTensorDesc", "DynamicPluginTensorDesc", "DimsExprs", "PluginFieldCollection")


def layout(compiler: str, headers: Path, folder: Path) -> dict[str, list[str]]:
    """Virtual functions of our classes in their order, and sizes of the records they are handed."""
    folder.mkdir()
    cuda = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"
    flags = ["-std=c++17", "-w", "-fno-exceptions", "-fdump-lang-class", f"-I{headers}", f"-I{cuda}", "-c"]
    command = [compiler, *flags, str(SOURCES / "plugin.cpp"), "-o", "plugin.o"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    blocks = next(folder.glob("*.class")).read_text().strip().split("\n\n")
    found = {}
    for block in blocks:
        title, *lines = block.strip().splitlines() or [""]
        if title.startswith("Vtable for cada::") and title.endswith(("::Plugin", "::Creator")):
            slots = (re.split(r"\s+", line, maxsplit=1) for line in lines if line[0].isdigit())
            found[title] = [f"{offset} {what.rsplit('::')[-1]}" for offset, what in slots]
        elif title.startswith("Class ") and title.rsplit("::")[-1] in RECORDS:
            found[title.rsplit("::")[-1]] = lines[:1]
    return found


def test_the_double_has_the_layout_of_nvidia_s_headers(compiler: str, double: Path, tmp_path: Path) -> None:
    """Every virtual function stands in its place, and every record has its size, in all releases at hand."""
    if not real_headers():
        pytest.skip("CADA_EDGE_TENSORRT_HEADERS names no folders of NVIDIA's headers")
    ours = layout(compiler, double, tmp_path / "double")
    assert len(ours) == 2 + len(RECORDS)
    for number, folder in enumerate(real_headers()):
        assert layout(compiler, folder, tmp_path / str(number)) == ours, folder
