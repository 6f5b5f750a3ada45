"""One model for all stations of a line: who asks for another changes it for the others too, and they see it first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from plc_kit import Driver, options
from runtime_kit import make_bundle, make_frame, picture, tiny_model, wait_until, write_line
from whole_line import free_port, line_running, until_listening

from cada_edge.imaging import write_png
from cada_edge.runtime.check.finding import Finding
from cada_edge.runtime.check.stations import station_dials
from cada_edge.runtime.config import load_config
from cada_edge.runtime.control import Command, ControlFlag
from cada_edge.runtime.handshake import Life, Quiet
from cada_edge.runtime.judge import Judgement
from cada_edge.runtime.links.config import ModbusServerConfig
from cada_edge.runtime.plc.wire import Setup, StationSetup
from cada_edge.runtime.registers import OfflineReason, ResultFlag, StatusBlock, StatusFlag
from cada_edge.runtime.stations import Stations
from cada_edge.types import Verdict

NAMES = ("a", "b")


class Cell:
    """A triggered station `a` and a free-running one `b`, a PLC at each; the test is their pipeline."""

    def __init__(self, stack: ExitStack) -> None:
        setups = (
            StationSetup("a", options(mode="triggered"), sources=("cam-a",)),
            StationSetup("b", options(), sources=("cam-b",)),
        )
        links = tuple(ModbusServerConfig(kind="modbus-server", port=0, station=name) for name in NAMES)
        self.stations = Stations(Setup(setups, links, linger_ms=0), lambda _source, _demand: None, lambda _error: None)
        stack.callback(self.stations.close)
        self.a, self.b = (Driver(port or 0) for port in self.stations.ports)
        stack.callback(self.a.close)
        stack.callback(self.b.close)

    def live(self, **life: Any) -> None:
        """A sign of life."""
        self.stations.live(Life(time.monotonic_ns(), **life), (), {})

    def judged(self) -> None:
        """A good picture of camera b."""
        frame = make_frame(0)
        verdict = Verdict("ok", 0.1, 0.5, "cam-b", 0, frame.t_capture_ns, time.monotonic_ns(), "")
        self.stations.judged("cam-b", Judgement(verdict, frame))


@contextmanager
def cell() -> Iterator[Cell]:
    """Closed at the end."""
    with ExitStack() as stack:
        yield Cell(stack)


def test_every_station_is_offline_and_shows_the_new_model_before_its_next_result() -> None:
    """A PASS of before is withdrawn, what is judged meanwhile is not shown, and the checksum comes without a result."""
    with cell() as one:
        one.live(checksum=7, recipe=1)
        wait_until(lambda: StatusFlag.ONLINE in one.b.block().flags)
        one.judged()
        wait_until(lambda: one.b.block().result == ResultFlag.PASS)
        one.live(checksum=7, recipe=1, reload=True)
        quiet: set[str] = set()

        def all_quiet() -> bool:
            quiet.update(packet.station for packet in one.stations.told() if isinstance(packet.message, Quiet))
            return quiet == set(NAMES)

        wait_until(all_quiet)
        wait_until(lambda: all(plc.block().offline is OfflineReason.RELOADING for plc in (one.a, one.b)))
        one.judged()  # nobody is to see this one
        one.live(checksum=8, recipe=2)
        wait_until(lambda: all(StatusFlag.ONLINE in plc.block().flags for plc in (one.a, one.b)))
        for plc, seq in ((one.a, 0), (one.b, 1)):
            block = plc.block()
            assert (block.checksum, block.recipe, block.seq) == (8, 2, seq)
            assert StatusFlag.RESULTS_VALID not in block.flags
            assert ResultFlag.PASS not in block.result
        one.judged()
        wait_until(lambda: one.b.block().seq == 2)
        assert one.b.block().checksum == 8


def shared_line(folder: Path, **settings: Any) -> tuple[Path, tuple[int, int]]:
    """A line of bright parts, which recipe 1 rejects and recipe 2 passes, at `a` (triggered) and `b` (free run)."""
    ports = free_port(), free_port()
    document: dict[str, Any] = {
        "recipes": {1: "line.cada", 2: "other.cada"},
        "sources": [{"uri": "folder:bright?loop=1&fps=50", "id": f"cam-{name}"} for name in NAMES],
        "stations": [
            {"id": "a", "sources": ["cam-a"], "mode": "triggered", "deadline_ms": 5000},
            {"id": "b", "sources": ["cam-b"]},
        ],
        "links": [
            {"kind": "modbus-server", "port": port, "station": name} for name, port in zip(NAMES, ports, strict=True)
        ],
        "linger_ms": 0,
    }
    (folder / "bright").mkdir()
    write_png(folder / "bright" / "0.png", picture(255))
    path = write_line(folder, **{**document, **settings})
    make_bundle(tiny_model(scale=1000.0)).write(folder / "other.cada")
    return path, ports


def test_a_recipe_that_one_plc_selects_judges_for_the_other_too(tmp_path: Path) -> None:
    """No part of `b` passes under the checksum of before, and each that passes is shown with the new one."""
    path, (port_a, port_b) = shared_line(tmp_path)
    seen: list[StatusBlock] = []

    def look(plc: Driver) -> bool:
        seen.append(plc.block())
        return ResultFlag.PASS in seen[-1].result

    with line_running(path) as line, ExitStack() as stack:
        until_listening(line, port_a)
        until_listening(line, port_b)
        a, b = Driver(port_a), Driver(port_b)
        stack.callback(a.close)
        stack.callback(b.close)
        wait_until(lambda: b.block().seq > 3)
        before = b.block()
        a.control(ControlFlag.SET_OFFLINE)
        wait_until(lambda: a.block().offline == OfflineReason.REQUESTED)
        order = ControlFlag.SET_OFFLINE | ControlFlag.EXECUTE_COMMAND
        a.control(order, command=Command.SELECT_RECIPE, recipe=2)
        wait_until(lambda: look(b))
        wait_until(lambda: StatusFlag.COMMAND_DONE in a.block().flags)
        assert (before.recipe, seen[-1].recipe) == (1, 2)
        assert seen[-1].checksum == a.block().checksum != before.checksum
    assert all(block.checksum != before.checksum for block in seen if ResultFlag.PASS in block.result)


ONLY_SHOWN = [{"kind": "modbus-server", "port": 0, "station": name, "control": False} for name in NAMES]
FREE = [{"id": name, "sources": [f"cam-{name}"]} for name in NAMES]
ONE = {"sources": [{"uri": "folder:images"}], "stations": [{"id": "a"}], "links": [{"kind": "modbus-server"}]}


def told(path: Path) -> list[Finding]:
    """What `check` says of what the stations share."""
    return [dial.look() for dial in station_dials(load_config(path), 5.0) if dial.what == "recipes"]


def test_a_line_whose_stations_share_recipes_is_a_warning(tmp_path: Path) -> None:
    """`check` names the stations and the words in which a PLC sees it."""
    (finding,) = told(shared_line(tmp_path)[0])
    assert (finding.state, "a, b" in finding.found) == ("warn", True)
    assert "word 14" in finding.advice
    assert "word 24" in finding.advice


@pytest.mark.parametrize("settings", [{"recipes": {}}, {"links": ONLY_SHOWN, "stations": FREE}, ONE])
def test_without_recipes_or_orders_or_a_second_station_there_is_nothing_to_say(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Nobody can change the model for anybody else."""
    assert told(shared_line(tmp_path, **settings)[0]) == []
