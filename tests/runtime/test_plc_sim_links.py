"""The simulated PLC over every link it plays: a good station is judged good, and what cannot be had is said."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from plc_kit import Place, living, options, place
from runtime_kit import wait_until
from sim_kit import answering, play
from typer.testing import CliRunner
from whole_line import free_port
from wire_kit import SerialPair

from cada_edge.cli.app import build
from cada_edge.runtime.links.config import (
    AnyLink,
    ModbusRtuConfig,
    ModbusServerConfig,
    ModbusTcpConfig,
    OpcUaServerConfig,
    S7Config,
    SerialLineConfig,
)
from cada_edge.runtime.plc_sim.wires import make_wire
from cada_edge.runtime.registers import HEAD, TAIL, OfflineReason, ResultFlag, StatusBlock, StatusFlag

HOST = "127.0.0.1"
RESULTS = (ResultFlag.PASS, ResultFlag.FAIL | ResultFlag.REJECT)
RESULT = StatusBlock(StatusFlag.ONLINE | StatusFlag.RESULTS_VALID, OfflineReason.NONE, result=ResultFlag.PASS)
Game = tuple[AnyLink, list[str]]  # a link of the line, and the options of plc-sim that fit it


def needs(package: str) -> pytest.MarkDecorator:
    """Skip where a protocol's package is absent."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


def modbus_server(_stack: ExitStack) -> Game:
    """The PLC polls registers."""
    port = free_port()
    return ModbusServerConfig(kind="modbus-server", port=port), ["--port", str(port)]


def modbus_tcp(_stack: ExitStack) -> Game:
    """The PLC's registers are written."""
    port = free_port()
    return ModbusTcpConfig(kind="modbus-tcp", host=HOST, port=port), ["--link", "modbus-tcp", "--port", str(port)]


def modbus_rtu(stack: ExitStack) -> Game:
    """The same over a serial wire; a pseudo terminal has no parity."""
    pair = SerialPair()
    stack.callback(pair.close)
    config = ModbusRtuConfig(kind="modbus-rtu", device=pair.ports[0], parity="N")
    return config, ["--link", "modbus-rtu", "--parity", "N", pair.ports[1]]


def opcua_server(_stack: ExitStack) -> Game:
    """The PLC polls variables."""
    port = free_port()
    return OpcUaServerConfig(kind="opcua-server", port=port), ["--link", "opcua-server", "--port", str(port)]


def s7(_stack: ExitStack) -> Game:
    """The PLC's data block is written."""
    port = free_port()
    config = S7Config(kind="s7", host=HOST, port=port, db=20, status_byte=100, control_byte=4)
    return config, f"--link s7 --db 20 --status-byte 100 --control-byte 4 --port {port}".split()


def serial_line(stack: ExitStack) -> Game:
    """Lines of text."""
    pair = SerialPair()
    stack.callback(pair.close)
    return SerialLineConfig(kind="serial-line", device=pair.ports[0]), ["--link", "serial-line", pair.ports[1]]


@pytest.fixture
def serial_pair() -> Iterator[SerialPair]:
    """A serial wire."""
    pair = SerialPair()
    yield pair
    pair.close()


LINKS = [
    pytest.param(modbus_server, id="modbus-server"),
    pytest.param(modbus_tcp, id="modbus-tcp"),
    pytest.param(modbus_rtu, id="modbus-rtu", marks=needs("serial")),
    pytest.param(opcua_server, id="opcua-server", marks=needs("asyncua")),
    pytest.param(s7, id="s7", marks=needs("snap7")),
    pytest.param(serial_line, id="serial-line", marks=needs("serial")),
]


def well(station: Place) -> bool:
    """The station is online and its link is up."""
    health = station.process.health
    return bool(health.links) and all(one.up for one in health.links) and all(one.online for one in health.stations)


@contextmanager
def line(make: Callable[[ExitStack], Game], mode: str = "triggered") -> Iterator[tuple[Place, list[str]]]:
    """A living station with one link, and how to play against it."""
    with ExitStack() as stack:
        config, arguments = make(stack)
        kind = options(mode=mode, deadline_ns=5 * 10**9)
        station = stack.enter_context(place(kind, links=(config,)))
        stack.enter_context(living(station))
        if config.kind == "serial-line":  # text does not tell that the station is not there yet
            wait_until(lambda: well(station))
        yield station, arguments


@pytest.mark.parametrize("make", LINKS)
def test_a_good_station_breaks_no_promise_over_any_link(make: Callable[[ExitStack], Game]) -> None:
    """Twenty handshakes, every second a PASS, over the real link of the line: the right count, no violation."""
    with line(make) as (station, arguments), answering(station, results=RESULTS):
        code, facts = play(*arguments)
    assert (code, facts["results"], facts["passed"], facts["violations"]) == (0, 20, 10, [])


