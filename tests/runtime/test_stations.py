"""Whole lines that a PLC triggers over Modbus: one answer for each trigger, for the part it was raised for."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modbus_peer import Memory
from plc_kit import Driver, living, options, place
from runtime_kit import THRESHOLD, make_bundle, picture, python_env, tiny_model, wait_until, write_line

from cada_edge.errors import ConfigError, LinkError
from cada_edge.imaging import write_png
from cada_edge.runtime.config import load_config
from cada_edge.runtime.control import Command, ControlFlag
from cada_edge.runtime.handshake import Life, Published
from cada_edge.runtime.links.config import ModbusServerConfig, ModbusTcpConfig
from cada_edge.runtime.plc import client
from cada_edge.runtime.plc.wire import Acquired, Setup, StationSetup
from cada_edge.runtime.registers import HEAD, TAIL, Alarm, ErrorCode, OfflineReason, ResultFlag, StatusFlag
from cada_edge.runtime.stations import Stations

ENABLE, TRIGGER, ACK = ControlFlag.TRIGGER_ENABLE, ControlFlag.TRIGGER, ControlFlag.RESULTS_ACK
FAIL = ResultFlag.FAIL | ResultFlag.REJECT
MS = 1_000_000


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def triggered(folder: Path, **settings: Any) -> tuple[Path, int]:
    """A line.yaml with one triggered station over Modbus, and its port."""
    port = free_port()
    usual: dict[str, Any] = {
        "sources": [{"uri": "folder:images?loop=1"}],
        "stations": [{"id": "st1", "mode": "triggered", "deadline_ms": 5000}],
        "links": [{"kind": "modbus-server", "port": port}],
        "sinks": {"records": {"sqlite": "records.sqlite"}},
        "linger_ms": 0,
    }
    return write_line(folder, **{**usual, **settings}), port


@contextmanager
def running(path: Path) -> Iterator[dict[str, Any]]:
    """The line runs as a program until the block ends; its summary is there then."""
    command = [sys.executable, "-m", "cada_edge", "run", str(path), "--json"]
    process = subprocess.Popen(command, env=python_env(), stdout=subprocess.PIPE, text=True)
    summary: dict[str, Any] = {"signal": process.send_signal}
    try:
        yield summary
        process.terminate()
        summary.update(json.loads(process.communicate(timeout=60)[0]))
    finally:
        process.kill()
        process.wait()


@contextmanager
def driver(port: int) -> Iterator[Driver]:
    """A PLC, once the server listens."""
    found: list[Driver] = []

    def connect() -> bool:
        try:
            found.append(Driver(port))
        except AssertionError:
            return False
        return True

    wait_until(connect)
    try:
        yield found[0]
    finally:
        found[0].close()


def test_each_trigger_gets_the_answer_of_its_part(tmp_path: Path) -> None:
    """Twelve triggers: twelve results in order, each with its trigger's number, and in the records with its picture."""
    path, port = triggered(tmp_path)
    expected = [ResultFlag.PASS, FAIL, ResultFlag.PASS, FAIL] * 3
    seen = []
    with running(path) as done, driver(port) as plc:
        for number in range(1, len(expected) + 1):
            plc.ready()
            plc.control(ENABLE | TRIGGER, trigger_id=100 + number, encoder=9000 + number)
            seen.append(plc.result(100 + number))
            plc.acknowledge()
    assert [block.result for block in seen] == expected
    assert [block.seq for block in seen] == list(range(1, 13))
    assert done["problems"] == []
    with sqlite3.connect(tmp_path / "records.sqlite") as records:
        results = records.execute("SELECT station, seq, trigger_id, status FROM results ORDER BY id").fetchall()
        joined = records.execute(
            "SELECT r.part, r.trigger_id, r.encoder, v.name FROM results r "
            "JOIN verdicts v USING (run, station, part) ORDER BY r.id"
        ).fetchall()
        pictures = [row[0] for row in records.execute("SELECT name FROM verdicts ORDER BY id")]
    assert results == [("st1", n, 100 + n, "ok" if n % 2 else "ng") for n in range(1, 13)]
    assert joined == [(n, 100 + n, 9000 + n, name) for n, name in enumerate(pictures, 1)]
    assert len(joined) == 12


