"""The PLC process gets a core before others do, where the system grants it, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from plc_kit import options

from cada_edge.runtime.config import load_config
from cada_edge.runtime.links.config import ModbusServerConfig, ModbusTcpConfig
from cada_edge.runtime.plc import urgency
from cada_edge.runtime.plc.client import PlcProcess
from cada_edge.runtime.plc.wire import Setup, StationSetup

PRIORITY = 7


def refuse(*_: object) -> None:
    """What a system says that grants nothing."""
    raise PermissionError(1, "Operation not permitted")


def ways_of(pid: int) -> list[tuple[int, int]]:
    """Policy and niceness of every thread of a process, the oldest first."""
    threads = sorted(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())
    return [(os.sched_getscheduler(one), os.getpriority(os.PRIO_PROCESS, one)) for one in threads]


def test_what_talks_to_plcs_is_urgent_and_its_pipeline_is_not() -> None:
    """Server and link alike, whichever way this machine grants; the pipeline stays as it was.

    Threads between the two, which libraries start when they are loaded, have nothing to do.
    """
    granted = urgency.probe(PRIORITY)
    if not granted:
        pytest.skip("this user may neither use SCHED_FIFO nor lower its niceness")
    links = (
        ModbusServerConfig(kind="modbus-server", port=0),
        ModbusTcpConfig(kind="modbus-tcp", host="127.0.0.1", port=9),
    )
    setup = Setup((StationSetup("st1", options(), sources=("cam1",)),), links, 0, PRIORITY)
    before = ways_of(os.getpid())
    with PlcProcess(setup, lambda _station, _acquire: None, lambda _error: None) as process:
        found = ways_of(process.pid)
        after = ways_of(os.getpid())
    wanted = (os.SCHED_FIFO, 0) if granted.startswith("SCHED_FIFO") else (os.SCHED_OTHER, urgency.NICENESS)
    assert len(found) > 1
    assert (found[0], found[-1]) == (wanted, wanted)  # the server's loop, the link's thread
    assert set(after) == set(before)


def test_without_real_time_it_is_nicer_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel refuses is tried the other way; what it refuses altogether is told."""
    niceness: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "setpriority", lambda *given: niceness.append(given))
    assert urgency.take(PRIORITY) == f"niceness {urgency.NICENESS}"
    assert niceness == [(os.PRIO_PROCESS, 0, urgency.NICENESS)]
    monkeypatch.setattr(os, "setpriority", refuse)
    assert not urgency.take(PRIORITY)


def test_nothing_is_asked_for_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Priority 0 leaves the process as it is."""
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: pytest.fail("asked for"))
    monkeypatch.setattr(os, "setpriority", lambda *_: pytest.fail("asked for"))
    assert not urgency.take(0)


def test_probing_changes_nothing() -> None:
    """Only the thread that tries it is changed, and it ends."""
    before = ways_of(os.getpid())
    urgency.probe(PRIORITY)
    assert set(ways_of(os.getpid())) == set(before)


def test_a_line_says_how_urgent(tmp_path: Path) -> None:
    """``plc_priority`` is read, and kept below what the kernel's own threads use."""
    path = tmp_path / "line.yaml"
    text = "schema: 1\nbundle: b.cada\nsources: [{uri: 'folder:x'}]\n"
    path.write_text(text)
    assert load_config(path).plc_priority == 10
    path.write_text(text + "plc_priority: 0\n")
    assert load_config(path).plc_priority == 0
    path.write_text(text + "plc_priority: 50\n")
    with pytest.raises(Exception, match="plc_priority"):
        load_config(path)
