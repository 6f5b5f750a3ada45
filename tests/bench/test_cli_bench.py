"""``cada-edge bench-accuracy`` as it is used: several processes, a job list, a table in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from bench_kit import HEAD, OTHER_HEAD, MakeBench, Ran

from cada_edge.bench.grid import Bench


def program(bench: Bench, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a bench's grid and places."""
    places = ["--data", str(bench.data), "--out", str(bench.out)]
    return subprocess.run(
        [sys.executable, "-m", "cada_edge", "bench-accuracy", bench.source, *places, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_processes_share_the_grid_and_the_table_is_whole(ran: Ran, make_bench: MakeBench) -> None:
    """Two processes do the cells that are not done, each once; the table then holds the whole grid and 0 is left."""
    bench = make_bench(ran[0].out, heads=[HEAD, OTHER_HEAD])
    done = program(bench, "--jobs", "2", "--json")
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    assert [(row["head"], row["seeds"]) for row in table["rows"]] == [("cada", [0, 1]), ("narrow", [0, 1])]
    assert (table["failed"], table["missing"]) == ({}, [])
    assert {path.name for path in bench.out.glob("table.*")} == {
        f"table.{kind}" for kind in ("md", "json", "html", "png")
    }


def test_collecting_an_unfinished_grid_leaves_with_1(make_bench: MakeBench) -> None:
    """--collect runs nothing and tells what is missing."""
    bench = make_bench()
    done = program(bench, "--collect")
    assert done.returncode == 1
    assert "not run yet: student.cada.0, student.cada.1" in done.stdout
    assert not (bench.out / "cells").exists()
