"""Results that a line showed and was killed before it wrote: from the journal of its PLC process into the records."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from cada_edge.errors import SinkError
from cada_edge.runtime.plc.journal import entries, forget
from cada_edge.runtime.records.database import insert
from cada_edge.runtime.records.ledger import Ledger, Tell, plain
from cada_edge.runtime.records.rows import LAYOUT, RESULT_COLUMNS, RUN_COLUMNS, Row, result_row, run_row
from cada_edge.runtime.stations import record
from cada_edge.version import __version__

_COMPARED = 5000  # of the newest rows: more than a journal holds, and fewer than there are sequence numbers
_SAME = ("station", "seq", "trigger_id", "result")


def journal_of(database: Path) -> Path:
    """Where the PLC process keeps the newest results that belong into `database`; SQLite has ``-journal`` itself."""
    return database.with_name(f"{database.name}-shown")


def take_in(database: Path, bundle_sha256: str, tell: Tell) -> None:
    """Put into the results what stands in the journal alone, then forget the journal.

    To be called while no line writes it: before stations are opened, and after they are closed. What cannot be
    read or written now is told; where it cannot be written, the journal stays for the next time.

    Args:
        database: of the records; need not exist.
        bundle_sha256: of the bundle that judges, for a file without any run.
        tell: called with what people should know.
    """
    journal = journal_of(database)
    try:
        found = list(entries(journal))
        rows = [
            {**result_row(record(one.station, one.published)), "time_us": one.time_us}
            for one in found
            if one is not None
        ]
        missing = _write(database, rows, run_row(bundle_sha256, __version__), tell) if rows else 0
        forget(journal)
    except (OSError, SinkError) as error:
        tell(SinkError(f"{journal}: results of a line that was killed are not in the records yet: {error}"))
        return
    if missing:
        tell(SinkError(f"{database}: {missing} results that a line was killed before it wrote are in the records now"))
    if unread := len(found) - len(rows):
        tell(
            SinkError(f"{journal}: {unread} results were cut off and cannot be read; the PLC may have been shown them")
        )


def _write(database: Path, rows: Sequence[Row], run: Row, tell: Tell) -> int:
    ledger: Ledger[None] = Ledger(database, LAYOUT, lambda _connection, _item: None, tell)
    try:
        return ledger.change(lambda connection: _add(connection, rows, run))
    finally:
        ledger.close()


def _add(connection: sqlite3.Connection, rows: Sequence[Row], run: Row) -> int:
    """How many were missing. They belong to the run before, which is the newest that there is."""
    newest = f"SELECT {', '.join(_SAME)} FROM results ORDER BY id DESC LIMIT {_COMPARED}"  # noqa: S608  # names of ours
    known = {tuple(row) for row in connection.execute(newest)}
    missing = [row for row in rows if tuple(row[name] for name in _SAME) not in known]
    (before,) = connection.execute("SELECT max(id) FROM runs").fetchone()
    if missing and before is None:
        before = insert(connection, "runs", tuple(RUN_COLUMNS), plain(run))
    for row in missing:
        insert(connection, "results", (*RESULT_COLUMNS, "run"), (*plain(row), before))
    return len(missing)
