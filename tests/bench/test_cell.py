"""Cells: shared work done once, failures recorded, interruptions resumed to the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench_kit import BROKEN, HEAD, OTHER_HEAD, STUDENT, MakeBench, Ran, run

from cada_edge.bench.cell import run_cell
from cada_edge.bench.claims import claim
from cada_edge.bench.records import CellRecord, finished, labels_sha256, record_path
from cada_edge.data.dataset import Dataset
from cada_edge.errors import DataError


def quiet(stage: str, done: int, total: int) -> None:
    """Take progress and say nothing."""


def test_a_broken_cell_does_not_stop_the_others(ran: Ran) -> None:
    """A detector that cannot be built is recorded with its error; the cells after it finish."""
    bench, outcomes = ran
    assert outcomes == {f"{d}.cada.{s}": o for d, o in (("broken", "failed"), ("student", "done")) for s in (0, 1)}
    record = CellRecord.read(record_path(bench, bench.cell("broken.cada.0")))
    assert record is not None
    assert "64" in record.error
    assert not record.figures


def test_a_second_run_repeats_nothing_but_failures(ran: Ran, make_bench: MakeBench) -> None:
    """Finished cells are kept, failed ones are tried again."""
    bench, _ = ran
    before = record_path(bench, bench.cell("student.cada.0")).read_bytes()
    again = run(make_bench(bench.out, detectors=[BROKEN, STUDENT]))
    assert set(again.values()) == {"failed", "kept"}
    assert record_path(bench, bench.cell("student.cada.0")).read_bytes() == before


def test_another_head_shares_features_and_detector(ran: Ran, make_bench: MakeBench, tiny_line: Dataset) -> None:
    """For a second head nothing is encoded and no detector is fitted again, and only the head differs."""
    bench = make_bench(ran[0].out, heads=[HEAD, OTHER_HEAD])
    cell = bench.cell("student.narrow.0")
    assert run_cell(bench, cell, tiny_line, quiet) == "done"
    narrow, first = finished(bench, cell), finished(bench, bench.cell("student.cada.0"))
    assert narrow is not None
    assert first is not None
    assert {"encode images", "fit detector"} <= set(first.provenance["seconds"])
    assert not {"encode images", "fit detector"} & set(narrow.provenance["seconds"])
    raw = [record.figures["alignments"]["raw"]["pooled"] for record in (narrow, first)]
    assert raw[0] == pytest.approx(raw[1], abs=1e-6)
    assert narrow.figures["head_cost"]["head_numbers"] < first.figures["head_cost"]["head_numbers"]


def test_an_interrupted_cell_goes_on_to_the_same_bundle(ran: Ran, make_bench: MakeBench, tiny_line: Dataset) -> None:
    """Stopped in the middle of the fit it leaves no record and no claim; run again it ends byte for byte the same."""
    bench = make_bench(seeds=[0])
    cell = bench.cells[0]

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "fit detector" and done == total - 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cell(bench, cell, tiny_line, stop)
    assert not record_path(bench, cell).exists()
    assert run_cell(bench, cell, tiny_line, quiet) == "done"
    resumed, whole = finished(bench, cell), finished(ran[0], ran[0].cell("student.cada.0"))
    assert resumed is not None
    assert whole is not None
    assert "encode images" not in resumed.provenance["seconds"]
    assert resumed.figures["bundle_sha256"] == whole.figures["bundle_sha256"]


def test_a_cell_that_another_process_runs_is_left_to_it(make_bench: MakeBench, tiny_line: Dataset) -> None:
    """Two workers never run a cell at the same time."""
    bench = make_bench()
    with claim(bench.out / "locks" / f"{bench.cells[0].id}.lock", wait=False) as mine:
        assert mine
        assert run_cell(bench, bench.cells[0], tiny_line, quiet) == "elsewhere"
    assert not record_path(bench, bench.cells[0]).exists()


def test_other_labels_are_another_measurement(tiny_line: Dataset) -> None:
    """A picture called defective that was called good changes the digest, though no picture changed."""
    items = list(tiny_line.items)
    index = next(i for i, item in enumerate(items) if item.split == "test" and item.defect is None)
    items[index] = replace(items[index], defect="dent")
    assert labels_sha256(replace(tiny_line, items=tuple(items))) != labels_sha256(tiny_line)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema": 9}', '{"schema": 1, "cell": "a"}'])
def test_a_damaged_record_is_named(content: str, tmp_path: Path) -> None:
    """What is no record is refused with its path and the way out."""
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json.*delete it"):
        CellRecord.read(tmp_path / "a.json")
