"""The table: mean and spread over seeds, what is missing said, and every format whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bench_kit import MakeBench, Ran

from cada_edge.bench.records import CellRecord, finished, record_path
from cada_edge.bench.report import markdown, write_table
from cada_edge.bench.table import COLUMNS, Spread, collect
from cada_edge.errors import DataError


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.87, 0.88, 0.89), "88.0 \u00b1 1.0"),
        ((0.5,), "50.0"),
        ((0.5, None), "50.0 (1 of 2 seeds)"),
        ((None, None), "-"),
        ((), "-"),
    ],
)
def test_a_spread_says_how_many_seeds_it_rests_on(values: tuple[float | None, ...], text: str) -> None:
    """Mean and sample standard deviation in per cent; a missing seed is not passed over in silence."""
    assert Spread(values).text() == text


def test_the_table_holds_the_done_cells_and_names_the_others(ran: Ran) -> None:
    """Each detector and head is one row over its seeds; failures come with their error."""
    table = collect(ran[0])
    assert [(row.detector, row.seeds) for row in table.rows] == [("student", (0, 1))]
    assert set(table.failed) == {"broken.cada.0", "broken.cada.1"}
    assert not table.complete
    assert not table.missing


def test_every_figure_is_the_cells_own(ran: Ran) -> None:
    """The table's values per seed are those in the records."""
    bench, _ = ran
    row = collect(bench).rows[0]
    for seed, value in zip(row.seeds, row.figures["pooled_cada"].values, strict=True):
        record = finished(bench, bench.cell(f"student.cada.{seed}"))
        assert record is not None
        assert value == record.figures["alignments"]["cada"]["pooled"]["image_auroc"]


def test_cells_of_other_settings_are_not_in_the_table(ran: Ran, make_bench: MakeBench) -> None:
    """After a change of the grid its cells count as not run."""
    table = collect(make_bench(ran[0].out, size=96))
    assert table.rows == ()
    assert table.missing == ("student.cada.0", "student.cada.1")
    assert "not run yet: student.cada.0" in markdown(table)


def test_cells_of_other_images_are_not_mixed(ran: Ran, make_bench: MakeBench) -> None:
    """A table of cells that saw different images is refused."""
    bench = make_bench()
    for cell, data in zip(bench.cells, "ab", strict=True):
        record = finished(ran[0], ran[0].cell(cell.id))
        assert record is not None
        replace(record, data_sha256=data).write(record_path(bench, cell))
    with pytest.raises(DataError, match="different images"):
        collect(bench)


def test_every_format_is_written(ran: Ran, tmp_path: Path) -> None:
    """Markdown with a column per detector, one HTML file without network, a picture, and JSON that reads back."""
    table = collect(ran[0])
    files = {path.name: path.read_bytes() for path in write_table(table, tmp_path)}
    assert set(files) == {"table.md", "table.json", "table.html", "table.png"}
    assert b"| % | student |" in files["table.md"]
    assert b"broken.cada.0 failed" in files["table.md"]
    assert b"http" not in files["table.html"].replace(b"http-equiv", b"")
    assert files["table.png"].startswith(b"\x89PNG")
    assert set(json.loads(files["table.json"])["rows"][0]["figures"]) == set(COLUMNS)


def test_a_record_reads_back_as_it_was_written(ran: Ran, tmp_path: Path) -> None:
    """Nothing of a record is lost on disk."""
    record = CellRecord.read(record_path(ran[0], ran[0].cell("student.cada.0")))
    assert record is not None
    record.write(tmp_path / "a" / "copy.json")
    assert CellRecord.read(tmp_path / "a" / "copy.json") == record
