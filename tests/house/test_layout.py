"""The folders are what they claim to be, in the checkout, the wheel and the source archive."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import zipfile
from ast import AsyncFunctionDef, FunctionDef, parse, walk
from importlib import import_module
from pathlib import Path

import pytest

# CI runs the tests beside the installed wheel and says where the checkout is.
CHECKOUT = Path(os.environ.get("CADA_EDGE_CHECKOUT") or Path(__file__).resolve().parents[2])
LINKED = ("calibration", "export", "runtime")
FILES = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile")
TOP_LEVEL = {*FILES, *LINKED, "cada_edge", "tests", "cmake", "docs", "benchmarks"}
PAGE_SUFFIXES = {".css", ".html", ".js", ".svg"}
PLUGIN_SUFFIXES = {".cpp", ".cu", ".cuh", ".h", ".cmake", ".txt", ".json"}


def tracked() -> list[str]:
    """Files of the checkout: those git knows or would add, or all where there is no git."""
    if not (CHECKOUT / ".git").exists():
        found = (p for p in CHECKOUT.rglob("*") if p.is_file() or p.is_symlink())
        return [str(p.relative_to(CHECKOUT)) for p in found if not {"__pycache__", "build"} & set(p.parts)]
    command = ["git", "-C", str(CHECKOUT), "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if os.path.lexists(CHECKOUT / line)]


def packages() -> set[str]:
    """Packages listed in pyproject.toml."""
    text = (CHECKOUT / "pyproject.toml").read_text()
    listed = re.search(r"^packages = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    assert listed is not None
    return set(re.findall(r'"(cada_edge[\w.]*)"', listed[1]))


def sources() -> list[Path]:
    """Every Python file of the library, each once."""
    roots = ("cada_edge", *LINKED)
    return [CHECKOUT / f for f in tracked() if f.endswith(".py") and f.split("/")[0] in roots]


def test_the_top_level_is_what_the_architecture_says() -> None:
    """No file or folder at the top that nobody planned; dotfiles apart."""
    top = {name.split("/")[0] for name in tracked()}
    assert {name for name in top if not name.startswith(".")} - {"build", "dist"} == TOP_LEVEL


@pytest.mark.parametrize("name", LINKED)
def test_the_links_resolve(name: str) -> None:
    """cada_edge/<name> is a relative link to ../<name>, not a copy of it."""
    link = CHECKOUT / "cada_edge" / name
    assert link.is_symlink()
    assert link.readlink() == Path(f"../{name}")
    assert link.resolve() == (CHECKOUT / name).resolve()


def test_no_linked_folder_is_imported_under_its_short_name() -> None:
    """`export`, `runtime` and `calibration` exist only as sub-packages of cada_edge."""
    for name in LINKED:
        import_module(f"cada_edge.{name}")
    assert [name for name in LINKED if name in sys.modules] == []


def test_every_package_is_listed() -> None:
    """A new folder with Python files cannot be forgotten in the wheel."""
    found = {str(p.parent.relative_to(CHECKOUT)).replace("/", ".") for p in sources()}
    assert {name if name.startswith("cada_edge") else f"cada_edge.{name}" for name in found} == packages()


def test_every_data_file_is_packaged() -> None:
    """Files of the library that are not Python are named in package-data."""
    text = (CHECKOUT / "pyproject.toml").read_text().split("[tool.setuptools.package-data]")[1].split("\n[")[0]
    patterns = re.findall(r'"(\*?[\w.]+\.\w+|\*\.[\w.]+|py\.typed)"', text)
    strays = [
        f
        for f in tracked()
        if f.split("/")[0] in {"cada_edge", *LINKED}
        and not f.endswith(".py")
        and not (CHECKOUT / f).is_symlink()
        and not any(Path(f).match(pattern) for pattern in patterns)
    ]
    assert strays == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and source archive, built from a copy of the checkout without network."""
    pytest.importorskip("setuptools", minversion="77")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, copy / name, follow_symlinks=False)
    code = f"import setuptools.build_meta as b; print(b.build_sdist({str(out)!r}), b.build_wheel({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def expected_modules() -> set[str]:
    """Paths in the wheel of every Python file of the library."""
    relative = (str(p.relative_to(CHECKOUT)) for p in sources())
    return {name if name.startswith("cada_edge/") else f"cada_edge/{name}" for name in relative}


def test_the_wheel_holds_the_library_and_nothing_else(built: Path) -> None:
    """Every module once, py.typed and the licence; no test, no picture, no short-named folder."""
    names = set(zipfile.ZipFile(next(built.glob("*.whl"))).namelist())
    code = {name for name in names if ".dist-info/" not in name}
    assert {name for name in code if name.endswith(".py")} == expected_modules()
    assert "cada_edge/py.typed" in code
    assert {Path(name).suffix for name in code} <= {".py", ".typed", ".j2", ".yaml", *PAGE_SUFFIXES, *PLUGIN_SUFFIXES}
    built_there = {"export/plugin/launch.cu", "export/plugin/host/cuda_shim.h", "cmake/CMakeLists.txt"}
    assert {f"cada_edge/{name}" for name in built_there} <= code
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_archive_holds_the_library(built: Path) -> None:
    """The sdist has everything the wheel is built from."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    wanted = {str(p.relative_to(CHECKOUT)) for p in sources()}
    assert wanted <= names
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names


def test_ruff_sees_every_file_exactly_once() -> None:
    """`ruff check .` visits the linked folders once, at their real place."""
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed; pip install 'cada-edge[dev]' brings it")
    command = [ruff, "check", "--show-files", "--no-cache", "."]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    seen = [Path(line).resolve() for line in done.stdout.splitlines() if line.endswith(".py")]
    assert len(seen) == len(set(seen))
    assert {p.resolve() for p in sources()} <= set(seen)


def functions() -> dict[str, int]:
    """Lines of every function's body, docstring included, by module and name."""
    lengths: dict[str, int] = {}
    for path in sources():
        for node in walk(parse(path.read_text())):
            if isinstance(node, FunctionDef | AsyncFunctionDef):
                lengths[f"{path.relative_to(CHECKOUT)}:{node.name}"] = (node.end_lineno or 0) - node.body[0].lineno + 1
    return lengths


def test_modules_and_functions_stay_short() -> None:
    """No module over 500 lines, no function body over 60, the median function at most 12."""
    long_modules = {str(p): n for p in sources() if (n := p.read_text().count("\n")) > 500}
    lengths = functions()
    assert long_modules == {}
    assert {name: n for name, n in lengths.items() if n > 60} == {}
    assert statistics.median(lengths.values()) <= 12


def test_no_absolute_path_of_a_machine_is_left_in_the_tree() -> None:
    """Nothing in the project depends on, or speaks of, the machine it was written on."""
    wanted = re.compile("|".join(["/wo" + "rk/", "/home/" + r"\w+/", "/Users" + "/"]))
    texts = (f for f in tracked() if Path(f).suffix in {".py", ".md", ".toml", ".yaml", ".cmake", ".j2", ""})
    assert [f for f in texts if not (CHECKOUT / f).is_dir() and wanted.search((CHECKOUT / f).read_text())] == []
