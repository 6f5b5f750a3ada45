"""benchmarks/peak.py: how much of the processor's peak the encoder reaches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the encoder is a model's")

from cada_edge.bundle import Bundle, Manifest
from cada_edge.models import UnifiedModel
from cada_edge.models.store import components, model_files

CHECKOUT = Path(os.environ.get("CADA_EDGE_CHECKOUT") or Path(__file__).resolve().parents[2])
ROUNDS = 8


def peak(*arguments: str | Path, cores: set[int]) -> subprocess.CompletedProcess[str]:
    """The benchmark as its docstring says, on some cores."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests")])}
    command = [sys.executable, str(CHECKOUT / "benchmarks" / "peak.py"), *map(str, arguments)]
    pinned = f"import os, sys; os.sched_setaffinity(0, {cores}); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", pinned, *command]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def bundle(build_model: Callable[..., UnifiedModel], tmp_path: Path) -> Path:
    """A small model, not trained: what it finds is worth nothing, its layers are a real one's."""
    model = build_model()
    detector, head = components(model)
    Bundle(Manifest(model.spec, model.map_spec, detector, head), model_files(model)).write(tmp_path / "line.cada")
    return tmp_path / "line.cada"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the peak is measured by a loop that gcc compiles")
def test_it_prints_and_writes_what_each_way_and_each_kind_of_layer_reaches(bundle: Path, tmp_path: Path) -> None:
    """The loop is the peak, kinds of convolution share the encoder's work, and every raw sample is kept."""
    done = peak(bundle, "--n", str(ROUNDS), "--json", tmp_path / "peak.json", cores={min(os.sched_getaffinity(0))})
    assert done.returncode == 0, done.stderr
    for name in ("multiply-adds on registers | ", "NumPy, ", "PyTorch, ", "encoder | ", "depthwise | ", "pointwise | "):
        assert f"| {name}" in done.stdout
    told = json.loads((tmp_path / "peak.json").read_text())
    assert told["ways"]["multiply-adds on registers"]["share_of_loop"] == [1, 1, 1]
    assert {len(samples) for samples in told["samples_ns"].values()} == {ROUNDS}
    whole, *kinds = told["encoder"]
    assert whole["multiply_adds"] == sum(row["multiply_adds"] for row in kinds)
    assert sum(row["share_of_time"] for row in kinds) == pytest.approx(1)


def test_it_refuses_more_than_one_core(bundle: Path) -> None:
    """Other threads' work would be counted, their time would not."""
    if len(cores := os.sched_getaffinity(0)) == 1:
        pytest.skip("this machine has one core")
    done = peak(bundle, cores=cores)
    assert done.returncode == 2
    assert "taskset" in done.stderr
