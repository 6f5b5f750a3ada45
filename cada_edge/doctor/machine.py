"""What this machine offers: looked at, never changed."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

from cada_edge.doctor.report import Check

LOW_DISK_BYTES = 1 << 30
JETSON_MARK = Path("/etc/nv_tegra_release")


def checks(folder: Path) -> Iterator[Check]:
    """Every check of the machine, the cheap ones first."""
    yield python()
    yield Check("machine", "cores", "ok", f"{_cores()} usable of {os.cpu_count()}")
    yield disk(folder)
    yield writable(folder)
    yield onnxruntime()
    yield from opencv()
    yield cuda_driver()
    yield tensorrt()


def python() -> Check:
    """The interpreter and its architecture."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    fits = sys.version_info >= (3, 10)
    return Check(
        "machine", "Python", "ok" if fits else "missing", found, "" if fits else "use Python 3.10 or newer", True
    )


def disk(folder: Path) -> Check:
    """Free space where results would be written."""
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**30:.1f} GiB free at {folder.resolve()}"
    if free >= LOW_DISK_BYTES:
        return Check("machine", "disk", "ok", found)
    return Check("machine", "disk", "note", found, "free at least 1 GiB, or write elsewhere")


def writable(folder: Path) -> Check:
    """Whether a file can really be made in `folder`: permission bits alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Check("machine", "write permission", "ok", f"can write in {folder.resolve()}")
    except OSError as error:
        found = f"cannot write in {folder.resolve()}: {error.strerror}"
        return Check("machine", "write permission", "note", found, "change to a folder that is yours")


def onnxruntime() -> Check:
    """Which devices ONNX Runtime can use."""
    if find_spec("onnxruntime") is None:
        return Check("machine", "ONNX Runtime", "missing", "not installed", "pip install 'cada-edge[runtime]'", True)
    import onnxruntime as ort  # noqa: PLC0415  # optional, and slow to import

    providers = [p.removesuffix("ExecutionProvider") for p in ort.get_available_providers()]
    return Check("machine", "ONNX Runtime", "ok", f"{ort.__version__}, providers {', '.join(providers)}", required=True)


def opencv() -> Iterator[Check]:
    """OpenCV and the camera back ends it was built with."""
    if find_spec("cv2") is None:
        yield Check("machine", "OpenCV", "missing", "not installed", "pip install 'cada-edge[runtime]'", True)
        return
    try:
        import cv2  # noqa: PLC0415  # optional, and slow to import
    except ImportError as error:  # its system libraries, such as libGL, may be absent
        mend = "sudo apt-get install libgl1 libglib2.0-0, or: pip install opencv-python-headless"
        yield Check("machine", "OpenCV", "missing", f"does not load: {error}", mend, True)
        return
    built = build_features(cv2.getBuildInformation())
    words = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in built.items())
    yield Check("machine", "OpenCV", "ok", f"{cv2.__version__}, {words}", required=True)
    if JETSON_MARK.exists() and not built["GStreamer"]:
        found = f"{cv2.__file__} hides JetPack's OpenCV and has no GStreamer (CSI cameras, hardware decoding)"
        yield Check("machine", "OpenCV on Jetson", "note", found, "pip uninstall opencv-python opencv-python-headless")


def build_features(information: str) -> dict[str, bool]:
    """Camera back ends named in ``cv2.getBuildInformation()``."""
    names = {"FFMPEG": r"FFMPEG", "V4L2": r"v4l/v4l2", "GStreamer": r"GStreamer"}
    return {k: bool(re.search(rf"^\s*{pattern}:\s*YES", information, re.MULTILINE)) for k, pattern in names.items()}


def cuda_driver() -> Check:
    """The NVIDIA driver, asked through its own library."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Check("machine", "CUDA driver", "note", "none; training and running use the CPU")
    version = ctypes.c_int(0)
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return Check("machine", "CUDA driver", "note", "libcuda is there but does not answer", "nvidia-smi")
    return Check("machine", "CUDA driver", "ok", f"for CUDA {version.value // 1000}.{version.value % 1000 // 10}")


def tensorrt() -> Check:
    """TensorRT's Python modules, which build and run engines."""
    modules = [name for name in ("tensorrt", "tensorrt_rtx") if find_spec(name)]
    if modules:
        return Check("machine", "TensorRT", "ok", f"Python module {' and '.join(modules)}")
    library = find_library("nvinfer")
    found = f"{library} without its Python module" if library else "none; lines run on ONNX Runtime"
    return Check("machine", "TensorRT", "note", found, "sudo apt-get install python3-libnvinfer" if library else "")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
