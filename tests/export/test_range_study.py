"""Rules of INT8 ranges, compared on labelled images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cada_edge.bundle import MODEL, Bundle
from cada_edge.data.dataset import Dataset
from cada_edge.engine_key import Precision
from cada_edge.errors import BundleError, ConfigError, DataError, ExportError
from cada_edge.export.precision_config import PrecisionConfig
from cada_edge.export.range_study import RangeStudy, study_ranges
from cada_edge.runtime.runners.ort import OrtRunner

QUICK = PrecisionConfig(calibration_images=16, score_budget=1e6, probe_images=1)


def open_ort(bundle: Bundle, precision: Precision) -> OrtRunner:
    """The runner of the line."""
    return OrtRunner(bundle, threads=1, precision=precision)


@pytest.fixture(scope="module")
def line(bundle: Bundle, content: bytes) -> Bundle:
    """The small bundle with its graph."""
    return bundle.with_file(MODEL, content)


@pytest.fixture(scope="module")
def study(line: Bundle, tiny_line: Dataset) -> RangeStudy:
    """Two rules on the small line."""
    return study_ranges(line, tiny_line, open_ort, QUICK, methods=("max", "mse"))


def test_each_rule_is_compared_in_all_layers_and_within_the_budget(study: RangeStudy) -> None:
    """Float16 first, then a row for each rule, twice, all on the labelled test images."""
    names = ["every candidate", "within the budget"]
    assert [row.name for row in study.rows] == [
        "fp16",
        *(f"{rule}, {name}" for name in names for rule in ("max", "mse")),
    ]
    assert [row.layers for row in study.rows] == [0, *[study.candidates] * 4]
    assert {(row.gate.good, row.gate.damaged) for row in study.rows} == {(9, 9)}
    assert study.fp32_bytes > study.rows[0].size > study.rows[-1].size


def test_rules_differ_and_lower_precision_is_measured(study: RangeStudy) -> None:
    """INT8 moves scores by more than float16 does, and two rules do not move them alike."""
    half, *rest = [row.gate.score_rms for row in study.rows]
    assert 0 < half < min(rest)
    assert rest[0] != rest[1]
    json.dumps(study.to_json(), allow_nan=False)


def test_a_budget_leaves_the_harmful_layers_out(line: Bundle, study: RangeStudy, tiny_line: Dataset) -> None:
    """With half of what all layers do as the budget, fewer are INT8 and the probe's scores keep to it."""
    whole = study.rows[1].probe_rms
    assert whole is not None
    found = study_ranges(line, tiny_line, open_ort, replace(QUICK, score_budget=whole / 2), methods=("max",))
    last = found.rows[-1]
    assert last.probe_rms is not None
    assert 0 < last.layers < found.candidates
    assert last.probe_rms <= whole / 2


def test_what_cannot_be_compared_is_one_error(line: Bundle, bundle: Bundle, tiny_line: Dataset) -> None:
    """No graph, no labels of both kinds, no layer within the budget: each by name, with what to do."""
    with pytest.raises(BundleError, match=r"run `cada-edge export`"):
        study_ranges(bundle, tiny_line, open_ort, QUICK)
    good = replace(tiny_line, items=tuple(item for item in tiny_line.items if item.defect is None))
    with pytest.raises(DataError, match="9 good and 0 defective test images"):
        study_ranges(line, good, open_ort, QUICK)
    with pytest.raises(ExportError, match=r"no layer bears INT8.*--score-budget"):
        study_ranges(line, tiny_line, open_ort, replace(QUICK, score_budget=0.0), methods=("max",))


def test_the_command_gives_the_figures_and_leaves_the_bundle(line: Bundle, tiny_line: Dataset, tmp_path: Path) -> None:
    """The rules asked for, as JSON; not a byte of the bundle changes."""
    from cada_edge.cli.bench_ranges import bench_ranges

    path = tmp_path / "line.cada"
    line.write(path)
    before = path.read_bytes()
    app = typer.Typer()
    app.command()(bench_ranges)
    quick = ["--max-images", "4", "--calibration-images", "16", "--score-budget", "1e6", "--ranges", "mse", "--json"]
    done = CliRunner().invoke(app, [str(path), str(tiny_line.root), *quick])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert [row["name"] for row in rows] == ["fp16", "mse, every candidate", "mse, within the budget"]
    assert all(row["gate"]["good"] + row["gate"]["damaged"] == 4 for row in rows)
    assert path.read_bytes() == before
    wrong = CliRunner().invoke(app, [str(path), str(tiny_line.root), "--ranges", "mse,mean"])
    assert isinstance(wrong.exception, ConfigError)
    assert "got 'mean', expected some of max" in str(wrong.exception)
