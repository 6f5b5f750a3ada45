"""Results that a pipeline was killed before it wrote: left by the PLC process, taken in when the line starts again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cada_edge.errors import SinkError
from cada_edge.runtime.records.database import insert, move_aside
from cada_edge.runtime.records.ledger import Ledger, Tell, plain
from cada_edge.runtime.records.rows import RESULT_COLUMNS, RUN_COLUMNS, Row

_MOST = 1024  # results, of those that are left far more than there can be
_MOST_BYTES = 1 << 20
_COMPARED = 5000  # of the newest rows: far fewer than there are sequence numbers
_SAME = ("station", "seq", "trigger_id", "result")


def left_by(database: Path) -> Path:
    """Where the results that belong into `database` are left."""
    return database.with_name(f"{database.name}-left.json")


def leave(path: Path, rows: Sequence[Row]) -> None:
    """Write what may be missing in the records, whole or not at all. Raises `OSError`."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps([dict(row) for row in rows]))
    part.replace(path)


def take_in(database: Path, ledger: Ledger[Any], run: Row, tell: Tell) -> None:
    """Put into the results what was left and is not among them, then forget it; `run` is for a file without any.

    What cannot be read is moved aside and told; what cannot be written now stays for the next start.
    """
    path = left_by(database)
    if not path.is_file():
        return
    try:
        rows = _read(path)
        missing = ledger.change(lambda connection: _add(connection, rows, run))
        path.unlink()
    except (OSError, ValueError) as error:
        moved = move_aside(path)
        tell(SinkError(f"{path}: results that a killed line left cannot be read: {error}; moved to {moved.name}"))
    except SinkError as error:
        tell(error)
    else:
        if missing:
            tell(SinkError(f"{database}: {missing} results that a killed line could not write are in the records now"))


def _read(path: Path) -> list[Row]:
    """Raises `ValueError` for anything but what `leave` writes, and `OSError`."""
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path.stat().st_size} bytes, at most {_MOST_BYTES} are expected")
    rows = json.loads(path.read_bytes())
    if not isinstance(rows, list) or len(rows) > _MOST:
        raise ValueError(f"no list of at most {_MOST} results")
    for row in rows:
        if not isinstance(row, dict) or row.keys() != RESULT_COLUMNS.keys():
            raise ValueError(f"no result: {str(row)[:80]}")
        if any(isinstance(value, (dict, list)) for value in row.values()):
            raise ValueError(f"no values of a result: {str(row)[:80]}")
    return rows


def _add(connection: sqlite3.Connection, rows: Sequence[Row], run: Row) -> int:
    """How many were missing. They belong to the run before, which is the newest that there is."""
    newest = f"SELECT {', '.join(_SAME)} FROM results ORDER BY id DESC LIMIT {_COMPARED}"  # noqa: S608  # names of ours
    known = {tuple(row) for row in connection.execute(newest)}
    missing = [row for row in rows if tuple(row[name] for name in _SAME) not in known]
    (before,) = connection.execute("SELECT max(id) FROM runs").fetchone()
    if missing and before is None:
        before = insert(connection, "runs", tuple(RUN_COLUMNS), plain(run))
    for row in missing:
        values = plain({name: row[name] for name in RESULT_COLUMNS})
        insert(connection, "results", (*RESULT_COLUMNS, "run"), (*values, before))
    return len(missing)