def test_a_part_passes_only_if_every_camera_passes_it(tmp_path: Path) -> None:
    """Two cameras, four parts: good and good is PASS; anything else is FAIL, with the worse score."""
    for name, levels in (("top", (0, 0, 255, 200)), ("side", (10, 200, 10, 255))):
        (tmp_path / name).mkdir()
        for index, level in enumerate(levels):
            write_png(tmp_path / name / f"{index}.png", picture(level))
    sources = [{"uri": f"folder:{name}?loop=1", "id": name} for name in ("top", "side")]
    path, port = triggered(tmp_path, sources=sources)
    seen = []
    with running(path), driver(port) as plc:
        for number in range(1, 5):
            plc.ready()
            plc.trigger(number)
            seen.append(plc.result(number))
            plc.acknowledge()
    assert [block.result for block in seen] == [ResultFlag.PASS, FAIL, FAIL, FAIL]
    assert [round(block.score, 2) for block in seen] == [0.04, 0.78, 1.0, 1.0]


def test_two_stations_do_not_hear_each_other(tmp_path: Path) -> None:
    """Each PLC's trigger is answered at its own station; the other shows nothing of it."""
    ports = free_port(), free_port()
    sources = [{"uri": "folder:images?loop=1", "id": name} for name in ("a", "b")]
    stations = [{"id": f"st-{name}", "sources": [name], "mode": "triggered"} for name in ("a", "b")]
    links = [
        {"kind": "modbus-server", "port": port, "station": f"st-{name}"} for name, port in zip("ab", ports, strict=True)
    ]
    path, _ = triggered(tmp_path, sources=sources, stations=stations, links=links)
    with running(path), driver(ports[0]) as one, driver(ports[1]) as other:
        one.ready()
        one.trigger(7)
        assert one.result(7).result == ResultFlag.PASS
        assert (other.block().seq, other.block().trigger_id) == (0, 0)
        other.ready()
        other.trigger(8)
        assert other.result(8).result == ResultFlag.PASS
        assert one.block().trigger_id == 7


def test_a_recipe_is_changed_by_the_plc_between_two_parts(tmp_path: Path) -> None:
    """Offline, SELECT_RECIPE, online: the checksum changes, and what failed before passes under the other model."""
    path, port = triggered(
        tmp_path, recipes={1: "line.cada", 2: "other.cada"}, sources=[{"uri": "folder:bright?loop=1"}]
    )
    (tmp_path / "bright").mkdir()
    write_png(tmp_path / "bright" / "0.png", picture(255))
    make_bundle(tiny_model(scale=1000.0)).write(tmp_path / "other.cada")
    with running(path), driver(port) as plc:
        plc.ready()
        plc.trigger(1)
        first = plc.result(1)
        plc.acknowledge()
        plc.control(ControlFlag.SET_OFFLINE)
        wait_until(lambda: plc.block().offline == OfflineReason.REQUESTED)
        order = ControlFlag.SET_OFFLINE | ControlFlag.EXECUTE_COMMAND
        plc.control(order, command=Command.SELECT_RECIPE, recipe=2)
        wait_until(lambda: StatusFlag.COMMAND_DONE in plc.block().flags)
        plc.ready()
        plc.trigger(2)
        second = plc.result(2)
    assert (first.result, second.result) == (FAIL, ResultFlag.PASS)
    assert (first.recipe, second.recipe) == (1, 2)
    assert first.checksum != second.checksum


def test_an_unknown_recipe_fails_and_the_old_model_goes_on(tmp_path: Path) -> None:
    """COMMAND_FAILED with its code; the next part is judged as before."""
    path, port = triggered(tmp_path)
    with running(path) as done, driver(port) as plc:
        plc.control(ControlFlag.SET_OFFLINE)
        wait_until(lambda: plc.block().offline == OfflineReason.REQUESTED)
        plc.control(ControlFlag.SET_OFFLINE | ControlFlag.EXECUTE_COMMAND, command=Command.SELECT_RECIPE, recipe=9)
        wait_until(lambda: StatusFlag.COMMAND_FAILED in plc.block().flags)
        assert plc.block().error == ErrorCode.COMMAND_FAILED
        plc.ready()
        plc.trigger(1)
        assert plc.result(1).result == ResultFlag.PASS
    assert any("recipe 9" in problem for problem in done["problems"])


