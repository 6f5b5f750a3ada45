"""A grid small enough for every test: 64 px, a narrow student, ten steps; one detector cannot be built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from bench_kit import BROKEN, GRID, STUDENT, MakeBench, Ran, run

from cada_edge.bench.grid import Bench, load_bench
from cada_edge.data.dataset import Dataset


@pytest.fixture(scope="session")
def make_bench(tiny_line: Dataset, tmp_path_factory: pytest.TempPathFactory) -> MakeBench:
    """A bench on the tiny line from `GRID` with changes: ``make_bench(out, seeds=[0])``."""

    def make(out: Path | None = None, **changes: Any) -> Bench:
        folder = tmp_path_factory.mktemp("grid")
        (folder / "grid.yaml").write_text(yaml.safe_dump({**GRID, **changes}))
        return load_bench(str(folder / "grid.yaml"), tiny_line.root, out or folder / "out")

    return make


@pytest.fixture(scope="session")
def ran(make_bench: MakeBench) -> Ran:
    """A grid of two seeds that was run once, and what became of each cell."""
    bench = make_bench(detectors=[BROKEN, STUDENT])
    return bench, run(bench)
