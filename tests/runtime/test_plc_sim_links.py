"""The simulated PLC over every link it plays: a good station is judged good, and what cannot be had is said."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import pytest
from gpio_kit import installed
from link_plcs import free_ads_host
from plc_kit import Place, living, options, place
from runtime_kit import wait_until
from sim_kit import answering, play
from typer.testing import CliRunner
from whole_line import free_port
from wire_kit import SerialPair

from cada_edge.cli.app import build
from cada_edge.cli.plc_sim import LinkKind
from cada_edge.errors import LinkError
from cada_edge.runtime.links.config import (
    AdsConfig,
    AnyLink,
    DigitalConfig,
    LogixConfig,
    ModbusRtuConfig,
    ModbusServerConfig,
    ModbusTcpConfig,
    OpcUaConfig,
    OpcUaServerConfig,
    S7Config,
    SerialLineConfig,
)
from cada_edge.runtime.plc_sim.wires import KINDS, make_wire
from cada_edge.runtime.registers import HEAD, TAIL, OfflineReason, ResultFlag, StatusBlock, StatusFlag, encode

HOST = "127.0.0.1"
RESULTS = (ResultFlag.PASS, ResultFlag.FAIL | ResultFlag.REJECT)
RESULT = StatusBlock(StatusFlag.ONLINE | StatusFlag.RESULTS_VALID, OfflineReason.NONE, result=ResultFlag.PASS)
Game = tuple[AnyLink, list[str]]  # a link of the line, and the options of plc-sim that fit it


def needs(package: str) -> pytest.MarkDecorator:
    """Skip where a protocol's package is absent."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


NEEDS_CONTROLLER = pytest.mark.skipif(
    find_spec("cpppo") is None, reason="the simulated controller, cpppo's enip_server, is not installed"
)


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


def opcua(_stack: ExitStack) -> Game:
    """The PLC's variables are written."""
    port = free_port()
    return OpcUaConfig(kind="opcua", url=f"opc.tcp://{HOST}:{port}/plc"), ["--link", "opcua", "--port", str(port)]


def logix(_stack: ExitStack) -> Game:
    """The PLC's tags are written."""
    port = free_port()
    config = LogixConfig(kind="logix", host=HOST, port=port, status_tag="Seen", control_tag="Asked")
    return config, f"--link logix --status-tag Seen --control-tag Asked --port {port}".split()


def ads(_stack: ExitStack) -> Game:
    """The PLC's arrays are written; at an address of its own, for the port cannot be chosen."""
    host = free_ads_host()
    return AdsConfig(kind="ads", host=host, net_id="10.1.2.3.1.1"), ["--link", "ads", host]


def serial_line(stack: ExitStack) -> Game:
    """Lines of text."""
    pair = SerialPair()
    stack.callback(pair.close)
    return SerialLineConfig(kind="serial-line", device=pair.ports[0]), ["--link", "serial-line", pair.ports[1]]


WIRES = {"pass": 1, "valid": 2, "ready": 3, "busy": 4, "healthy": 5, "trigger": 6, "ack": 7}


def digital(
    mode: Literal["pulse", "level"], driver: Literal["gpiod", "jetson"], *leave_out: str, pulse_ms: int = 20
) -> Callable[[ExitStack], Game]:
    """Single wires, of a chip that this kernel need not have: see `gpio_kit`."""
    there = {name: line for name, line in WIRES.items() if name not in leave_out}
    wired = ["--wires", ",".join(f"{name}={line}" for name, line in there.items())]

    def game(stack: ExitStack) -> Game:
        chip = stack.enter_context(installed(Path(stack.enter_context(TemporaryDirectory()))))
        lines: dict[str, Any] = {f"{name}_line": line for name, line in there.items()}
        config = DigitalConfig(kind="digital", driver=driver, chip=chip, mode=mode, pulse_ms=pulse_ms, **lines)
        return config, [
            "--link",
            "digital",
            *wired,
            "--mode",
            mode,
            "--driver",
            driver,
            "--pulse-ms",
            str(pulse_ms),
            chip,
        ]

    return game


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
    pytest.param(opcua, id="opcua", marks=needs("asyncua")),
    pytest.param(s7, id="s7", marks=needs("snap7")),
    pytest.param(logix, id="logix", marks=[needs("pylogix"), NEEDS_CONTROLLER]),
    pytest.param(ads, id="ads", marks=needs("pyads")),
    pytest.param(serial_line, id="serial-line", marks=needs("serial")),
    pytest.param(digital("pulse", "gpiod"), id="digital"),
    pytest.param(digital("level", "gpiod"), id="digital-level"),
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
        acknowledged = not isinstance(config, DigitalConfig) or config.ack_line is not None
        kind = options(mode=mode, deadline_ns=5 * 10**9, ack_timeout_ns=10**9 if acknowledged else 0)
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
        code, facts = play(*arguments, "--deadline-ms", "250", "--cycles", "4", "--patience-s", "20")
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


