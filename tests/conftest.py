"""Fixtures several test folders share: the real pictures and a small synthetic line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from cada_edge.data.dataset import Dataset

# The same examples on every run, and no deadline: a busy machine must not fail a test.
settings.register_profile("cada-edge", derandomize=True, deadline=None, database=None)
settings.load_profile("cada-edge")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real inspection pictures in MVTec AD layout; skips where it is absent."""
    path = Path(os.environ.get("CADA_EDGE_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"real inspection images are not at {path}; set CADA_EDGE_DATA")
    return path


@pytest.fixture(scope="session")
def tiny_line(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three synthetic products at 96 px: each 8 train, 3 good and 3 defective test images."""
    from cada_edge.data.synthetic import SynthConfig, synthesize

    config = SynthConfig(products=3, train=8, test_good=3, test_defect=3, size_px=96, seed=7)
    return synthesize(config, tmp_path_factory.mktemp("tiny") / "line")
