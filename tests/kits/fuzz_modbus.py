"""Malformed Modbus TCP at a station that waits for a trigger: any write that gets through would start a part.

Left out by construction is what a PLC may do: an input in which, at any offset, a whole and consistent
write request lies within the control block is drawn again (`legitimate`).
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fuzz_kit import Process, mutated
from plc_kit import Driver, Place, living, options, place

from cada_edge.runtime.control import CONTROL_WORDS
from cada_edge.runtime.registers import HEARTBEAT

STATUS, CONTROL = 100, 0
_WAIT_S = 0.02
_SINGLE, _MANY, _MASK, _BOTH = 6, 16, 22, 23


def legitimate(data: bytes) -> bool:
    """Whether a well-formed write within the control block lies anywhere in these bytes."""
    return any(_is_write(data[at:]) for at in range(len(data) - 9))


def _is_write(data: bytes) -> bool:
    """Whether a frame begins here that the specification lets write the control block and nothing else."""
    protocol, length = struct.unpack_from(">HH", data, 2)
    pdu = data[7 : 6 + length]
    if protocol or length < 3 or len(pdu) != length - 1 or len(pdu) < 5:
        return False
    if pdu[0] in (_SINGLE, _MASK):
        return len(pdu) == (5 if pdu[0] == _SINGLE else 7) and _within(int.from_bytes(pdu[1:3], "big"), 1)
    at = {_MANY: 1, _BOTH: 5}.get(pdu[0])
    if at is None or len(pdu) < at + 5:
        return False
    address, count, size = struct.unpack_from(">HHB", pdu, at)
    return size == 2 * count and len(pdu) == at + 5 + size and _within(address, count)


def _within(address: int, count: int) -> bool:
    return count > 0 and address >= CONTROL and address + count <= CONTROL + CONTROL_WORDS


class ModbusTarget:
    """The PLC process with a triggered station that is ready."""

    def __init__(self, station: Place) -> None:
        self._station, self._driver = station, Driver(station.port)
        self._driver.ready()
        self._pid = station.process._process.pid
        self._process, self._first = Process(self._pid), self._state()

    def one(self, chance: random.Random) -> str:
        """One connection with one to three frames, at least one of them malformed; how the server took it."""
        while legitimate(data := malformed(chance)):
            pass
        with socket.create_connection(("127.0.0.1", self._station.port), timeout=5) as line:
            line.settimeout(_WAIT_S)
            with suppress(ConnectionError):
                for part in _pieces(chance, data):
                    line.sendall(part)
            return _reply(line)

    def audit(self) -> list[str]:
        """The status block but for the heartbeat, the control block, and what the pipeline was asked."""
        found = self._process.grown()
        if self._station.process._process.pid != self._pid:
            found.append(f"the PLC process was started anew: {self._station.problems}")
        if (now := self._state()) != self._first:
            found.append(f"state was {self._first}, is {now}")
        if self._station.asked or self._station.published():
            found.append(f"the pipeline was asked: {self._station.asked}")
        return found

    def close(self) -> None:
        """Hang up."""
        self._driver.close()

    def _state(self) -> tuple[list[int], list[int]]:
        """Through a good client: its requests go on being served."""
        words, control = self._driver.words(STATUS), self._driver.client.read_holding_registers(CONTROL, count=16)
        words[HEARTBEAT] = 0
        return words, list(control.registers)


@contextmanager
def modbus_target() -> Iterator[ModbusTarget]:
    """A station that is ready for a trigger, with a pipeline that lives."""
    with place(options(mode="triggered")) as station, living(station):
        target = ModbusTarget(station)
        try:
            yield target
        finally:
            target.close()


def malformed(chance: random.Random) -> bytes:
    """Frames, of which at least one breaks the specification or asks for what there is not."""
    frames = [frame(chance, spoil=number == 0) for number in range(chance.choice((1, 1, 2, 3)))]
    chance.shuffle(frames)
    return b"".join(frames)


def frame(chance: random.Random, *, spoil: bool) -> bytes:
    """One frame: well-formed reads, or something broken at the level of bytes, header or request."""
    if not spoil:
        return _framed(chance, struct.pack(">BHH", 3, STATUS, 32))
    body = request(chance)
    match chance.randrange(5):
        case 0:
            return chance.randbytes(chance.randint(1, 300))
        case 1:
            return mutated(chance, _framed(chance, body))
        case 2:
            length = chance.choice((0, 1, 2, 255, 256, 260, 0x7FFF, 0xFFFF, len(body), len(body) + 2))
            return struct.pack(">HHHB", chance.randrange(1 << 16), chance.choice((0, 0, 1, 0xFFFF)), length, 1) + body
        case 3:
            return _framed(chance, mutated(chance, body) or b"\x03")
        case _:
            return _framed(chance, body)


def request(chance: random.Random) -> bytes:
    """A request that no PLC should make: of other functions, beyond the blocks, with counts that lie."""
    address = chance.choice(
        (0, 1, 5, 15, 16, 84, 99, 100, 101, 131, 132, 255, 0x7FFF, 0xFFFF, chance.randrange(1 << 16))
    )
    count = chance.choice((0, 1, 2, 16, 17, 32, 33, 123, 124, 125, 126, 2000, 2001, 0xFFFF))
    values = chance.randbytes(chance.choice((0, 1, 2, 3, 2 * min(count, 123), 250)))
    size = chance.choice((len(values), len(values) & 0xFF, 0, 1, 255)) & 0xFF
    diagnosis = chance.choice((0, 1, 2, 3, 4, 10, 11, 18, 20, 21, chance.randrange(1 << 16)))
    kinds = (
        struct.pack(">BHH", chance.choice((1, 2, 3, 4)), address, count),
        struct.pack(">BHH", chance.choice((5, 6)), address, chance.choice((0, 1, 0xFF00, 0x00FF, 0xFFFF))),
        struct.pack(">BHHB", chance.choice((15, 16)), address, count, size) + values,
        struct.pack(">BHHH", _MASK, address, 0, 0xFFFF),
        struct.pack(">BHHHHB", _BOTH, STATUS, 32, address, count, size) + values,
        bytes([43, chance.choice((13, 14, 0))]) + chance.randbytes(2),
        struct.pack(">BH", 8, diagnosis) + chance.randbytes(chance.randrange(8)),
        chance.randbytes(chance.randint(1, 260)),
    )
    return chance.choice(kinds)


def _framed(chance: random.Random, body: bytes) -> bytes:
    return struct.pack(">HHHB", chance.randrange(1 << 16), 0, len(body) + 1, chance.choice((0, 1, 1, 247, 255))) + body


def _pieces(chance: random.Random, data: bytes) -> list[bytes]:
    """In one piece, or cut where it hurts."""
    cut = chance.randrange(len(data) + 1) if chance.random() < 0.2 else 0
    return [piece for piece in (data[:cut], data[cut:]) if piece]


def _reply(line: socket.socket) -> str:
    try:
        answer = line.recv(4096)
    except TimeoutError:
        return "silence"
    except ConnectionError:
        return "closed"
    if not answer:
        return "closed"
    return "refused" if len(answer) > 7 and answer[7] & 0x80 else "answered"
