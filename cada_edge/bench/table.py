"""All cells of a grid in one table: mean and standard deviation over seeds of each detector and head."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cada_edge.bench.grid import Bench, Cell
from cada_edge.bench.records import CellRecord, config_sha256, record_path
from cada_edge.errors import DataError
from cada_edge.version import __version__

SCHEMA = 1
Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Spread:
    """One figure over seeds; None where a seed has none (an AUROC without a gap to close, say)."""

    values: tuple[float | None, ...]

    @property
    def known(self) -> tuple[float, ...]:
        """The values that are there."""
        return tuple(value for value in self.values if value is not None)

    @property
    def mean(self) -> float | None:
        """Mean of the known values."""
        return statistics.fmean(self.known) if self.known else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n - 1) of the known values; None below two."""
        return statistics.stdev(self.known) if len(self.known) > 1 else None

    def text(self, scale: float = 100.0, digits: int = 1) -> str:
        """``87.0 ± 0.4``, in per cent unless told otherwise; ``-`` without values."""
        if self.mean is None:
            return "-"
        spread = "" if self.std is None else f" \u00b1 {scale * self.std:.{digits}f}"
        partial = "" if len(self.known) == len(self.values) else f" ({len(self.known)} of {len(self.values)} seeds)"
        return f"{scale * self.mean:.{digits}f}{spread}{partial}"

    def to_json(self) -> dict[str, Any]:
        """Every value, mean and standard deviation."""
        return {"values": list(self.values), "mean": self.mean, "std": self.std}


@dataclass(frozen=True)
class Column:
    """A figure of the table.

    Attributes:
        group: heading above several columns.
        title: its own heading.
        read: finds it in a cell's figures; None where the cell has none.
        scale: 100 for per cent, 1 for ratios.
        digits: after the point.
    """

    group: str
    title: str
    read: Callable[[Figures], float | None]
    scale: float = 100.0
    digits: int = 1


def _auroc(alignment: str, over: str) -> Callable[[Figures], float | None]:
    def read(figures: Figures) -> float | None:
        found = figures["alignments"].get(alignment)
        return None if found is None else _number(found[over]["image_auroc"])

    return read


def _operating(alignment: str, name: str) -> Callable[[Figures], float | None]:
    """At the first target rate: the headline's."""

    def read(figures: Figures) -> float | None:
        points = figures["alignments"][alignment]["operating"]
        return _number(points[0][name]) if points else None

    return read


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


_EACH, _POOLED, _GAP = "mean I-AUROC per product", "I-AUROC of the pool", "gap"
_PAID, _HEAD, _COST = "at one threshold", "CADA head", "whole graph, one thread"
COLUMNS: Mapping[str, Column] = {
    "per_product_raw": Column(_EACH, "raw", _auroc("raw", "per_product")),
    "per_product_cada": Column(_EACH, "CADA", _auroc("cada", "per_product")),
    "pooled_raw": Column(_POOLED, "raw", _auroc("raw", "pooled")),
    "pooled_class_aware": Column(_POOLED, "class-aware", _auroc("class-aware", "pooled")),
    "pooled_class_predicted": Column(_POOLED, "class-predicted", _auroc("class-predicted", "pooled")),
    "pooled_cada": Column(_POOLED, "CADA", _auroc("cada", "pooled")),
    "gap_closure": Column(_GAP, "closed (1: as with labels)", lambda f: _number(f["gap_closure"]["value"]), 1.0, 2),
    "frr_raw": Column(_PAID, "good rejected, raw", _operating("raw", "frr")),
    "frr_cada": Column(_PAID, "good rejected, CADA", _operating("cada", "frr")),
    "worst_frr_raw": Column(_PAID, "worst product, raw", _operating("raw", "worst_frr")),
    "worst_frr_cada": Column(_PAID, "worst product, CADA", _operating("cada", "worst_frr")),
    "recall_raw": Column(_PAID, "defects caught, raw", _operating("raw", "recall")),
    "recall_cada": Column(_PAID, "defects caught, CADA", _operating("cada", "recall")),
    "head_numbers": Column(_HEAD, "numbers stored", lambda f: _number(f["head_cost"]["head_numbers"]), 1.0, 0),
    "head_share": Column(
        _HEAD, "share of numbers", lambda f: f["head_cost"]["head_numbers"] / f["head_cost"]["model_numbers"], digits=2
    ),
    "head_latency": Column(_HEAD, "share of latency", lambda f: _number(f["head_cost"]["latency_share"]), digits=2),
    "graph_ms": Column(_COST, "ms", lambda f: _number(f["head_cost"]["graph_ms"]), 1.0, 1),
}


