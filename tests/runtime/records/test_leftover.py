"""Results that a killed pipeline could not write: left by its PLC process, and in the records after the next start."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from records_kit import fetch, result
from runtime_kit import python_env, wait_until

from cada_edge.runtime.records.leftover import leave, left_by
from cada_edge.runtime.records.rows import result_row
from cada_edge.runtime.registers import ResultFlag
from cada_edge.runtime.sinks.records import RecordSink

RESULTS = "SELECT seq, trigger_id, result, run FROM results ORDER BY id"
PIPELINE = """
import sys, time
from cada_edge.runtime.handshake import Life, StationOptions
from cada_edge.runtime.links.config import ModbusServerConfig
from cada_edge.runtime.outcome import Outcome
from cada_edge.runtime.plc.client import PlcProcess
from cada_edge.runtime.plc.wire import Setup, StationSetup
from cada_edge.runtime.registers import ErrorCode, ResultFlag
station = StationSetup("st1", StationOptions(deadline_ns=10**12, hold_ns=0, stale_ns=10**12))
setup = Setup((station,), (ModbusServerConfig(kind="modbus-server", port=0),), linger_ms=0, records=sys.argv[1])
plc = PlcProcess(setup, print, print)
now = time.monotonic_ns()
plc.send(Life(now), "st1")
for score in (0.1, 0.2, 0.3):
    plc.send(Outcome(None, ResultFlag.PASS, ErrorCode.NONE, score, 0.5, now, now, now), "st1")
while len([one for one in plc.health.stations if one.judged == 3]) < 1:
    time.sleep(0.01)
print("judged", flush=True)
sys.stdin.read()
plc.close()
print("closed", flush=True)
"""


def test_what_is_missing_is_taken_in_once(tmp_path: Path) -> None:
    """Results that were written are not written again; the others belong to the run before; then nothing is left."""
    path, told = tmp_path / "r.sqlite", list[Exception]()
    sink = RecordSink(path, "a" * 64, told.append)
    for seq in (1, 2):
        sink.result(result(seq))
    sink.close()
    leave(left_by(path), [result_row(result(seq)) for seq in (1, 2, 3, 4)])
    again = RecordSink(path, "b" * 64, told.append)
    again.result(result(5))
    again.close()
    expected = [(seq, 700 + seq, int(ResultFlag.PASS), 1 if seq < 5 else 2) for seq in (1, 2, 3, 4, 5)]
    assert fetch(path, RESULTS) == expected
    assert fetch(path, "SELECT part, encoder FROM results WHERE seq = 4") == [(14, 5004)]
    assert not left_by(path).exists()
    assert len(told) == 1
    assert "2 results that a killed line could not write" in str(told[0])


def test_a_line_killed_before_its_first_record_loses_none(tmp_path: Path) -> None:
    """The file has no run yet, and gets one."""
    path = tmp_path / "r.sqlite"
    leave(left_by(path), [result_row(result(1))])
    RecordSink(path, "a" * 64, print).close()
    assert fetch(path, RESULTS) == [(1, 701, int(ResultFlag.PASS), 1)]


@pytest.mark.parametrize(
    "text",
    ["{", "{}", "[1]", '[{"seq": 1}]', json.dumps([{**result_row(result(1)), "note": ["x"]}]), " " * ((1 << 20) + 1)],
)
def test_what_is_no_result_is_moved_aside(tmp_path: Path, text: str) -> None:
    """Told, kept for whoever wants to look, and never in the records; the line starts."""
    path, told = tmp_path / "r.sqlite", list[Exception]()
    left_by(path).write_text(text)
    sink = RecordSink(path, "a" * 64, told.append)
    sink.result(result(1))
    sink.close()
    assert [row[0] for row in fetch(path, RESULTS)] == [1]
    assert not left_by(path).exists()
    assert [one.read_text() for one in tmp_path.glob("*left.json.damaged*")] == [text]
    assert "cannot be read" in str(told[0])


@pytest.mark.parametrize("killed", [True, False])
def test_the_plc_process_leaves_what_a_killed_pipeline_showed(tmp_path: Path, killed: bool) -> None:
    """And nothing where the pipeline ended as it should: it has written everything itself."""
    path = tmp_path / "r.sqlite"
    command = [sys.executable, "-c", PIPELINE, str(path)]
    process = subprocess.Popen(command, env=python_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "judged\n"
        if killed:
            process.send_signal(signal.SIGKILL)
            wait_until(left_by(path).exists)
        else:
            assert process.communicate(timeout=30)[0] == "closed\n"
    finally:
        process.kill()
        process.communicate()
    assert left_by(path).exists() == killed
    RecordSink(path, "a" * 64, print).close()
    shown = fetch(path, "SELECT station, seq, result, score, shown FROM results ORDER BY id")
    told = [("st1", seq, int(ResultFlag.PASS), pytest.approx(seq / 10), "PASS") for seq in (1, 2, 3)]
    assert shown == (told if killed else [])
