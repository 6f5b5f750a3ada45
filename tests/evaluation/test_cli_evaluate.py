"""The evaluate command: table, JSON and report from one call."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cada_edge.bundle import Bundle
from cada_edge.cli.app import run
from cada_edge.data.dataset import Dataset
from cada_edge.protocols import Runner
from cada_edge.types import Float32Array, UInt8Array


def mean_colour(batch: UInt8Array) -> Float32Array:
    """A descriptor that tells the products apart, float32 (N, 3)."""
    return np.asarray(batch.mean(axis=(1, 2)), np.float32)


@pytest.fixture
def source(
    line: Dataset,
    make_bundle: Callable[[Dataset], Bundle],
    runner: Runner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The bundle on disk; the command runs it through the weightless runner."""
    monkeypatch.setattr("cada_edge.cli.evaluate.open_runner", lambda *_: runner)
    monkeypatch.setattr("cada_edge.cli.evaluate.open_describer", lambda _: mean_colour)
    make_bundle(line).write(tmp_path / "line.cada")
    return tmp_path / "line.cada"


def test_one_call_gives_table_json_and_report(source: Path, line: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """Each output asked for is there and speaks of the protocol asked for."""
    data, page = source.with_name("e.json"), source.with_name("e.html")
    command = ["evaluate", str(source), str(line.root), "--protocol", "model", "--target-frr", "0.05"]
    with pytest.raises(SystemExit) as left:
        run([*command, "--json", str(data), "--report", str(page), "--no-images"])
    assert left.value.code == 0
    assert "Model-unified" in capsys.readouterr().out
    assert json.loads(data.read_text())["config"] == {
        "protocol": "model",
        "targets_frr": [0.05],
        "confidence": 0.95,
        "batch_size": 16,
    }
    assert "model protocol" in page.read_text()


def test_json_on_standard_output_is_nothing_else(
    source: Path, line: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json - a script reads standard output as it is."""
    with pytest.raises(SystemExit):
        run(["evaluate", str(source), str(line.root), "--json", "-"])
    assert json.loads(capsys.readouterr().out)["gap_closure"]["value"] == 1.0