@dataclass(frozen=True)
class Row:
    """A detector with a head, over the seeds that are done.

    Attributes:
        detector: name of its entry.
        head: name of its entry.
        seeds: those done, in the order of every `Spread` and of `worst`.
        figures: by the keys of `COLUMNS`.
        worst: per seed the product that loses most good parts under CADA, with counts.
    """

    detector: str
    head: str
    seeds: tuple[int, ...]
    figures: Mapping[str, Spread]
    worst: tuple[str, ...]

    def text(self, key: str) -> str:
        """One figure as the table shows it; a count without its spread."""
        mean = self.figures[key].mean
        if COLUMNS[key].digits == 0 and mean is not None:
            return f"{mean:,.0f}"
        return self.figures[key].text(COLUMNS[key].scale, COLUMNS[key].digits)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "detector": self.detector,
            "head": self.head,
            "seeds": list(self.seeds),
            "figures": {key: spread.to_json() for key, spread in self.figures.items()},
            "worst_product": list(self.worst),
        }


@dataclass(frozen=True)
class Table:
    """What a grid has shown so far.

    Attributes:
        source: the grid as it was named.
        target_frr: false-reject rate behind the threshold columns.
        rows: detectors and heads with at least one seed done, in the grid's order.
        records: the done cells, in the grid's order.
        failed: cell id to error, of cells that failed under these settings.
        missing: ids of cells that nobody has finished under these settings.
    """

    source: str
    target_frr: float
    rows: tuple[Row, ...]
    records: tuple[CellRecord, ...]
    failed: Mapping[str, str]
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True when every cell of the grid is in the table."""
        return not self.failed and not self.missing

    def columns(self) -> tuple[str, ...]:
        """Keys of the columns in which some row has a figure."""
        return tuple(key for key in COLUMNS if any(row.figures[key].known for row in self.rows))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types under schema 1; the records themselves lie beside it."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "grid": self.source,
            "data_sha256": self.records[0].data_sha256 if self.records else None,
            "target_frr": self.target_frr,
            "rows": [row.to_json() for row in self.rows],
            "failed": dict(self.failed),
            "missing": list(self.missing),
        }


def collect(bench: Bench) -> Table:
    """The table of what is there; it needs the records alone, no images.

    Raises `DataError` when a record is damaged or cells were measured on different images.
    """
    found = {cell.id: _current(bench, cell) for cell in bench.cells}
    done = {name: record for name, record in found.items() if record is not None and record.status == "done"}
    _check_same_data(tuple(done.values()))
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in sorted(bench.cells, key=lambda c: [d.name for d in bench.grid.detectors].index(c.detector)):
        if cell.id in done:
            groups.setdefault((cell.detector, cell.head), []).append(cell)
    return Table(
        source=bench.source,
        target_frr=bench.grid.targets_frr[0],
        rows=tuple(_row(cells, done) for cells in groups.values()),
        records=tuple(done.values()),
        failed={name: record.error for name, record in found.items() if record is not None and name not in done},
        missing=tuple(name for name, record in found.items() if record is None),
    )


def _current(bench: Bench, cell: Cell) -> CellRecord | None:
    """The record of `cell` unless settings or version have changed since."""
    record = CellRecord.read(record_path(bench, cell))
    return record if record is not None and record.config_sha256 == config_sha256(bench, cell) else None


def _check_same_data(records: Sequence[CellRecord]) -> None:
    by_data = {record.data_sha256: record.cell for record in records}
    if len(by_data) > 1:
        raise DataError(
            f"cells were measured on different images or labels ({', '.join(by_data.values())}, for instance); "
            "run the grid again: cells measured on other images are then repeated"
        )


def _row(cells: Sequence[Cell], done: Mapping[str, CellRecord]) -> Row:
    found = [done[cell.id].figures for cell in cells]
    points = [figures["alignments"]["cada"]["operating"] for figures in found]
    return Row(
        detector=cells[0].detector,
        head=cells[0].head,
        seeds=tuple(cell.seed for cell in cells),
        figures={key: Spread(tuple(column.read(f) for f in found)) for key, column in COLUMNS.items()},
        worst=tuple(point[0]["worst"] for point in points if point),
    )
