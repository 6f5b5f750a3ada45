"""The plugin's kernels, compiled for the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cada_edge.export.plugin.host import HostPlugin


@pytest.fixture(scope="session")
def compiler() -> str:
    """The C++ compiler; skips where there is none."""
    found = shutil.which("g++")
    if found is None:
        pytest.skip("g++ is not installed: the host build of the kernels cannot be tested")
    return found


@pytest.fixture(scope="session")
def host(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> HostPlugin:
    """The host build, compiled once a session."""
    return HostPlugin.build(tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="session")
def double() -> Path:
    """Folder of our double of TensorRT's header."""
    return Path(__file__).with_name("double")
