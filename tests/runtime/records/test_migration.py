from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from records_kit import fetch, judged, send

from cada_edge.runtime.records.database import Layout, open_database, transaction
from cada_edge.runtime.records.rows import LAYOUT
from cada_edge.runtime.sinks.records import RecordSink

NEXT = replace(LAYOUT, steps=(*LAYOUT.steps, "ALTER TABLE verdicts ADD COLUMN shift TEXT DEFAULT 'day'"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of today's version with one row."""
    sink = RecordSink(tmp_path / "r.sqlite", "b" * 64, print)
    send(sink, judged(0, 4))
    sink.close()
    return tmp_path / "r.sqlite"


def test_an_older_file_is_brought_up_to_date(path: Path) -> None:
    """A later version's step is applied to a file of today, and its rows stay."""
    with closing(open_database(path, NEXT).connection) as connection:
        assert connection.execute("SELECT frame_id, shift FROM verdicts").fetchall() == [(4, "day")]
    assert fetch(path, "PRAGMA user_version") == [(LAYOUT.version + 1,)]


def test_a_step_that_fails_changes_nothing(path: Path) -> None:
    """Half a migration is none: the file stays of its version."""
    broken = replace(NEXT, steps=(*NEXT.steps, "ALTER TABLE absent ADD COLUMN x"))
    with pytest.raises(Exception, match="absent"):
        open_database(path, broken)
    assert fetch(path, "PRAGMA user_version") == [(LAYOUT.version,)]
    assert "shift" not in [row[1] for row in fetch(path, "PRAGMA table_info(verdicts)")]


def test_a_transaction_is_whole_or_nothing(tmp_path: Path) -> None:
    """An exception in its body leaves the rows as they were."""
    layout = Layout(1, "numbers", ("CREATE TABLE numbers (n)",))
    with closing(open_database(tmp_path / "n.sqlite", layout).connection) as connection:
        with suppress(ZeroDivisionError), transaction(connection):
            connection.execute("INSERT INTO numbers VALUES (1)")
            connection.execute("INSERT INTO numbers VALUES (?)", (1 // 0,))
        assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (0,)
        assert not connection.in_transaction
