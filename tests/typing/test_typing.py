"""The public API means to a type checker what it means to people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import cada_edge


def test_the_public_api_type_checks(tmp_path: Path) -> None:
    """A user's strict mypy, with no configuration of ours, agrees with every assert_type and finds every misuse."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--config-file", "/dev/null"]
    command += ["--cache-dir", str(tmp_path), "--follow-imports=silent", str(Path(__file__).with_name("public_api.py"))]
    root = Path(cada_edge.__file__).resolve().parents[1]
    folder = root if (root / "pyproject.toml").exists() else tmp_path  # an installed package is found anywhere
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_public_names_are_sorted_and_there() -> None:
    """Every name of `__all__` exists, in order, and is covered by the typed example or the tests."""
    assert sorted(cada_edge.__all__) == cada_edge.__all__
    assert [name for name in cada_edge.__all__ if not hasattr(cada_edge, name)] == []
