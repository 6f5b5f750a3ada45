from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from records_kit import fetch, fill, judged, result, send, small_disk
from runtime_kit import make_bundle

from cada_edge.errors import SinkError
from cada_edge.runtime.drift import DriftReport
from cada_edge.runtime.judge import Judgement
from cada_edge.runtime.records.clock import WallClock
from cada_edge.runtime.records.rows import LAYOUT
from cada_edge.runtime.registers import ResultFlag
from cada_edge.runtime.sinks.records import KeepLimits, RecordSink
from cada_edge.version import __version__

SHA = "a" * 64
FRAMES = "SELECT frame_id FROM verdicts ORDER BY id"


class Told(list[str]):
    """Collects what a sink tells."""

    def __call__(self, error: Exception) -> None:
        """Take one."""
        self.append(str(error))


def open_sink(
    path: Path, told: Told | None = None, limits: KeepLimits | None = None, memory_rows: int = 100
) -> RecordSink:
    """A sink on `path`."""
    return RecordSink(path, SHA, told if told is not None else Told(), limits=limits, memory_rows=memory_rows)


def send_told(sink: RecordSink, judgement: Judgement) -> str:
    """Send; returns the error, empty for none."""
    try:
        send(sink, judgement)
    except SinkError as error:
        return str(error)
    return ""


def frames(path: Path) -> list[int]:
    """Frame numbers in the file, in the order of writing."""
    return [row[0] for row in fetch(path, FRAMES)]


def test_a_verdict_leaves_everything_that_is_known_of_it(tmp_path: Path) -> None:
    """Ids, times, figures, bundle and version stand in one row; what could not be judged has no score."""
    sink = RecordSink(tmp_path / "r.sqlite", SHA, Told(), stations={"cam1": "s1"})
    before_us = time.time_ns() // 1000
    send(sink, judged(255, 7, name="a.png"))
    send(sink, judged(0, 8, image=None, drops=3))
    sink.close()
    columns = "station, source_id, frame_id, name, status, score, threshold, u, gamma, novelty, drops, frame_status"
    first, second = fetch(tmp_path / "r.sqlite", f"SELECT {columns} FROM verdicts")
    assert first == ("s1", "cam1", 7, "a.png", "ng", pytest.approx(1.0), 0.5, 0.0, 1.0, 0.0, 0, "ok")
    assert second == ("s1", "cam1", 8, "8.png", "undecided", None, 0.5, None, None, None, 3, "incomplete")
    ((time_us, latency_ms, judged_ms),) = fetch(
        tmp_path / "r.sqlite", "SELECT time_us, latency_ms, judged_ms FROM verdicts WHERE frame_id = 7"
    )
    assert before_us - 10**6 < time_us <= time.time_ns() // 1000
    assert latency_ms >= judged_ms > 0
    assert fetch(tmp_path / "r.sqlite", "SELECT bundle_sha256, version FROM runs") == [(SHA, __version__)]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "PASS"),
        ({"result": int(ResultFlag.REJECT | ResultFlag.FAIL), "status": "ng"}, "REJECT"),
        ({"result": int(ResultFlag.PASS | ResultFlag.REJECT)}, "REJECT"),
        ({"result": int(ResultFlag.REJECT | ResultFlag.LATE), "late": True}, "late"),
        ({"t_published_ns": None}, "not published"),
    ],
)
def test_a_result_says_what_the_plc_saw(tmp_path: Path, changes: dict[str, object], shown: str) -> None:
    """PASS alone is a PASS; a late or unpublished one says so; times count from the trigger."""
    sink = open_sink(tmp_path / "r.sqlite")
    sink.result(result(3, **changes))
    sink.close()
    ((found, seq, trigger_id, decided_ms, published_ms),) = fetch(
        tmp_path / "r.sqlite", "SELECT shown, seq, trigger_id, decided_ms, published_ms FROM results"
    )
    assert (found, seq, trigger_id, decided_ms) == (shown, 3, 703, 7.0)
    assert published_ms == (None if shown == "not published" else 9.0)


