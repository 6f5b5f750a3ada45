"""The main job, end to end, as `make demo` runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cada_edge.bundle import Bundle


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder a small demo leaves behind, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    options = ["--size", "64", "--iterations", "20", "--products", "3", "--images", "56", "--verdicts", "6"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CADA_EDGE_")}
    done = subprocess.run(
        [sys.executable, "-m", "cada_edge", "demo", "--out", str(out), *options],
        env={**environment, "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out, done.stdout


@pytest.mark.slow
def test_a_modbus_client_reads_verdicts_live(demo: tuple[Path, str]) -> None:
    """A client in another process sees numbered PASS and REJECT results."""
    lines = [line for line in demo[1].splitlines() if line.startswith(("PASS", "REJECT"))]
    assert len(lines) == 6
    numbers = [int(line.split("seq")[1].split()[0]) for line in lines]
    assert numbers == sorted(set(numbers))


@pytest.mark.slow
def test_the_bundle_it_leaves_is_complete(demo: tuple[Path, str]) -> None:
    """The bundle verifies, has a threshold and a graph, and names the stages that made it."""
    bundle = Bundle.read(demo[0] / "line.cada")
    assert bundle.manifest.threshold is not None
    assert "model.onnx" in bundle.files
    assert {stage.name for stage in bundle.manifest.provenance} == {"train", "export", "calibrate"}


@pytest.mark.slow
def test_report_records_and_figures_are_left(demo: tuple[Path, str]) -> None:
    """Report, figures and one record per verdict lie where the last line says."""
    out = demo[0]
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    figures = json.loads((out / "evaluation.json").read_text())
    assert figures
    records = [json.loads(line) for line in (out / "verdicts.jsonl").read_text().splitlines()]
    assert {record["status"] for record in records} <= {"ok", "ng", "undecided"}
    assert len(records) >= 6
