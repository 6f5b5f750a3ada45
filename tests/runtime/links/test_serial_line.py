"""The text protocol over a pair of pseudo terminals, against a controller that knows nothing of ours."""

from __future__ import annotations

import binascii
import os
import pty
import tty
from collections.abc import Iterator
from dataclasses import replace

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st
from link_kit import pattern
from runtime_kit import wait_until
from wire_kit import SerialPair

from cada_edge.errors import LinkError
from cada_edge.runtime.control import ControlFlag, decode_control
from cada_edge.runtime.links.config import SerialLineConfig
from cada_edge.runtime.links.pending import PendingControl
from cada_edge.runtime.links.serial_line import LineReader, SerialLineLink, take_line
from cada_edge.runtime.links.supervisor import LinkSupervisor
from cada_edge.runtime.registers import ResultFlag, StatusFlag, decode, encode


@pytest.fixture
def pair() -> Iterator[SerialPair]:
    """A wire."""
    made = SerialPair()
    yield made
    made.close()


@pytest.fixture
def link(pair: SerialPair) -> Iterator[SerialLineLink]:
    """An open link at one end."""
    made = SerialLineLink(SerialLineConfig(kind="serial-line", device=pair.ports[0], timeout_ms=100))
    made.open()
    yield made
    made.close()


@pytest.fixture
def controller(pair: SerialPair) -> Iterator[serial.Serial]:
    """The port of the controller at the other end."""
    with serial.Serial(pair.ports[1], 115_200, timeout=10) as port:
        yield port


def test_a_result_is_one_line_with_its_checksum(link: SerialLineLink, controller: serial.Serial) -> None:
    """A result is told once, however often the block is written; its CRC holds."""
    for seq in (5, 5, 6):
        link.write_status(pattern(seq))
    lines = [controller.readline() for _ in range(2)]
    assert [line.split(b",")[:4] for line in lines] == [
        [b"R", str(n).encode(), str(40_000 * 65_536 + n).encode(), b"PASS"] for n in (5, 6)
    ]
    for line in lines:
        body, crc = line.rstrip(b"\r\n").rsplit(b",", 1)
        assert int(crc, 16) == binascii.crc_hqx(body, 0)


def test_only_a_valid_pass_is_pass(link: SerialLineLink, controller: serial.Serial) -> None:
    """A reject says REJECT, and a block without a valid result says nothing."""
    block = decode(pattern(1))
    link.write_status(encode(replace(block, flags=block.flags & ~StatusFlag.RESULTS_VALID)))
    link.write_status(encode(replace(block, seq=2, result=ResultFlag.REJECT | ResultFlag.UNKNOWN)))
    assert controller.readline().split(b",")[1:4:2] == [b"2", b"REJECT"]


def test_triggers_and_acknowledgements_are_edges(link: SerialLineLink, controller: serial.Serial) -> None:
    """A line is a rise and a fall, also when several came at once; the number and the encoder are kept."""
    seen: list[tuple[ControlFlag, int, int]] = []

    def read() -> bool:
        control = decode_control(link.read_control() or ())
        state = (control.flags & ~ControlFlag.TRIGGER_ENABLE, control.trigger_id, control.encoder)
        if not seen or seen[-1] != state:
            seen.append(state)
        return len(seen) == 7

    read()
    controller.write(b"T,7,900\r\nnonsense\r\nA\nT,8\n")
    wait_until(read)
    none, trigger, ack = ControlFlag(0), ControlFlag.TRIGGER, ControlFlag.RESULTS_ACK
    assert seen == [
        (none, 0, 0),
        (trigger, 7, 900),
        (none, 7, 900),
        (ack, 7, 900),
        (none, 7, 900),
        (trigger, 8, 0),
        (none, 8, 0),
    ]


def test_what_came_before_the_link_was_open_is_forgotten(pair: SerialPair, controller: serial.Serial) -> None:
    """A trigger from before a restart is not taken after it."""
    link = SerialLineLink(SerialLineConfig(kind="serial-line", device=pair.ports[0]))
    controller.write(b"T,2\n")
    wait_until(lambda: pair.waiting() == 4)
    link.open()
    controller.write(b"T,3\n")
    wait_until(lambda: decode_control(link.read_control() or ()).trigger_id != 0)
    assert decode_control(link.read_control() or ()).trigger_id == 3
    link.close()


def test_a_wire_that_takes_no_more_is_an_error() -> None:
    """Once a port is full because nobody takes from it, writing ends within the time-out with `LinkError`."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    link = SerialLineLink(SerialLineConfig(kind="serial-line", device=os.ttyname(slave), timeout_ms=100))
    link.open()
    try:
        with pytest.raises(LinkError, match="does the other side read"):
            _tell(link, range(1, 10_000))
    finally:
        os.close(master)
        os.close(slave)
        link.close()


def test_a_port_that_is_not_there_is_an_error() -> None:
    """A missing or useless device is a `LinkError` naming it, and so is writing into a closed link."""
    for device in ("/dev/no-such-port", "/dev/null"):
        link = SerialLineLink(SerialLineConfig(kind="serial-line", device=device))
        with pytest.raises(LinkError, match=device):
            link.open()
    with pytest.raises(LinkError, match="not open"):
        link.write_status(pattern(1))
    link.close()


def test_a_restarted_line_tells_no_old_result(pair: SerialPair, controller: serial.Serial) -> None:
    """A supervisor that starts while a result stands says nothing of it, and tells the next."""
    link = SerialLineLink(SerialLineConfig(kind="serial-line", device=pair.ports[0]))
    supervisor = LinkSupervisor(link, "text", lambda _words: None)
    supervisor.show(pattern(1), 1, None)
    supervisor.start()
    wait_until(lambda: supervisor.health.writes > 0)
    supervisor.show(pattern(2), 2, None)
    assert controller.readline().startswith(b"R,2,")
    supervisor.close()


def _tell(link: SerialLineLink, numbers: range) -> None:
    for seq in numbers:
        link.write_status(pattern(seq))


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_noise_on_the_wire_asks_for_nothing_it_should_not(parts: list[bytes]) -> None:
    """Whatever bytes come, in whatever pieces: no crash, no endless memory, at most the triggers it spells."""
    reader, pending = LineReader(), PendingControl()
    for part in parts:
        for line in reader.feed(part):
            try:
                took = take_line(line, pending)
            except LinkError:
                return
            assert not took or line[:1] in {b"T", b"A"}
    pending.take()


@given(st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_lines_may_come_in_any_pieces(size: int, number: int) -> None:
    """Where the wire cuts a line changes nothing, and a line that is too long spoils no other."""
    text = b"x" * 300 + b"\nT,%d\r\n" % number
    reader = LineReader()
    lines = [line for at in range(0, len(text), size) for line in reader.feed(text[at : at + size])]
    assert lines == [b"T,%d" % number]
