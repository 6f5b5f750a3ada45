"""Records that another machine shall have, kept until it has taken them."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cada_edge.errors import SinkError
from cada_edge.runtime.records.database import Layout, insert
from cada_edge.runtime.records.ledger import Ledger, Tell

_STEP_1 = "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body TEXT NOT NULL);"
LAYOUT = Layout(0x4341444F, "an outbox of records", (_STEP_1,))  # "CADO"


@dataclass(frozen=True)
class Parcel:
    """One record on its way.

    Attributes:
        number: counts up without end; lower ones go first.
        kind: ``verdict``, ``result`` or ``drift``.
        body: a JSON object; its ``record`` is never used twice, so that a receiver can drop repetitions.
    """

    number: int
    kind: str
    body: str


class Outbox:
    """Parcels in an SQLite file, oldest first, bounded. Safe from any thread.

    What cannot be written now waits in memory, see `Ledger`.

    Args:
        path: the file; its folder must exist.
        max_rows: parcels kept, > 0; beyond, the oldest is dropped and counted.
        tell: called with what was mended without an error being raised.
    """

    def __init__(self, path: Path, max_rows: int, tell: Tell) -> None:
        self._max_rows, self.dropped, self._in_file = max_rows, 0, 0
        self._ledger: Ledger[tuple[str, str]] = Ledger(path, LAYOUT, self._write, tell)
        with suppress(SinkError):  # a file that cannot be read yet is counted when it can
            self.count()

    @property
    def lost(self) -> int:
        """Parcels that never left: dropped for want of room in the file or in memory."""
        return self.dropped + self._ledger.lost

    @property
    def in_memory(self) -> int:
        """Parcels that could not be written to the file yet."""
        return self._ledger.waiting

    @property
    def failing(self) -> bool:
        """The last attempt to write left parcels in memory."""
        return self._ledger.failing

    @property
    def waiting(self) -> int:
        """Parcels that have not been taken, as of the last `count`, and those in memory. Never waits for the file."""
        return self._in_file + self._ledger.waiting

    def append(self, kind: str, body: str) -> None:
        """Add the newest. Raises `SinkError` while it cannot be written; it is kept."""
        self._ledger.put((kind, body))

    def flush(self) -> None:
        """Write what waits in memory. Raises `SinkError` when some still does."""
        self._ledger.flush()

    def oldest(self, count: int) -> list[Parcel]:
        """At most so many, in the order they are to be taken. Raises `SinkError`."""
        query = "SELECT id, kind, body FROM outbox ORDER BY id LIMIT ?"
        return self._ledger.change(lambda db: [Parcel(*row) for row in db.execute(query, (count,))])

    def remove(self, number: int) -> None:
        """It has been taken, and so have all before it. Raises `SinkError`."""
        self._ledger.change(lambda db: db.execute("DELETE FROM outbox WHERE id <= ?", (number,)))

    def count(self) -> None:
        """See how many are in the file, without reading them. Raises `SinkError`."""
        # Numbers count up without gaps; two selects: each is one step, both in one a full scan.
        query = "SELECT (SELECT max(id) FROM outbox), (SELECT min(id) FROM outbox)"
        newest, oldest = self._ledger.change(lambda db: db.execute(query).fetchone())
        self._in_file = 0 if newest is None else newest - oldest + 1

    def __len__(self) -> int:
        """Parcels in the file. Raises `SinkError`."""
        return int(self._ledger.change(lambda db: db.execute("SELECT count(*) FROM outbox").fetchone()[0]))

    def close(self) -> None:
        """Close the file; what is in it stays. Safe to call twice. Raises `SinkError` for what is lost."""
        self._ledger.close()

    def _write(self, connection: sqlite3.Connection, item: tuple[str, str]) -> None:
        newest = insert(connection, "outbox", ("kind", "body"), item)
        # Numbers count up without gaps from the oldest to the newest: no counting needed.
        cursor = connection.execute("DELETE FROM outbox WHERE id <= ?", (newest - self._max_rows,))
        self.dropped += cursor.rowcount