@pytest.mark.parametrize(
    ("make", "cycles", "wrong"),
    [
        pytest.param(digital("pulse", "gpiod"), 250, "hold", id="pulse", marks=pytest.mark.slow),
        pytest.param(digital("level", "gpiod"), 250, "hold", id="level", marks=pytest.mark.slow),
        pytest.param(digital("level", "gpiod"), 20, "no-ack", id="level-no-ack"),
        pytest.param(digital("level", "gpiod", "ack"), 50, "hold", id="level-without-ack"),
        pytest.param(digital("pulse", "gpiod", "valid", "ack"), 50, "hold", id="pulse-without-valid"),
        pytest.param(digital("pulse", "jetson", pulse_ms=10_000), 50, "hold", id="pulse-header"),
    ],
)
def test_a_good_station_breaks_no_promise_on_any_wiring(
    make: Callable[[ExitStack], Game], cycles: int, wrong: str
) -> None:
    """Hundreds of parts through the line's own process, as undecided parts and a bad program make them."""
    results = (*RESULTS, ResultFlag.PASS, ResultFlag.UNKNOWN | ResultFlag.REJECT)
    with line(make) as (station, arguments), answering(station, after_s=0.01, results=results):
        code, facts = play(*arguments, "--misbehave", wrong, "--cycles", str(cycles), "--seed", "3")
    assert (code, facts["results"], facts["passed"], facts["violations"]) == (0, cycles, cycles // 2, [])


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


def test_every_link_is_played() -> None:
    """The kinds of line.yaml are those of plc-sim."""
    kinds = {model.model_fields["kind"].annotation.__args__[0] for model in get_args(AnyLink)}
    assert kinds == KINDS.keys() == {kind.value for kind in LinkKind}


@needs("asyncua")
def test_a_block_under_way_is_no_torn_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over opcua a block is three requests: between them there is nothing to see, unless it stays so."""
    from cada_edge.runtime.links.opcua import OpcUaLink
    from cada_edge.runtime.plc_sim import wire_opcua_memory

    config = OpcUaConfig(kind="opcua", url=f"opc.tcp://{HOST}:{free_port()}/plc")
    wire, link = make_wire(config), OpcUaLink(config)
    with ExitStack() as stack:
        stack.callback(wire.close)
        wire.open()
        stack.callback(link.close)
        link.open()
        link.write_status(encode(replace(RESULT, seq=4)))
        whole = wire.read()
        monkeypatch.setattr(link, "_write", lambda _words: link._put({"seq": 5}))
        link.write_status(encode(replace(RESULT, seq=5)))
        under_way = wire.read()
        monkeypatch.setattr(wire_opcua_memory, "_UNDER_WAY_S", 0.0)
        torn = wire.read()
    assert whole == encode(replace(RESULT, seq=4))
    assert under_way is None
    assert torn is not None
    assert (torn[HEAD], torn[TAIL]) == (5, 4)


@needs("pyads")
def test_a_wrong_name_of_an_array_is_told_by_the_line() -> None:
    """A line.yaml that names other arrays than the PLC has gets the controller's refusal, and no time-out."""
    from cada_edge.runtime.links.ads import AdsLink

    host = free_ads_host()
    wire = make_wire(AdsConfig(kind="ads", host=host, net_id="10.1.2.4.1.1"))
    link = AdsLink(AdsConfig(kind="ads", host=host, net_id="10.1.2.4.1.1", status_tag="GVL.Other"))
    with ExitStack() as stack:
        stack.callback(wire.close)
        wire.open()
        stack.callback(link.close)
        with pytest.raises(LinkError, match="symbol not found"):
            link.open()


@needs("pylogix")
def test_a_controller_that_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated controller of logix is another's program: the error names the package to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    done = CliRunner().invoke(build("plc-sim"), ["plc-sim", "--link", "logix"])
    assert done.exit_code == 1
    assert "pip install cpppo" in " ".join(done.output.split())


@needs("pylogix")
@NEEDS_CONTROLLER
def test_no_controller_outlives_a_simulated_plc_that_is_killed() -> None:
    """Even after SIGKILL, which lets nobody clean up, the port of the controller is free again."""
    port = free_port()
    command = [sys.executable, "-m", "cada_edge", "plc-sim", "--link", "logix", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as simulated:
        wait_until(lambda: answers(port))
        simulated.kill()
    wait_until(lambda: not answers(port))


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--link", "opcua", "opc.tcp://127.0.0.1/plc", "--port", "1"], "--port: a link of kind opcua has no such"),
        (["--link", "opcua", "--status-node", "no node id {field}"], "got node id 'no node id flags'"),
        (["--link", "ads", "--port", "1"], "--port: a link of kind ads has no such setting"),
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


LISTENING = [
    modbus_tcp,
    pytest.param(s7, marks=needs("snap7")),
    pytest.param(opcua, marks=needs("asyncua")),
    pytest.param(logix, marks=[needs("pylogix"), NEEDS_CONTROLLER]),
]


@pytest.mark.parametrize("make", LISTENING)
def test_an_address_that_is_taken_is_told(make: Callable[[ExitStack], Game]) -> None:
    """A PLC that cannot listen names the address and the option, and does not wait: it never will."""
    with ExitStack() as stack, socket.create_server((HOST, 0)) as taken:
        _, arguments = make(stack)
        arguments[-1] = str(taken.getsockname()[1])
        code, facts = play(*arguments)
    assert code == 1
    assert str(facts["stopped"]).startswith("cannot listen on 127.0.0.1")
    assert "--port" in str(facts["stopped"])


@needs("pyads")
def test_a_taken_port_of_ads_is_told() -> None:
    """It is always the same port, so another address is what helps."""
    host = free_ads_host()
    with socket.create_server((host, 48898)):
        code, facts = play("--link", "ads", host)
    assert code == 1
    assert str(facts["stopped"]).startswith(f"cannot listen on {host}:48898")
    assert "another address" in str(facts["stopped"])


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs("serial")) for kind in ("modbus-rtu", "serial-line")])
def test_a_serial_port_that_is_not_there_is_told(kind: str) -> None:
    """The device is named without a wait, and which end of the wire it must be."""
    code, facts = play("--link", kind, "/dev/no-such-port")
    assert code == 1
    assert "/dev/no-such-port" in str(facts["stopped"])
    assert "nothing for" not in str(facts["stopped"])
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
