"""What nvcc makes of the kernels: no spills to local memory, wide loads, room for full blocks."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from cada_edge.export.plugin import SOURCES

ARCHITECTURES = (86, 87, 89, 90, 110, 120)
FLAGS = ("-std=c++17", "-O3", "--fmad=false", "-Xptxas", "-v", "-Xcompiler", "-fPIC")
ENTRY = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)' for 'sm_(?P<sm>\d+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers, used (?P<barriers>\d+) barriers, (?P<shared>\d+) bytes smem",
    re.DOTALL,
)


@dataclass(frozen=True)
class Usage:
    """One kernel on one architecture; bytes but for registers (a thread)."""

    kernel: str
    sm: int
    stack: int
    spilled: int
    registers: int
    shared: int


def nvcc() -> str:
    """The CUDA compiler, or skip."""
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if found is None:
        pytest.skip("nvcc is not installed")
    return found


def known() -> list[int]:
    """Those of our architectures that this nvcc compiles for."""
    done = subprocess.run([nvcc(), "--list-gpu-arch"], capture_output=True, text=True, check=True)
    return [sm for sm in ARCHITECTURES if f"compute_{sm}" in done.stdout.split()]


@pytest.fixture(scope="module")
def usages(tmp_path_factory: pytest.TempPathFactory) -> list[Usage]:
    """Every kernel on every architecture, PTX of the newest included in the object."""
    codes = [f"-gencode=arch=compute_{sm},code=sm_{sm}" for sm in known()]
    codes.append(f"-gencode=arch=compute_{known()[-1]},code=compute_{known()[-1]}")
    out = tmp_path_factory.mktemp("ptxas") / "launch.o"
    command = [nvcc(), *FLAGS, *codes, "-c", str(SOURCES / "launch.cu"), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [
        Usage(
            m["kernel"],
            int(m["sm"]),
            int(m["stack"]),
            int(m["stores"]) + int(m["loads"]),
            *map(int, (m["registers"], m["shared"])),
        )
        for m in ENTRY.finditer(done.stderr)
    ]


def test_no_kernel_spills_to_local_memory(usages: list[Usage]) -> None:
    """Three kernels on every architecture, without stack frame or spill."""
    assert len(usages) == 3 * len(known())
    assert [u for u in usages if u.stack or u.spilled] == []


def test_several_blocks_fit_a_multiprocessor(usages: list[Usage]) -> None:
    """Registers and shared memory leave room for three blocks of 256 threads: 80 registers, 32 KiB."""
    assert [u for u in usages if u.registers > 80 or u.shared > 32 * 1024] == []


def test_features_are_loaded_sixteen_bytes_at_a_time(tmp_path: Path) -> None:
    """Both distance kernels hold loads of four 32-bit words from global memory."""
    out = tmp_path / "launch.ptx"
    command = [nvcc(), "-std=c++17", "-O3", "--fmad=false", "-arch=compute_87", "-ptx"]
    subprocess.run([*command, str(SOURCES / "launch.cu"), "-o", str(out)], capture_output=True, check=True)
    kernels = {part.split("(", 1)[0]: part for part in out.read_text().split(".entry ")[1:]}
    wide = {name: len(re.findall(r"ld\.global\.v4\.[bfu]32", text)) for name, text in kernels.items()}
    assert len(wide) == 3
    assert all(count >= 2 for name, count in wide.items() if "distance" in name), wide
