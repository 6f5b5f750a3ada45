from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from records_kit import fetch, judged, result, send

from cada_edge.errors import MissingDependencyError
from cada_edge.runtime.records.database import Layout, open_database, transaction
from cada_edge.runtime.records.parquet import export_parquet
from cada_edge.runtime.records.read import Filter, RecordFile
from cada_edge.runtime.records.rows import LAYOUT
from cada_edge.runtime.sinks.records import RecordSink

VERSION_1 = """
CREATE TABLE runs (id INTEGER PRIMARY KEY AUTOINCREMENT, time_us INTEGER, bundle_sha256 TEXT, version TEXT);
CREATE TABLE verdicts (id INTEGER PRIMARY KEY AUTOINCREMENT, time_us INTEGER, station TEXT, source_id TEXT,
    frame_id INTEGER, name TEXT, part INTEGER, status TEXT, reason TEXT, score REAL, threshold REAL, u REAL, gamma REAL,
    novelty REAL, frame_status TEXT, drops INTEGER, transfer_ms REAL, judged_ms REAL, latency_ms REAL,
    run INTEGER NOT NULL REFERENCES runs (id));
CREATE TABLE results (id INTEGER PRIMARY KEY AUTOINCREMENT, time_us INTEGER, station TEXT, seq INTEGER,
    trigger_id INTEGER, result INTEGER, shown TEXT, status TEXT, score REAL, threshold REAL, decided_ms REAL,
    published_ms REAL, late INTEGER, note TEXT, run INTEGER NOT NULL REFERENCES runs (id));
CREATE TABLE drift (id INTEGER PRIMARY KEY AUTOINCREMENT, time_us INTEGER, source_id TEXT, n INTEGER,
    n_calibration INTEGER, distance REAL, p_value REAL, drifted INTEGER, median REAL, median_calibration REAL,
    novelty_median REAL, novelty_limit REAL, feature_drifted INTEGER, run INTEGER NOT NULL REFERENCES runs (id));
CREATE INDEX verdicts_time ON verdicts (time_us);
CREATE INDEX results_time ON results (time_us);
INSERT INTO runs VALUES (1, 1796052829408562, 'aaaa', '0.1.0');
INSERT INTO verdicts VALUES (1, 1796052829443979, 's1', 'cam1', 3, '3.png', 14, 'ng', 'score above threshold', 1.0, 0.5,
    0.0, 1.0, 0.0, 'ok', 0, 0.0, 0.712, 0.712, 1);
INSERT INTO results VALUES (1, 1796052829443979, 's1', 4, 704, 10, 'REJECT', 'ng', 1.0, 0.5, 7.0, 9.0, 0, '', 1);
PRAGMA application_id = 0x43414452;
PRAGMA user_version = 1;
"""
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


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file as version 1 was written: results without part and encoder."""
    with closing(sqlite3.connect(tmp_path / "old.sqlite")) as connection:
        connection.executescript(VERSION_1)
    return tmp_path / "old.sqlite"


def test_a_file_of_version_1_is_read(old: Path, tmp_path: Path) -> None:
    """What it does not have is None, in rows, in the summary and in Parquet; reading leaves it of its version."""
    with RecordFile(old) as records:
        (row,) = records.rows("results", Filter())
        (rejected,) = records.summary(Filter()).last_rejects
        with suppress(MissingDependencyError):
            assert export_parquet(records, tmp_path / "r.parquet", "results") == 1
    assert (row["trigger_id"], row["part"], row["encoder"]) == (704, None, None)
    assert (rejected["part"], rejected["trigger_id"], rejected["encoder"]) == (14, None, None)
    assert fetch(old, "PRAGMA user_version") == [(1,)]


def test_a_file_of_version_1_is_continued(old: Path) -> None:
    """Its rows stay, new ones stand behind them with part and encoder, and a later reader has both."""
    sink = RecordSink(old, "b" * 64, print, stations={"cam1": "s1"})
    send(sink, judged(255, 4, part=15))
    sink.result(result(5, result=10, status="ng"))
    sink.close()
    assert fetch(old, "SELECT seq, trigger_id, part, encoder FROM results") == [
        (4, 704, None, None),
        (5, 705, 15, 5005),
    ]
    with RecordFile(old) as records:
        rejects = records.summary(Filter()).last_rejects
    assert [(one["part"], one["trigger_id"], one["encoder"]) for one in rejects] == [(15, 705, 5005), (14, None, None)]


def test_an_old_file_becomes_what_a_new_one_is(old: Path, path: Path) -> None:
    """Tables, columns and indexes are the same, so that the steps of old were not changed."""
    RecordSink(old, "b" * 64, print).close()
    for table in ("runs", "verdicts", "results", "drift"):
        columns = f"SELECT name, type FROM pragma_table_info('{table}')"
        assert fetch(old, columns) == fetch(path, columns)
    indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name"
    assert fetch(old, indexes) == fetch(path, indexes)


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
