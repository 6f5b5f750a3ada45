"""Records as a Parquet file, for pandas, DuckDB, Spark and the like."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from cada_edge.errors import DataError, MissingDependencyError
from cada_edge.runtime.records.read import Filter, RecordFile
from cada_edge.runtime.records.rows import RUN_COLUMNS, TABLES

_GROUP_ROWS = 50_000
_BOOLEANS = frozenset({"late", "drifted", "feature_drifted"})


def export_parquet(records: RecordFile, out: Path, table: str = "verdicts", chosen: Filter | None = None) -> int:
    """Write the rows of one table to `out`, whole or not at all; returns how many.

    Column ``time`` is a UTC timestamp in microseconds; ``bundle_sha256`` and ``version`` tell
    what judged. Raises `DataError` when the disk is full or the place cannot be written, and
    `MissingDependencyError` without pyarrow.
    """
    arrow, parquet = _pyarrow()
    schema = _schema(arrow, table)
    temporary, count = out.with_name(f".{out.name}.part"), 0
    try:
        with parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for group in _groups(records.rows(table, chosen or Filter())):
                columns = [[_value(row, field.name) for row in group] for field in schema]
                arrays = [arrow.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
                count += len(group)
        temporary.replace(out)
    except OSError as error:
        raise DataError(f"{out}: cannot write the file: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415  # optional, and slow to import
        import pyarrow.parquet as pq  # noqa: PLC0415  # as above
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "pyarrow is not installed; for Parquet files run: pip install 'cada-edge[parquet]'"
        ) from error
    return pa, pq


def _schema(arrow: Any, table: str) -> Any:
    kinds = {"INTEGER": arrow.int64(), "REAL": arrow.float64(), "TEXT": arrow.string()}
    fields = [("id", arrow.int64()), ("time", arrow.timestamp("us", tz="UTC"))]
    for name, kind in TABLES[table].items():
        if name != "time_us":
            fields.append((name, arrow.bool_() if name in _BOOLEANS else kinds[kind]))
    fields += [(name, arrow.string()) for name in RUN_COLUMNS if name != "time_us"]
    return arrow.schema(fields)


def _value(row: dict[str, Any], name: str) -> Any:
    if name == "time":
        return row["time_us"]
    return bool(row[name]) if name in _BOOLEANS else row[name]


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while group := list(islice(rows, _GROUP_ROWS)):
        yield group
