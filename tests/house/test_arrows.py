"""Dependencies point one way: core <- calibration, export <- runtime <- cli."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import cada_edge

PACKAGE = Path(cada_edge.__file__).parent
LAYERS = ("bench", "calibration", "export", "runtime", "cli", "training", "models", "evaluation", "data")
HEAVY = {"torch", "torchvision", "timm", "sklearn", "matplotlib", "onnx", "scipy"}
# layer -> our packages and others' packages it may never name, not even in a function
FORBIDDEN = {
    "core": {*(f"cada_edge.{layer}" for layer in LAYERS if layer != "data"), *HEAVY},
    "data": {"cada_edge.runtime", "cada_edge.export", "cada_edge.cli", "cada_edge.training", "torch", "timm"},
    "calibration": {"cada_edge.runtime", "cada_edge.export", "cada_edge.cli", "cada_edge.training", *HEAVY},
    "evaluation": {"cada_edge.runtime", "cada_edge.export", "cada_edge.cli", "cada_edge.training", "torch", "timm"},
    "models": {"cada_edge.runtime", "cada_edge.cli", "cada_edge.evaluation", "cada_edge.calibration"},
    "training": {"cada_edge.runtime", "cada_edge.cli", "cada_edge.evaluation", "cada_edge.calibration"},
    "export": {"cada_edge.cli", "cada_edge.training", "cada_edge.evaluation"},
    "runtime": {
        *("cada_edge.export", "cada_edge.cli", "cada_edge.training", "cada_edge.models", "cada_edge.evaluation"),
        *HEAVY,
    },
    "bench": {"cada_edge.cli"},
    "cli": set[str](),
}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module as (layer, path); what lies in no layer's folder is core."""
    for path in sorted(PACKAGE.rglob("*.py")) + sorted(
        p for link in PACKAGE.iterdir() if link.is_symlink() for p in link.rglob("*.py")
    ):
        part = path.relative_to(PACKAGE).parts[0]
        yield (part if part in LAYERS else "core"), path


def imported(path: Path) -> set[str]:
    """Every module named by an import statement anywhere in a file, functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the package"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def breaches(layer: str, path: Path) -> set[str]:
    """Imports of `path` that its layer may not have."""
    return {name for name in imported(path) for bad in FORBIDDEN[layer] if name == bad or name.startswith(f"{bad}.")}


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_no_import_points_the_wrong_way(layer: str) -> None:
    """No file names, anywhere in it, a package that its layer must not know."""
    paths = {path for found, path in modules() if found == layer and path.name != "__main__.py"}
    assert paths, f"no module in layer {layer}: is a link broken?"
    wrong = {str(path.relative_to(PACKAGE)): sorted(bad) for path in paths if (bad := breaches(layer, path))}
    assert wrong == {}


def test_nothing_imports_the_command_line_but_its_entry_point() -> None:
    """cada_edge.cli is a leaf: only __main__ and the commands themselves know it."""
    users = {
        path.name
        for layer, path in modules()
        if layer != "cli" and any(n.startswith("cada_edge.cli") for n in imported(path))
    }
    assert users == {"__main__.py"}


def test_only_the_command_line_knows_the_experiments() -> None:
    """cada_edge.bench is built on everything else, so nothing else may be built on it."""
    users = {layer for layer, path in modules() if any(n.startswith("cada_edge.bench") for n in imported(path))}
    assert users == {"bench", "cli"}


def in_fresh_python(code: str, blocked: set[str]) -> str:
    """Run `code` where importing any top-level package of `blocked` fails."""
    guard = f"""
import sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
sys.meta_path.insert(0, Guard())
"""
    done = subprocess.run([sys.executable, "-c", guard + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def third_party() -> set[str]:
    """Top-level names of everything installed beside numpy and ourselves."""
    from importlib.metadata import packages_distributions

    return set(packages_distributions()) - {"numpy", "cada_edge", "_distutils_hack"}


def test_the_core_needs_numpy_alone() -> None:
    """`import cada_edge` works where nothing but numpy is installed."""
    assert "ok" in in_fresh_python("import cada_edge; cada_edge.Bundle; print('ok')", third_party())


@pytest.mark.parametrize("module", ["line", "config", "registers", "runners.ort"])
def test_the_runtime_works_without_torch(module: str) -> None:
    """Every part of the runtime imports where torch and all training packages are absent."""
    if find_spec("onnxruntime") is None:
        pytest.skip("the runtime extra is not installed")
    code = f"import cada_edge.runtime.{module}, sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    assert in_fresh_python(code, HEAVY).strip() == "[]"


def test_calibration_works_without_torch() -> None:
    """Calibration on the device needs no training package."""
    assert "ok" in in_fresh_python("import cada_edge.calibration; print('ok')", HEAVY)
