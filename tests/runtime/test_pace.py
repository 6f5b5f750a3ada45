"""A pipeline that judges faster than its PLCs are served waits for them, though not for long."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

from runtime_kit import python_env, wait_until, write_line
from whole_line import free_port

from cada_edge.runtime.pace import AHEAD, PATIENCE_NS, Pace

PAUSES, PAUSE_S, BETWEEN_S = 40, 0.08, 0.02


def test_as_many_results_may_be_under_way_as_stated() -> None:
    """The picture after the last of them waits until one is answered."""
    pace = Pace()
    for result in range(AHEAD):
        assert not pace.ahead(0), result
        pace.sent(result, 0)
    assert pace.ahead(0)
    pace.answered(0, 1)
    assert not pace.ahead(1)


def test_who_answers_nothing_is_not_waited_for() -> None:
    """Once nothing has moved for the patience stated, the pipeline goes on with as many again."""
    pace = Pace()
    for result in range(AHEAD):
        pace.sent(result, 5)
    assert pace.ahead(5 + PATIENCE_NS)
    assert not pace.ahead(6 + PATIENCE_NS)
    pace.sent(AHEAD, 6 + PATIENCE_NS)
    assert not pace.ahead(6 + PATIENCE_NS)


def test_answers_that_nobody_waited_for_do_not_widen_the_pace() -> None:
    """What was never sent, or is answered after the patience has ended, counts for nothing."""
    pace = Pace()
    pace.answered(99, 0)
    for result in range(AHEAD):
        pace.sent(result, 0)
        pace.answered(99, 0)
    assert pace.ahead(0)


def test_results_lost_with_a_dead_plc_process_hold_nobody_back() -> None:
    """After any number of restarts, each with results lost, a first answer makes room for all that are allowed."""
    pace, result = Pace(), 0
    for _restart in range(3):
        for _lost in range(AHEAD - 1):
            pace.sent(result, 0)
            result += 1
        pace.sent(result, 0)  # the first one that the next process shows
        pace.answered(result, 0)
        result += 1
    for _ in range(AHEAD):
        assert not pace.ahead(0), "held back by what no process will ever answer"
        pace.sent(result, 0)
        result += 1


def free_running(folder: Path) -> Path:
    """A line that judges as fast as it can and shows every result to a PLC."""
    links = [{"kind": "modbus-server", "port": free_port()}]
    sinks = {"records": {"sqlite": "records.sqlite"}}
    return write_line(folder, sources=[{"uri": "folder:images?loop=1"}], links=links, sinks=sinks, linger_ms=0)


def child(pid: int, module: str) -> int:
    """The process id of its child that runs a module of ours; 0 before there is one."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for number in (task / "children").read_text().split():
            if module.encode() in Path(f"/proc/{number}/cmdline").read_bytes():
                return int(number)
    return 0


def results(folder: Path) -> dict[str, int]:
    """What became of the parts, by kind; empty before the line has made its tables."""
    with closing(sqlite3.connect(folder / "records.sqlite")) as database, suppress(sqlite3.OperationalError):
        return dict(database.execute("SELECT shown, COUNT(*) FROM results GROUP BY shown").fetchall())
    return {}


def test_a_slow_plc_process_slows_the_line_and_costs_no_result(tmp_path: Path) -> None:
    """With a PLC process that runs a fifth of the time, every part that is judged is shown, or said to be late."""
    path = free_running(tmp_path)
    command = [sys.executable, "-m", "cada_edge", "run", str(path)]
    process = subprocess.Popen(command, env=python_env(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: child(process.pid, "cada_edge.runtime.plc") > 0)
        wait_until(lambda: bool(results(tmp_path)))
        plc = child(process.pid, "cada_edge.runtime.plc")
        for _ in range(PAUSES):
            os.kill(plc, signal.SIGSTOP)
            time.sleep(PAUSE_S)
            os.kill(plc, signal.SIGCONT)
            time.sleep(BETWEEN_S)
        process.terminate()
        told = process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()
    found = results(tmp_path)
    assert "takes no messages" not in told
    assert found.get("not published", 0) == 0, found
    assert sum(found.values()) > PAUSES