def test_a_new_bundle_begins_a_new_run(tmp_path: Path) -> None:
    """Verdicts before and after a reload name the bundle that gave them."""
    sink, bundle = open_sink(tmp_path / "r.sqlite"), make_bundle()
    send(sink, judged(0, 1))
    sink.use_bundle(bundle)
    send(sink, judged(0, 2))
    sink.drift(DriftReport("cam1", 200, 90, 0.4, 1e-9, True, 0.3, 0.2, 0.1, 1.0, False))
    sink.close()
    rows = fetch(tmp_path / "r.sqlite", "SELECT frame_id, bundle_sha256 FROM verdicts JOIN runs ON runs.id = run")
    assert rows == [(1, SHA), (2, bundle.sha256)]
    assert fetch(tmp_path / "r.sqlite", "SELECT drifted, feature_drifted, median FROM drift") == [(1, 0, 0.3)]


def test_a_reader_does_not_stop_the_writer(tmp_path: Path) -> None:
    """While another program reads in a transaction, verdicts are still written."""
    sink = open_sink(tmp_path / "r.sqlite")
    send(sink, judged(0, 1))
    with closing(sqlite3.connect(tmp_path / "r.sqlite", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute(FRAMES).fetchall() == [(1,)]
        send(sink, judged(0, 2))
        assert reader.execute(FRAMES).fetchall() == [(1,)]
    sink.close()
    assert frames(tmp_path / "r.sqlite") == [1, 2]


def test_a_killed_process_loses_no_row(tmp_path: Path) -> None:
    """What was sent is there although the file was never closed."""
    pid = os.fork()
    if pid == 0:
        send(open_sink(tmp_path / "r.sqlite"), judged(0, 5))
        os._exit(1)
    os.waitpid(pid, 0)
    assert frames(tmp_path / "r.sqlite") == [5]


def test_a_full_disk_costs_no_record(tmp_path: Path) -> None:
    """Each verdict is told as not written, health falls, and all go in, in order, once there is space."""
    with small_disk(tmp_path / "disk") as disk:
        sink = open_sink(disk / "r.sqlite")
        send(sink, judged(0, 0))
        ballast = fill(disk)
        errors = [send_told(sink, judged(0, frame_id, name="x" * 3000)) for frame_id in range(1, 90)]
        refused = [error for error in errors if error]
        assert len(refused) > 10
        assert all("full" in error for error in refused)
        assert (sink.healthy(), sink.waiting) == (False, len(refused))
        ballast.unlink()
        sink.tend()
        assert (sink.healthy(), sink.waiting) == (True, 0)
        sink.close()
        assert frames(disk / "r.sqlite") == list(range(90))


def test_a_disk_full_from_the_start_does_not_stop_the_line(tmp_path: Path) -> None:
    """The sink opens, keeps what it is given, and writes it when it can."""
    with small_disk(tmp_path / "disk") as disk:
        ballast, told = fill(disk), Told()
        sink = open_sink(disk / "r.sqlite", told)
        with pytest.raises(SinkError, match="1 records wait in memory"):
            send(sink, judged(0, 1))
        ballast.unlink()
        send(sink, judged(0, 2))
        sink.close()
        assert frames(disk / "r.sqlite") == [1, 2]
        assert "cannot be written yet" in told[0]


def test_beyond_the_memory_the_oldest_is_lost_and_counted(tmp_path: Path) -> None:
    """With room for 3 rows, of 5 that cannot be written the last 3 survive; the message counts the lost."""
    sink = open_sink(tmp_path / "r.sqlite", memory_rows=3)
    with closing(sqlite3.connect(tmp_path / "r.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for frame_id in range(5):
            with pytest.raises(SinkError, match="locked"):
                send(sink, judged(0, frame_id))
        with pytest.raises(SinkError, match="2 are lost"):
            sink.tend()
        other.execute("ROLLBACK")
    sink.close()
    assert (frames(tmp_path / "r.sqlite"), sink.lost) == ([2, 3, 4], 2)


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_damaged_file_is_moved_aside(tmp_path: Path, content: bytes) -> None:
    """Recording begins anew at once, the damaged file is kept, and both names are told."""
    path, told = tmp_path / "r.sqlite", Told()
    path.write_bytes(content)
    sink = open_sink(path, told)
    send(sink, judged(0, 1))
    sink.close()
    (kept,) = tmp_path.glob("r.sqlite.damaged-*")
    assert kept.read_bytes() == content
    assert frames(path) == [1]
    assert len(told) == 1
    assert kept.name in told[0]


def test_damage_while_the_line_runs_costs_the_old_file_only(tmp_path: Path) -> None:
    """Overwritten under our hands, the file is moved aside, and the verdict at hand is in the new one."""
    path, told = tmp_path / "r.sqlite", Told()
    sink = open_sink(path, told)
    send(sink, judged(0, 1))
    sink.close()
    sink = open_sink(path, told)
    with path.open("r+b") as stream:
        stream.seek(100)
        stream.write(b"\xa5" * (path.stat().st_size - 100))
    send(sink, judged(0, 2))
    sink.close()
    assert frames(path) == [2]
    assert ["damaged" in line for line in told] == [True]


def test_a_deleted_file_is_begun_anew(tmp_path: Path) -> None:
    """Nothing is written into a file that nobody can find again."""
    path, told = tmp_path / "r.sqlite", Told()
    sink = open_sink(path, told)
    send(sink, judged(0, 1))
    for part in tmp_path.glob("r.sqlite*"):
        part.unlink()
    send(sink, judged(0, 2))
    sink.close()
    assert frames(path) == [2]
    assert "deleted" in told[0]


def test_what_sqlite_cannot_hold_costs_no_record(tmp_path: Path) -> None:
    """Names that are no text, NULs and numbers beyond 64 bits are recorded as near as can be."""
    sink = open_sink(tmp_path / "r.sqlite")
    send(sink, judged(0, 1 << 63, name=os.fsdecode(b"part\xff.png")))
    send(sink, judged(0, 2, name="a\0b'; DROP TABLE verdicts; --"))
    sink.close()
    assert fetch(tmp_path / "r.sqlite", "SELECT frame_id, name FROM verdicts ORDER BY id") == [
        (pytest.approx(2.0**63), "part\\udcff.png"),
        (2, "a\0b'; DROP TABLE verdicts; --"),
    ]


def test_the_oldest_rows_go_first(tmp_path: Path) -> None:
    """Beyond `max_rows` only the newest stay, in every table of its own."""
    sink = open_sink(tmp_path / "r.sqlite", limits=KeepLimits(max_rows=10))
    for frame_id in range(30):
        send(sink, judged(0, frame_id))
    sink.result(result())
    sink.tend()
    sink.close()
    assert frames(tmp_path / "r.sqlite") == list(range(20, 30))
    assert fetch(tmp_path / "r.sqlite", "SELECT count(*) FROM results") == [(1,)]


def test_old_rows_go_by_age(tmp_path: Path) -> None:
    """A row of a year ago goes, those of today stay."""
    path = tmp_path / "r.sqlite"
    sink = open_sink(path, limits=KeepLimits(max_days=30))
    for frame_id in range(3):
        send(sink, judged(0, frame_id))
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE verdicts SET time_us = time_us - 365 * 86400 * 1000000 WHERE frame_id = 0")
    sink.tend()
    sink.close()
    assert frames(path) == [1, 2]


def test_a_clock_set_ahead_deletes_nothing(tmp_path: Path) -> None:
    """A year's step of the wall clock while the line runs ages no record out."""
    step_s = 0

    def wall_ns() -> int:
        return time.time_ns() + step_s * 10**9

    limits = KeepLimits(max_days=30)
    sink = RecordSink(tmp_path / "r.sqlite", SHA, Told(), limits=limits, clock=WallClock(wall_ns))
    send(sink, judged(0, 1))
    step_s = 365 * 86_400
    sink.tend()
    sink.close()
    assert frames(tmp_path / "r.sqlite") == [1]


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """It is refused before the line starts, naming both versions, and keeps its rows."""
    path = tmp_path / "r.sqlite"
    sink = open_sink(path)
    send(sink, judged(0, 1))
    sink.close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(SinkError, match=rf"version 99, this cada-edge writes {LAYOUT.version}"):
        open_sink(path)
    assert frames(path) == [1]


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """Another program's file is refused, not filled."""
    path = tmp_path / "theirs.sqlite"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(SinkError, match="something else"):
        open_sink(path)
    assert fetch(path, "SELECT name FROM sqlite_master") == [("theirs",)]


@pytest.mark.parametrize("name", ["absent/r.sqlite", "."])
def test_a_place_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    """A missing folder, or a folder in the file's place, is a mistake to be told before the line starts."""
    with pytest.raises(SinkError, match="check the path"):
        open_sink(tmp_path / name)


def test_a_closed_sink_takes_nothing(tmp_path: Path) -> None:
    """Closing twice is harmless; sending afterwards is told."""
    sink = open_sink(tmp_path / "r.sqlite")
    sink.close()
    sink.close()
    with pytest.raises(SinkError, match="closed"):
        send(sink, judged(0))