@contextmanager
def commanded() -> Iterator[tuple[Stations, Driver]]:
    """A station whose PLC has ordered another recipe and waits, and that PLC."""
    link = ModbusServerConfig(kind="modbus-server", port=0)
    setup = Setup((StationSetup("st1", options(mode="triggered")),), (link,), linger_ms=0)
    stations = Stations(setup, lambda _source, _demand: None, lambda _error: None)
    try:
        with driver(stations.ports[0] or 0) as plc:
            order(stations, plc)
            yield stations, plc
    finally:
        stations.close()


def live(stations: Stations) -> None:
    """A sign of life, if it can be given."""
    with suppress(LinkError):
        stations.live(Life(time.monotonic_ns(), checksum=7), (), {})


def fill_pipe(stations: Stations) -> None:
    """Say so much to a PLC process that stands still that it takes no more."""
    while True:
        stations._plc.send(Acquired(9), "st1")


def order(stations: Stations, plc: Driver) -> None:
    """Ask for another recipe, and see that it is being changed."""
    live(stations)
    plc.control(ControlFlag.SET_OFFLINE)
    wait_until(lambda: plc.block().offline == OfflineReason.REQUESTED)
    plc.control(ControlFlag.SET_OFFLINE | ControlFlag.EXECUTE_COMMAND, command=Command.SELECT_RECIPE, recipe=2)
    wait_until(lambda: StatusFlag.COMMAND_EXECUTING in plc.block().flags)


def test_the_end_of_a_command_is_told_though_the_plc_process_took_nothing_at_first() -> None:
    """COMMAND_DONE comes once the process takes messages again; the PLC does not wait for good."""
    with commanded() as (stations, plc):
        stations._plc._process.send_signal(signal.SIGSTOP)
        with pytest.raises(LinkError, match="takes no messages"):
            fill_pipe(stations)
        with pytest.raises(LinkError, match="takes no messages"):
            stations.command_ended("st1", recipe=2, done=True)
        stations._plc._process.send_signal(signal.SIGCONT)

        def done() -> bool:
            live(stations)
            return StatusFlag.COMMAND_DONE in plc.block().flags

        wait_until(done)
        assert StatusFlag.COMMAND_EXECUTING not in plc.block().flags


def test_the_end_of_a_command_of_before_a_restart_ends_none_of_after() -> None:
    """A PLC process that was started anew runs no command; the next one is not over before it has begun."""
    with commanded() as (stations, _):
        stations._plc._process.kill()
        wait_until(lambda: not stations._plc.alive())
        with pytest.raises(LinkError, match="takes no messages"):
            stations.command_ended("st1", recipe=2, done=True)
        wait_until(stations._plc.alive)
        with driver(stations.ports[0] or 0) as plc:
            order(stations, plc)
            live(stations)
            stations.command_ended("st1", recipe=2, done=False)
            wait_until(lambda: StatusFlag.COMMAND_FAILED in plc.block().flags)


def test_a_hangup_signal_changes_the_model_between_two_parts(tmp_path: Path) -> None:
    """A broken bundle is told and not used; a good one takes over with a new checksum, and results go on in order."""
    stations = [{"id": "st1"}]
    path, port = triggered(tmp_path, stations=stations, sources=[{"uri": "folder:images?loop=1&fps=50"}])
    bundle = tmp_path / "line.cada"
    with running(path) as done, driver(port) as plc:
        wait_until(lambda: plc.block().seq > 3)
        first = plc.block()
        whole = bundle.read_bytes()
        bundle.write_bytes(whole[:-100])
        done["signal"](signal.SIGHUP)
        wait_until(lambda: plc.block().seq > first.seq + 20)
        assert plc.block().checksum == first.checksum
        make_bundle(threshold=replace(THRESHOLD, value=0.9)).write(bundle)
        done["signal"](signal.SIGHUP)
        wait_until(lambda: plc.block().checksum != first.checksum)
        wait_until(lambda: plc.block().threshold == pytest.approx(0.9))
    assert any(problem.startswith("reload:") for problem in done["problems"])


