"""Results that a line showed and was killed before it wrote: in the records after its next start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from records_kit import fetch, result
from runtime_kit import python_env, wait_until, write_line

from cada_edge.runtime.handshake import Published
from cada_edge.runtime.leftover import journal_of, take_in
from cada_edge.runtime.outcome import Outcome
from cada_edge.runtime.plc.journal import MOST_BYTES, Journal, entries, forget, older
from cada_edge.runtime.plc.wire import pack
from cada_edge.runtime.registers import ErrorCode, ResultFlag
from cada_edge.runtime.sinks.records import RecordSink

RESULTS = "SELECT seq, trigger_id, result, run FROM results ORDER BY id"
PASS = int(ResultFlag.PASS)


def shown(seq: int, note: str = "") -> Published:
    """What `records_kit.result` of this number was made from."""
    outcome = Outcome(10 + seq, ResultFlag.PASS, ErrorCode.NONE, 0.2, 0.5, 10**9, 10**9, 10**9 + 7_000_000)
    return Published(seq, 700 + seq, 5000 + seq, outcome, 10**9, 10**9 + 9_000_000, note)


def kept(path: Path, *numbers: int) -> None:
    """A journal of these results."""
    journal = Journal(path)
    for seq in numbers:
        journal.put(pack(shown(seq), "s1"))
    journal.close()


def test_what_is_missing_is_taken_in_once(tmp_path: Path) -> None:
    """Results that were written are not written again; the others belong to the run before; then nothing is left."""
    path, told = tmp_path / "r.sqlite", list[Exception]()
    sink = RecordSink(path, "a" * 64, told.append)
    for seq in (1, 2):
        sink.result(result(seq))
    sink.close()
    kept(journal_of(path), 1, 2, 3, 4)
    for _ in range(2):
        take_in(path, "b" * 64, told.append)
    after = RecordSink(path, "b" * 64, told.append)
    after.result(result(5))
    after.close()
    assert fetch(path, RESULTS) == [(seq, 700 + seq, PASS, 1 if seq < 5 else 2) for seq in (1, 2, 3, 4, 5)]
    assert fetch(path, "SELECT part, encoder, shown FROM results WHERE seq = 4") == [(14, 5004, "PASS")]
    (time_us,) = fetch(path, "SELECT time_us FROM results WHERE seq = 4")[0]
    assert abs(time_us / 1e6 - time.time()) < 600  # by the clock when it was shown, not by a boot that is over
    assert not journal_of(path).exists()
    assert [str(one).split(": ")[1] for one in told] == [
        "2 results that a line was killed before it wrote are in the records now"
    ]


def test_a_line_killed_before_its_first_record_loses_none(tmp_path: Path) -> None:
    """The file is made, with a run."""
    path = tmp_path / "r.sqlite"
    kept(journal_of(path), 1)
    take_in(path, "a" * 64, lambda _error: None)
    assert fetch(path, RESULTS) == [(1, 701, PASS, 1)]


def test_nothing_is_made_where_nothing_was_left(tmp_path: Path) -> None:
    """A first start, and every end of a line that wrote all it showed."""
    take_in(tmp_path / "r.sqlite", "a" * 64, lambda error: pytest.fail(str(error)))
    assert not list(tmp_path.iterdir())


def test_where_it_cannot_be_written_it_stays(tmp_path: Path) -> None:
    """Told, and taken in at the next start."""
    path, told = tmp_path / "r.sqlite", list[Exception]()
    path.mkdir()
    kept(journal_of(path), 1)
    take_in(path, "a" * 64, told.append)
    assert "not in the records yet" in str(told[0])
    path.rmdir()
    take_in(path, "a" * 64, told.append)
    assert [row[0] for row in fetch(path, RESULTS)] == [1]


@pytest.mark.parametrize("damage", ["cut off", "noise in front", "another kind"])
def test_what_cannot_be_read_costs_no_other_result(tmp_path: Path, damage: str) -> None:
    """A kill in the middle of a write, or a file that somebody touched: told, and the rest is taken in."""
    path, told = tmp_path / "r.sqlite", list[Exception]()
    journal = journal_of(path)
    kept(journal, 1, 2)
    whole = journal.read_bytes()
    if damage == "cut off":
        journal.write_bytes(whole[:-20])
    elif damage == "noise in front":
        journal.write_bytes(b"\xff\x00 noise\n" + whole)
    else:
        journal.write_bytes(whole + b"17 Quiet s1\n{}\n")
    take_in(path, "a" * 64, told.append)
    assert [row[0] for row in fetch(path, RESULTS)] == ([1] if damage == "cut off" else [1, 2])
    assert any("cannot be read" in str(one) for one in told)
    assert not journal.exists()


def test_a_journal_keeps_the_newest_and_does_not_grow(tmp_path: Path) -> None:
    """Two files at most; what is given up is the oldest, and some hundred results are always there."""
    path, note = tmp_path / "j", "x" * 200
    journal = Journal(path)
    for seq in range(1, 2001):
        journal.put(pack(shown(seq, note), "s1"))
    journal.close()
    found = [one.published.seq for one in entries(path) if one is not None]
    assert found == list(range(found[0], 2001))
    assert len(found) > 200
    assert {one.name for one in tmp_path.iterdir()} == {"j", "j.old"}
    assert older(path).stat().st_size < MOST_BYTES + 4096
    forget(path)
    assert not list(tmp_path.iterdir())


def at_rest(path: Path, sizes: list[int]) -> bool:
    """Whether the file has not grown for half a second."""
    time.sleep(0.5)
    sizes.append(path.stat().st_size)
    return sizes[-1] == sizes[-2]


@pytest.mark.parametrize("whole_line", [False, True])
def test_a_killed_line_finds_its_results_again(tmp_path: Path, whole_line: bool) -> None:
    """Whether the pipeline alone is killed or all its processes at once, what the PLC was shown is in the records."""
    links = [{"kind": "modbus-server", "port": 0}]
    uri = {"uri": "folder:images?loop=1&fps=50", "id": "cam1"}
    path = write_line(tmp_path, sources=[uri], links=links, sinks={"records": {"sqlite": "r.sqlite"}})
    command = [sys.executable, "-m", "cada_edge", "run", str(path)]
    process = subprocess.Popen(command, env=python_env(), stderr=subprocess.DEVNULL, start_new_session=True)
    journal, database = journal_of(tmp_path / "r.sqlite"), tmp_path / "r.sqlite"
    try:
        wait_until(lambda: journal.is_file() and len(list(entries(journal))) > 20)
        if whole_line:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    finally:
        process.kill()
        process.wait()
    sizes = [0]
    wait_until(lambda: at_rest(journal, sizes))  # where it lives on, the PLC process shows the safe state and ends
    seen = [one.published.seq for one in entries(journal) if one is not None and one.published.seq]
    take_in(database, "a" * 64, lambda _error: None)
    assert [row[0] for row in fetch(database, "SELECT seq FROM results WHERE seq > 0 ORDER BY seq")] == seen
    assert len(seen) > 20


def test_a_line_that_ends_leaves_nothing(tmp_path: Path) -> None:
    """It has written everything by itself: each result once, and no journal beside it."""
    links = [{"kind": "modbus-server", "port": 0}]
    path = write_line(tmp_path, links=links, linger_ms=0, sinks={"records": {"sqlite": "r.sqlite"}})
    command = [sys.executable, "-m", "cada_edge", "run", str(path)]
    done = subprocess.run(command, env=python_env(), check=True, capture_output=True, text=True)
    assert "killed" not in done.stderr
    assert not list(tmp_path.glob("*-shown*"))
    assert [row[0] for row in fetch(tmp_path / "r.sqlite", RESULTS)] == [1, 2, 3, 4]
