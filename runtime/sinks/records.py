"""Every verdict and every result as a row of an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cada_edge.runtime.drift import DriftReport
from cada_edge.runtime.records.clock import WallClock
from cada_edge.runtime.records.database import insert
from cada_edge.runtime.records.ledger import MEMORY_ROWS, Ledger, Tell, plain
from cada_edge.runtime.records.rows import (
    LAYOUT,
    RUN_COLUMNS,
    TABLES,
    ResultRecord,
    Row,
    drift_row,
    result_row,
    run_row,
    verdict_row,
)
from cada_edge.types import Frame, Prediction, Verdict
from cada_edge.version import __version__

if TYPE_CHECKING:
    from cada_edge.bundle import Bundle

_TRIM_EVERY = 256
_TRIM_ROWS = 1000
_DAY_S = 86_400


@dataclass(frozen=True)
class KeepLimits:
    """How much is kept; beyond, the oldest rows are deleted, a thousand at a time.

    Attributes:
        max_days: age, > 0; ``None`` for no limit. Rows are not aged out while the wall clock
            is more than an hour from where it was when the line started.
        max_rows: of each table, > 0; ``None`` for no limit.
    """

    max_days: float | None = None
    max_rows: int | None = None


class RecordSink:
    """Writes verdicts, results and drift reports, each in its table. Used by one thread at a time.

    Rows that cannot be written now wait in memory, see `Ledger`: each `send` meanwhile raises
    `SinkError` and loses nothing, until more than `memory_rows` wait.

    Args:
        path: the file; its folder must exist.
        bundle_sha256: of the bundle that judges.
        tell: called with what was mended without an error being raised.
        stations: source id to station id; a source without one has an empty station.
        limits: how much is kept.
        memory_rows: rows that may wait.

    Raises:
        SinkError: the place is wrong, or the file is a newer version's or another program's.
    """

    def __init__(
        self,
        path: Path,
        bundle_sha256: str,
        tell: Tell,
        *,
        stations: Mapping[str, str] | None = None,
        limits: KeepLimits | None = None,
        memory_rows: int = MEMORY_ROWS,
        clock: WallClock | None = None,
    ) -> None:
        self._stations, self._limits = stations or {}, limits or KeepLimits()
        self._clock = clock or WallClock()
        self._run = run_row(bundle_sha256, __version__)
        self._since_trim = 0
        self._ledger: Ledger[_Entry] = Ledger(path, LAYOUT, _write, tell, memory_rows)

    @property
    def waiting(self) -> int:
        """Rows in memory, not yet in the file."""
        return self._ledger.waiting

    @property
    def lost(self) -> int:
        """Rows given up because too many waited."""
        return self._ledger.lost

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Record one verdict. Raises `SinkError`; the row is then kept in memory."""
        self._put("verdicts", verdict_row(verdict, frame, prediction, self._stations.get(verdict.source_id, "")))

    def result(self, record: ResultRecord) -> None:
        """Record what a PLC was shown. Raises `SinkError` as `send` does."""
        self._put("results", result_row(record))

    def drift(self, report: DriftReport) -> None:
        """Record a test for drift. Raises `SinkError` as `send` does."""
        self._put("drift", drift_row(report))

    def use_bundle(self, bundle: Bundle) -> None:
        """What is recorded from now on was judged by `bundle`."""
        self._run = run_row(bundle.sha256, __version__)

    def tend(self) -> None:
        """Write what waits and delete what is too old; to be called now and then. Raises `SinkError`."""
        self._ledger.flush()
        self._trim()

    def healthy(self) -> bool:
        """False from a row that could not be written until all that wait are."""
        return not self._ledger.failing

    def close(self) -> None:
        """Write what waits and close the file. Safe to call twice. Raises `SinkError` for what is lost."""
        self._ledger.close()

    def _put(self, table: str, row: Row) -> None:
        self._ledger.put(_Entry(table, row, self._run))
        self._since_trim += 1
        if self._since_trim >= _TRIM_EVERY:
            self._trim()

    def _trim(self) -> None:
        self._since_trim = 0
        max_rows, max_days = self._limits.max_rows, self._limits.max_days
        oldest_us = None
        if max_days is not None and self._clock.trusted():
            oldest_us = int((self._clock.now_s() - max_days * _DAY_S) * 1e6)
        if max_rows is not None or oldest_us is not None:
            self._ledger.change(lambda connection: _delete(connection, max_rows, oldest_us))


@dataclass(frozen=True)
class _Entry:
    table: str
    row: Row
    run: Row


def _write(connection: sqlite3.Connection, entry: _Entry) -> None:
    run = _run_id(connection, entry.run)
    insert(connection, entry.table, (*TABLES[entry.table], "run"), (*plain(entry.row), run))


def _run_id(connection: sqlite3.Connection, run: Row) -> int:
    """The run's row, made where the file has none: it may be a new file."""
    values = plain(run)
    newest = connection.execute(f"SELECT id, {', '.join(RUN_COLUMNS)} FROM runs ORDER BY id DESC LIMIT 1").fetchone()  # noqa: S608  # names of ours
    if newest is not None and list(newest[1:]) == values:
        return int(newest[0])
    return insert(connection, "runs", tuple(RUN_COLUMNS), values)


def _delete(connection: sqlite3.Connection, max_rows: int | None, oldest_us: int | None) -> None:
    """At most a thousand rows of each table, from the oldest on; ids count up without gaps."""
    for table in TABLES:
        ends = f"SELECT (SELECT min(id) FROM {table}), (SELECT max(id) FROM {table})"  # noqa: S608  # names of ours
        first, last = connection.execute(ends).fetchone()  # two selects: each is one step, both in one a full scan
        if first is None:
            continue
        too_many = last - max_rows if max_rows is not None else 0
        too_old = _last_before(connection, table, oldest_us) if oldest_us is not None else 0
        upto = min(max(too_many, too_old), first + _TRIM_ROWS - 1)
        connection.execute(f"DELETE FROM {table} WHERE id <= ?", (upto,))  # noqa: S608  # names of ours


def _last_before(connection: sqlite3.Connection, table: str, oldest_us: int) -> int:
    """Id of the last of the old rows that stand before any younger one; 0 for none."""
    query = f"SELECT id, time_us FROM {table} ORDER BY id LIMIT {_TRIM_ROWS}"  # noqa: S608  # names of ours
    upto = 0
    for number, time_us in connection.execute(query):
        if time_us >= oldest_us:
            break
        upto = number
    return upto
