"""What the tests of a grid share: the grid, and running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cada_edge.bench.cell import Outcome
from cada_edge.bench.grid import Bench, Cell
from cada_edge.bench.spread import run_grid

STUDENT = {
    "name": "student",
    "kind": "revdist",
    "settings": {"width": 8, "bottleneck": 8},
    "strides": [8, 16],
    "fit": {"iterations": 10, "batch_size": 4, "checkpoint_every": 5},
}
BROKEN = {"name": "broken", "kind": "revdist", "strides": [8, 64]}
HEAD = {"name": "cada", "fit": {"iterations": 20}}
OTHER_HEAD = {"name": "narrow", "settings": {"hidden": 4}, "fit": {"iterations": 20}}
GRID: dict[str, Any] = {
    "schema": 1,
    "seeds": [0, 1],
    "size": 64,
    "augment": {"copies": 0},
    "map": {"size_hw": [16, 16]},
    "device": "cpu",
    "latency_runs": 3,
    "detectors": [STUDENT],
    "heads": [HEAD],
}

MakeBench = Callable[..., Bench]
Ran = tuple[Bench, dict[str, Outcome]]


def run(bench: Bench, jobs: int = 1) -> dict[str, Outcome]:
    """Run a grid; each cell's outcome by its id, each told once."""
    outcomes: dict[str, Outcome] = {}

    def told(cell: Cell, outcome: Outcome) -> None:
        assert cell.id not in outcomes
        outcomes[cell.id] = outcome

    run_grid(bench, jobs, lambda cell, stage, done, total: None, told)
    return outcomes
