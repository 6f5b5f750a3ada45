"""The structured text of docs/plc as the program of a PLC on a real link, judged as plc-sim judges."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("blark") is None:
    pytest.skip("blark, which parses structured text, is not installed: pip install blark", allow_module_level=True)
from plc_kit import living, options, place
from sim_kit import answering
from st_kit import Cpu
from whole_line import free_port

from cada_edge.runtime.control import decode_control
from cada_edge.runtime.links.config import ModbusServerConfig, S7Config
from cada_edge.runtime.plc_sim.referee import Referee
from cada_edge.runtime.plc_sim.rules import Terms, Violation
from cada_edge.runtime.plc_sim.wires import Config, Wire, make_wire
from cada_edge.runtime.registers import ResultFlag

CHECKOUT = Path(os.environ.get("CADA_EDGE_CHECKOUT") or Path(__file__).resolve().parents[2])
TEXTS = CHECKOUT / "docs" / "plc"
PASSED, DAMAGED = 1, 2
RESULTS = {PASSED: ResultFlag.PASS, DAMAGED: ResultFlag.FAIL | ResultFlag.REJECT}
PARTS = [PASSED, DAMAGED, PASSED, PASSED] * 5


class Plc:
    """A PLC that reads its block, runs its program and writes its block, again and again."""

    def __init__(self, wire: Wire, line: str, program: str) -> None:
        self._wire, self._cpu = wire, Cpu(TEXTS / "cada_station.st", TEXTS / line)
        self.program = self._cpu.make(program)
        self._referee, self._written = Referee(Terms(deadline_ns=5 * 10**9)), [0] * 16
        self.violations: list[Violation] = []

    def cycle(self, part_in_place: bool) -> None:
        """One cycle."""
        asked_ns = time.monotonic_ns()
        words = self._wire.read()
        got_ns = self._cpu.now_ns = time.monotonic_ns()
        if words is not None:
            self.violations += self._referee.read(words, asked_ns, got_ns)
            self.program.values["cadastatus"][:] = words
        self.program.call({"partinplace": part_in_place})
        control = list(self.program["cadacontrol"])
        if control != self._written:
            self._written, sent_ns = control, time.monotonic_ns()
            self._wire.write(control)
            self._referee.wrote(decode_control(control), sent_ns)
        time.sleep(0.001)

    def part(self) -> tuple[bool, int]:
        """A part comes once the station is ready, and goes with its answer: the gate, and the reason."""
        station = self.program["station"]
        self._until(lambda: bool(station["ready"]), part_in_place=False)
        self._until(lambda: bool(station["done"]), part_in_place=True)
        found = bool(self.program["gateopen"]), int(station["reason"])
        self.cycle(part_in_place=False)
        return found

    def _until(self, done: Callable[[], bool], part_in_place: bool) -> None:
        until_s = time.monotonic() + 30
        self.cycle(part_in_place)
        while not done():
            assert time.monotonic() < until_s
            self.cycle(part_in_place)


def modbus() -> tuple[Any, str, str]:
    """The PLC is the client."""
    return ModbusServerConfig(kind="modbus-server", port=free_port()), "line_modbus.st", "PLC_LineModbus"


def s7() -> tuple[Any, str, str]:
    """The PLC's data block is written."""
    config = S7Config(kind="s7", host="127.0.0.1", port=free_port(), db=20)
    return config, "line_data_block.st", "PLC_LineDataBlock"


no_snap7 = pytest.mark.skipif(find_spec("snap7") is None, reason="snap7 is not installed")


@pytest.mark.parametrize("make", [pytest.param(modbus, id="modbus"), pytest.param(s7, id="s7", marks=no_snap7)])
def test_the_program_lets_through_what_passed_and_nothing_else(make: Callable[[], tuple[Config, str, str]]) -> None:
    """Twenty parts over the real link: the gate opens for those that passed, and the station breaks no promise."""
    config, line, program = make()
    kind, told = options(mode="triggered", deadline_ns=5 * 10**9), [RESULTS[part] for part in PARTS]
    wire = make_wire(config)
    with place(kind, links=(config,)) as station, living(station), answering(station, results=told):
        wire.open()
        plc = Plc(wire, line, program)
        found = [plc.part() for _ in PARTS]
        wire.close()
    assert found == [(part == PASSED, part) for part in PARTS]
    assert plc.violations == []