def test_a_trigger_too_early_is_counted_and_not_inspected() -> None:
    """While a part is under way a second trigger is missed; the first still gets its own answer."""
    with place(options(mode="triggered")) as station, living(station), driver(station.port) as plc:
        plc.ready()
        plc.trigger(1)
        wait_until(lambda: len(station.asked) == 1)
        plc.control(ENABLE)
        plc.trigger(2)
        wait_until(lambda: plc.block().missed == 1)
        station.answer(station.asked[0].part)
        assert plc.result(1).result == ResultFlag.PASS
        assert len(station.asked) == 1


def test_a_trigger_from_while_the_plc_process_stood_still_is_missed() -> None:
    """Half a second old when it is read, it would be answered by a picture of whatever is there by then."""
    with place(options(mode="triggered")) as station, living(station), driver(station.port) as plc:
        plc.ready()
        station.process._process.send_signal(signal.SIGSTOP)
        with ThreadPoolExecutor(1) as other:
            written = other.submit(plc.trigger, 9)
            time.sleep(0.5)
            station.process._process.send_signal(signal.SIGCONT)
            written.result()
        wait_until(lambda: plc.block().missed == 1)
        assert station.asked == []
        plc.ready()
        plc.trigger(10)
        wait_until(lambda: len(station.asked) == 1)


