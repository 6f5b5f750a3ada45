"""Every extra of this package against what is installed, read from installed metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

from cada_edge.doctor.report import Check

PACKAGE = "cada-edge"
# Modules that `cada-edge run` imports: all there is to go by in a checkout that was never installed.
RUNTIME_MODULES = ("cv2", "onnxruntime", "PIL", "pydantic", "pymodbus", "rich", "structlog", "typer", "yaml")

_REQUIREMENT = re.compile(
    r"""^(?P<name>[\w.-]+)(?:\[(?P<extras>[^]]*)\])?\s*\(?(?P<spec>[^;)]*)\)?(?:;(?P<marker>.*))?$"""
)
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w.-]+)["']""")
_CLAUSE = re.compile(r"(>=|<=|==|<|>)\s*([\w.]+)")


def checks() -> Iterator[Check]:
    """One check per extra and package; a checkout that was never installed gets its modules looked for."""
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        yield from _without_metadata()
        return
    for extra, requirements in by_extra(lines).items():
        for name, spec in requirements:
            yield check(extra, name, spec)


def by_extra(lines: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Requirement lines as {extra: [(package, version clauses)]}; our own extras are left to themselves."""
    table: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        match = _REQUIREMENT.match(line.strip())
        if match is None or match["name"] == PACKAGE:
            continue
        extra = _EXTRA.search(match["marker"] or "")
        table.setdefault(extra[1] if extra else "core", []).append((match["name"], match["spec"].strip()))
    return table


def check(extra: str, name: str, spec: str) -> Check:
    """One package of one extra: installed, and in a version that fits `spec`?"""
    required = extra in {"core", "runtime"}
    mend = f"pip install '{PACKAGE}[{extra}]'" if extra != "core" else f"pip install {PACKAGE}"
    version = _version(name)
    if version is None:
        return Check(extra, name, "missing", f"not installed, needs {spec or 'any version'}", mend, required)
    if not fits(version, spec):
        return Check(
            extra, name, "missing", f"{version}, needs {spec}", f"pip install --upgrade '{name}{spec}'", required
        )
    return Check(extra, name, "ok", version, required=required)


def fits(version: str, spec: str) -> bool:
    """Whether `version` satisfies every clause, comparing the leading numbers of each."""
    have = _numbers(version)
    for operator, text in _CLAUSE.findall(spec):
        want = _numbers(text)
        order = (have > want) - (have < want)
        if order not in {">=": (0, 1), "<=": (-1, 0), "==": (0,), "<": (-1,), ">": (1,)}[operator]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    leading = re.match(r"\d+(?:\.\d+)*", version)
    parts = [int(p) for p in leading[0].split(".")] if leading else []
    return tuple(parts + [0] * (6 - len(parts)))


def _version(name: str) -> str | None:
    installed = next((d.version for d in metadata.distributions(name=name)), None)
    if name != "opencv-python" or installed:
        return installed
    if find_spec("cv2") is None:
        return None
    import cv2  # noqa: PLC0415  # headless builds and JetPack bring it under other names or none

    return str(cv2.__version__)


def _without_metadata() -> Iterator[Check]:
    yield Check("core", PACKAGE, "note", "a checkout, never installed", "pip install -e '.[dev]'")
    for module in RUNTIME_MODULES:
        there = find_spec(module) is not None
        mend = "" if there else "pip install -e '.[runtime]'"
        found = "found" if there else "not installed"
        yield Check("runtime", module, "ok" if there else "missing", found, mend, required=True)
