from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from plc_kit import Driver, Place, living, options, place

from cada_edge.runtime.control import ControlBlock, ControlFlag, encode_control

_ARMED = encode_control(ControlBlock(ControlFlag.TRIGGER_ENABLE))
_FIRED = ControlFlag.TRIGGER_ENABLE | ControlFlag.TRIGGER


@pytest.fixture
def armed() -> Iterator[tuple[Place, Driver]]:
    """A station that waits for a trigger, and a PLC that sees it."""
    with place(options(mode="triggered")) as station, living(station):
        driver = Driver(station.port)
        driver.ready()
        yield station, driver
        driver.close()


def ask(port: int, pdu: bytes) -> bytes:
    """What the server answers to one request, without the head of the frame."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(struct.pack(">HHHB", 1, 0, len(pdu) + 1, 1) + pdu)
        return line.recv(300)[7:]


@pytest.mark.parametrize(
    "pdu",
    [
        pytest.param(struct.pack(">BHH", 5, 1, 0xFF00), id="coil"),
        pytest.param(struct.pack(">BHHBB", 15, 0, 8, 1, 0xFF), id="coils"),
        pytest.param(struct.pack(">BHH", 6, 0, _FIRED) + b"\0", id="one-register-and-more"),
        pytest.param(struct.pack(">BHHBHH", 16, 0, 1, 2, _FIRED, 0), id="registers-and-more"),
        pytest.param(struct.pack(">BHHBHH", 16, 0, 1, 4, _FIRED, 0), id="registers-count-too-small"),
        pytest.param(struct.pack(">BHHBH", 16, 0, 2, 4, _FIRED), id="registers-cut-off"),
        pytest.param(struct.pack(">BHHH", 22, 0, 0, _FIRED) + b"\0\0", id="mask-and-more"),
        pytest.param(struct.pack(">BHHHHBHH", 23, 100, 1, 0, 1, 4, _FIRED, 0), id="read-write-count-too-small"),
        pytest.param(struct.pack(">BHHHHBHB", 23, 100, 1, 0, 1, 2, _FIRED, 0), id="read-write-and-more"),
    ],
)
def test_a_broken_write_is_refused_and_changes_nothing(armed: tuple[Place, Driver], pdu: bytes) -> None:
    """No coil is a bit of the control block, and no request with a wrong length starts a part."""
    station, driver = armed
    assert ask(station.port, pdu)[0] & 0x80
    assert driver.client.read_holding_registers(0, count=16).registers == _ARMED
    assert station.asked == []


@pytest.mark.parametrize("function", [1, 2])
def test_there_are_no_coils_to_read(armed: tuple[Place, Driver], function: int) -> None:
    """A PLC that is set up for coils is told so at once."""
    assert ask(armed[0].port, struct.pack(">BHH", function, 0, 16)) == bytes([0x80 | function, 1])


@pytest.mark.parametrize(
    "pdu",
    [
        pytest.param(struct.pack(">BHH", 6, 1, 9), id="one-register"),
        pytest.param(struct.pack(">BHHBH", 16, 1, 1, 2, 9), id="registers"),
        pytest.param(struct.pack(">BHHH", 22, 1, 0, 9), id="mask"),
        pytest.param(struct.pack(">BHHHHBH", 23, 100, 32, 1, 1, 2, 9), id="read-write"),
    ],
)
def test_every_way_to_write_registers_still_works(armed: tuple[Place, Driver], pdu: bytes) -> None:
    """Well-formed requests of all four functions reach the control block."""
    station, driver = armed
    assert ask(station.port, pdu)[0] == pdu[0]
    assert driver.client.read_holding_registers(1, count=1).registers == [9]