def test_what_is_said_to_a_plc_process_that_starts_anew_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline that talks while a slow machine starts the process: it comes back at the first attempt."""
    spawn = client._spawn

    def slow(theirs: socket.socket) -> subprocess.Popen[bytes]:
        time.sleep(0.1)
        return spawn(theirs)

    monkeypatch.setattr(client, "_spawn", slow)
    with place() as station:
        station.process._process.kill()
        wait_until(lambda: not station.process.alive())
        while not station.process.alive():
            time.sleep(0.001)
            with suppress(LinkError):
                station.alive()
        assert len(station.problems) == 1, station.problems


def test_a_pipeline_that_hangs_is_answered_for() -> None:
    """At its deadline a trigger is answered UNKNOWN, REJECT and LATE; a PASS after that is not shown."""
    station_options = options(mode="triggered", deadline_ns=300 * MS)
    with place(station_options) as station, living(station), driver(station.port) as plc:
        plc.ready()
        plc.trigger(5)
        block = plc.result(5)
        assert block.result == ResultFlag.UNKNOWN | ResultFlag.REJECT | ResultFlag.LATE
        station.published()
        station.answer(station.asked[0].part)
        told: list[Published] = []

        def heard() -> bool:
            told.extend(station.published())
            return bool(told)

        wait_until(heard)
        assert (told[0].seq, told[0].outcome.result) == (0, ResultFlag.PASS)
        assert plc.block().result == block.result


def test_no_outcome_of_before_a_restart_fits_a_part_of_after() -> None:
    """The PLC process dies with a part under way; its late PASS is not taken for the first part of the next process."""
    with place(options(mode="triggered")) as station, living(station):
        with driver(station.port) as plc:
            plc.ready()
            plc.trigger(1)
            wait_until(lambda: len(station.asked) == 1)
            station.process._process.kill()
            wait_until(lambda: not station.process.alive())
        wait_until(station.process.alive)
        with driver(station.port) as plc:
            plc.ready()
            plc.trigger(2)
            wait_until(lambda: len(station.asked) == 2)
            old, new = (acquire.part for acquire in station.asked)
            assert old != new
            station.answer(old)
            station.answer(new, FAIL)
            assert plc.result(2).result == FAIL


def test_a_plc_process_that_starts_anew_goes_on_counting() -> None:
    """Results, rejects, missed triggers and the alarm stand as before; number and toggle change with each block."""
    with place(options(mode="triggered", reject_run=2)) as station, living(station):
        with driver(station.port) as plc:
            for trigger_id in (1, 2):
                plc.ready()
                plc.trigger(trigger_id)
                wait_until(lambda: StatusFlag.TRIGGER_ACK in plc.block().flags)
                plc.control(ENABLE)
                plc.trigger(9)  # too early
                station.answer(station.asked[-1].part, FAIL)
                last = plc.result(trigger_id)
                plc.acknowledge()
            wait_until(lambda: [one.missed for one in station.process.health.stations] == [2])
            before = station.process.pid
            station.process._process.kill()
        wait_until(lambda: station.process.pid != before and station.process.alive())
        with driver(station.port) as plc:
            plc.ready()
            begun = plc.block()
            plc.trigger(3)
            wait_until(lambda: len(station.asked) == 3)
            station.answer(station.asked[-1].part)
            shown = plc.result(3)
    counted = [(one.total, one.rejected, one.missed, one.alarms) for one in (last, begun, shown)]
    assert counted == [(2, 2, 2, Alarm.REJECT_RUN), (2, 2, 2, Alarm.REJECT_RUN), (3, 2, 2, Alarm.REJECT_RUN)]
    assert [one.seq for one in (last, begun, shown)] == [2, 3, 4]
    toggles = [StatusFlag.RESULT_TOGGLE in one.flags for one in (last, begun, shown)]
    assert toggles == [False, True, False]


def test_a_plc_whose_memory_is_written_sees_number_and_toggle_change_together() -> None:
    """Also over a restart of the PLC process, which such a PLC does not notice: every change of one is one of both."""
    address = f"127.0.0.1:{free_port()}"
    memory, seen = Memory("modbus-tcp", address), list[tuple[int, bool]]()

    def online(seq: int) -> bool:
        words = memory.status()
        if words[HEAD] == words[TAIL]:
            look = words[HEAD], bool(words[0] & StatusFlag.RESULT_TOGGLE)
            seen.extend([look] if look not in seen[-1:] else [])
        return words[HEAD] == seq and bool(words[0] & StatusFlag.ONLINE)

    host, port = address.split(":")
    link = ModbusTcpConfig(kind="modbus-tcp", host=host, port=int(port))
    with place(options(), links=(link,)) as station, living(station):
        for seq in (0, 1):
            wait_until(lambda seq=seq: online(seq))  # type: ignore[misc]  # this turn's number
            station.answer(0)
        wait_until(lambda: online(2))
        station.process._process.kill()
        wait_until(lambda: online(3))
        station.answer(0)
        wait_until(lambda: online(4))
    assert seen == [(0, False), (1, True), (2, False), (3, True), (4, False)]


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("driven by 2 links", {"links": [{"kind": "modbus-server", "port": 1}, {"kind": "modbus-server", "port": 2}]}),
        ("no link with control: true", {"links": [{"kind": "modbus-server", "control": False}]}),
        ("station 'st9', expected one of", {"links": [{"kind": "modbus-server", "station": "st9"}]}),
        ("without links", {"links": []}),
        ("short for one link", {"sinks": {"modbus": {}}}),
        ("which are not among", {"stations": [{"id": "st1", "sources": ["cam7"]}]}),
        ("each must name its sources", {"stations": [{"id": "a"}, {"id": "b"}]}),
        ("ids of stations must differ", {"stations": [{"id": "a", "sources": ["cam1"]}, {"id": "a"}]}),
        (
            "ports of servers must differ",
            {"links": [{"kind": "modbus-server"}, {"kind": "modbus-server", "control": False}]},
        ),
        ("longer than stale_ms", {"stations": [{"id": "st1", "deadline_ms": 5000}]}),
    ],
)
def test_what_does_not_fit_together_is_named(tmp_path: Path, words: str, settings: dict[str, Any]) -> None:
    """Sources, stations and links that contradict each other are refused before anything starts."""
    path, _ = triggered(tmp_path, **settings)
    with pytest.raises(ConfigError, match=words):
        load_config(path)
