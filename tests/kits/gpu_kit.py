"""The plugin's kernels on a GPU, launched on torch's memory and stream."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from plugin_kit import Case
from torch import Tensor

from cada_edge.export.plugin import SOURCES
from cada_edge.export.plugin.host import as_extents, as_parameters

DRIVER = Path(__file__).resolve().parents[1] / "plugin" / "gpu_driver.cpp"


def build_driver(folder: Path) -> Path:
    """Compile kernels and driver for this machine's GPU; skips without nvcc or a GPU."""
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU that torch can use")
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    library = folder / "driver.so"
    flags = ["-std=c++17", "-O3", "--fmad=false", "-arch=native", "-Xcompiler", "-fPIC", "-shared", f"-I{SOURCES}"]
    command = [nvcc, *flags, str(SOURCES / "launch.cu"), str(DRIVER), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return library


class GpuCall:
    """One case in device memory, ready to be launched again and again.

    Args:
        library: what `build_driver` made.
        case: inputs and attributes.
    """

    def __init__(self, library: Path, case: Case) -> None:
        loaded = ctypes.CDLL(str(library))
        self._launch = loaded.cada_gpu_launch
        loaded.cada_gpu_workspace.restype = ctypes.c_size_t
        self.parameters = as_parameters(case.fusion.attributes())
        step = 2 if case.fusion.mode == "features" else 1
        self.extents = as_extents([x.shape for x in case.inputs[::step]])
        self.batch, self.half = len(case.u), case.inputs[0].itemsize == 2
        self.tensors = [torch.from_numpy(x).cuda() for x in (*case.inputs, case.u, case.gamma)]
        self.map = torch.full((self.batch, *case.fusion.spec.size_hw), torch.nan, device="cuda")
        self.score = torch.full((self.batch,), torch.nan, device="cuda")
        size = loaded.cada_gpu_workspace(ctypes.byref(self.parameters), self.extents, self.batch)
        self.workspace = torch.full((size,), 0xA5, dtype=torch.uint8, device="cuda")
        self._pointers = (ctypes.c_void_p * len(self.tensors))(*(t.data_ptr() for t in self.tensors))

    def launch(self) -> None:
        """Enqueue both kernels on torch's current stream."""
        outputs: list[Tensor] = [self.map, self.score, self.workspace]
        arguments: list[Any] = [
            ctypes.byref(self.parameters),
            ctypes.c_int(self.batch),
            ctypes.c_int(self.half),
            self.extents,
            self._pointers,
            *(ctypes.c_void_p(t.data_ptr()) for t in outputs),
            ctypes.c_void_p(torch.cuda.current_stream().cuda_stream),
        ]
        status = self._launch(*arguments)
        if status != 0:
            raise RuntimeError(f"cudaError {status}")