@pytest.mark.parametrize("make", LINKS)
def test_a_late_pass_is_told_over_any_link(make: Callable[[ExitStack], Game]) -> None:
    """A station that takes 400 ms where the PLC allows 250 is told of, whatever the wire."""
    with line(make) as (station, arguments), answering(station, after_s=0.4):
        code, facts = play(*arguments, "--deadline-ms", "250", "--cycles", "4", "--patience-s", "5")
    assert code == 1
    assert "LATE_PASS" in facts["broken"]


@pytest.mark.parametrize("make", LINKS)
def test_a_connection_lost_in_the_middle_of_a_part_breaks_no_promise(make: Callable[[ExitStack], Game]) -> None:
    """A PLC that hangs up while parts are under way comes back to a station that holds its promises."""
    with line(make) as (station, arguments), answering(station, after_s=0.02):
        _, facts = play(*arguments, "--misbehave", "drop", "--deadline-ms", "1000", "--seed", "4", "--cycles", "10")
    assert facts["violations"] == []
    assert facts["connections"] > 1
    assert facts["results"] + facts["given_up"] == 10


@needs("serial")
def test_a_line_of_text_that_fails_its_checksum_is_a_torn_read(serial_pair: SerialPair) -> None:
    """Noise is handed to the referee, once; the two lines behind it, that came at once, are two results."""
    from cada_edge.runtime.links.serial_line import result_line

    wire = make_wire(SerialLineConfig(kind="serial-line", device=serial_pair.ports[1]))
    wire.open()
    good = b"".join(result_line(replace(RESULT, seq=seq)) for seq in (5, 6))
    seen = [(0, 0)]

    def look() -> bool:
        words = wire.read() or ()
        if (words[HEAD], words[TAIL]) != seen[-1]:
            seen.append((words[HEAD], words[TAIL]))
        return seen[-1] == (2, 2)

    with Path(serial_pair.ports[0]).open("wb", buffering=0) as line_end:
        line_end.write(b"R,4,7,PASS,0.1,0000\r\n" + good)
        wait_until(look)
    wire.close()
    assert seen == [(0, 0), (0, 1), (1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--db", "7"], "--db: a link of kind modbus-server has no such setting"),
        (["--link", "s7"], "db: missing"),
        (["--link", "serial-line", "nowhere"], "device: got 'nowhere'"),
        (["--link", "serial-line", "/dev/ttyS0", "--heartbeat"], "leave them out with --link serial-line"),
        (["--link", "modbus-rtu", "/dev/ttyS0", "--parity", "X"], "parity: got 'X', expected 'E', 'O' or 'N'"),
        (["--base", "10"], "overlap; move one of them"),
        (["--base", "70000"], "base: got 70000"),
    ],
)
def test_settings_that_do_not_fit_are_one_clear_error(arguments: list[str], told: str) -> None:
    """A setting of another link, a missing one and one out of range are named as the user wrote them."""
    done = CliRunner().invoke(build("plc-sim"), ["plc-sim", *arguments])
    assert done.exit_code == 1
    assert told in " ".join(done.output.split())
    assert "Traceback" not in done.output


@pytest.mark.parametrize("make", [modbus_tcp, pytest.param(s7, marks=needs("snap7"))])
def test_an_address_that_is_taken_is_told(make: Callable[[ExitStack], Game]) -> None:
    """A PLC that cannot listen names the address and the option, and gives up after its patience."""
    with ExitStack() as stack, socket.create_server((HOST, 0)) as taken:
        _, arguments = make(stack)
        arguments[-1] = str(taken.getsockname()[1])
        code, facts = play(*arguments, "--patience-s", "0.2")
    assert code == 1
    assert "cannot listen on 127.0.0.1" in str(facts["stopped"])
    assert "--port" in str(facts["stopped"])


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs("serial")) for kind in ("modbus-rtu", "serial-line")])
def test_a_serial_port_that_is_not_there_is_told(kind: str) -> None:
    """The device is named, and which end of the wire it must be."""
    code, facts = play("--link", kind, "/dev/no-such-port", "--patience-s", "0.2")
    assert code == 1
    assert "/dev/no-such-port" in str(facts["stopped"])
    assert "this end of the wire" in str(facts["stopped"])


@pytest.mark.parametrize("make", LINKS)
def test_a_station_that_is_not_there_is_told(make: Callable[[ExitStack], Game]) -> None:
    """Nobody at the other end: the game ends after its patience and says what to look at."""
    with ExitStack() as stack:
        _, arguments = make(stack)
        code, facts = play(*arguments, "--patience-s", "0.3")
    assert code == 1
    assert facts["results"] == 0
    assert "nothing for 0.3 s" in str(facts["stopped"])
