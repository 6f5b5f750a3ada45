"""Modbus TCP by hand: a client that shares no code with what it tests, and a PLC's memory to write into."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

READ, WRITE = 3, 16
_SAMPLE = struct.Struct(">Q32H")
_STATUS, _WORDS = 100, 200


class ModbusError(OSError):
    """The peer answered with something that is no answer."""


class Modbus:
    """A client. Any failure is an `OSError` and ends it.

    Args:
        port: on loopback.
        timeout_s: for connecting and for each answer.
    """

    def __init__(self, port: int, timeout_s: float = 0.5) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._number = 0

    def read(self, address: int, count: int) -> tuple[int, ...]:
        """Holding registers."""
        body = self._ask(struct.pack(">BHH", READ, address, count))
        if len(body) != 2 + 2 * count:
            raise ModbusError(f"got {body!r} for {count} registers")
        return struct.unpack(f">{count}H", body[2:])

    def write(self, address: int, words: Sequence[int]) -> None:
        """Holding registers, in one request."""
        count = len(words)
        self._ask(struct.pack(f">BHHB{count}H", WRITE, address, count, 2 * count, *words))

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _ask(self, request: bytes) -> bytes:
        self._number = (self._number + 1) & 0xFFFF
        self.socket.sendall(struct.pack(">HHHB", self._number, 0, len(request) + 1, 1) + request)
        number, _, length, _ = struct.unpack(">HHHB", receive(self.socket, 7))
        body = receive(self.socket, length - 1)
        if number != self._number or body[0] != request[0]:
            raise ModbusError(f"asked {request!r}, got {body!r}")
        return body


def receive(connection: socket.socket, size: int) -> bytes:
    """So many bytes, all of them."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ModbusError("the connection was closed")
        data += piece
    return data


class Memory:
    """A PLC that is a Modbus server: takes status blocks and notes when each came.

    Args:
        log: file that each block is added to: monotonic ns, then the 32 words.
    """

    def __init__(self, log: Path) -> None:
        self._words = [0] * _WORDS
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def serve(self, connection: socket.socket) -> None:
        """One client, until it hangs up."""
        with connection:
            try:
                while True:
                    number, _, length, unit = struct.unpack(">HHHB", receive(connection, 7))
                    reply = self._answer(receive(connection, length - 1))
                    head = struct.pack(">HHHB", number, 0, len(reply) + 1, unit)
                    connection.sendall(head + reply)
            except (OSError, struct.error):
                return  # it hung up

    def _answer(self, request: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", request[:5])
        if function == READ:
            return struct.pack(f">BB{count}H", READ, 2 * count, *self._words[address : address + count])
        self._words[address : address + count] = struct.unpack(f">{count}H", request[6:])
        if (address, count) == (_STATUS, 32):
            os.write(self._log, _SAMPLE.pack(time.monotonic_ns(), *self._words[_STATUS : _STATUS + 32]))
        return request[:5]


def babble(connection: socket.socket) -> None:
    """Whatever a client says, random bytes are the answer."""
    with connection, suppress(OSError):
        while connection.recv(4096):
            connection.sendall(os.urandom(24))


def samples(log: Path) -> Iterator[tuple[int, tuple[int, ...]]]:
    """What `Memory` noted: when, and the words."""
    data = log.read_bytes() if log.exists() else b""
    for number in range(len(data) // _SAMPLE.size):
        when_ns, *words = _SAMPLE.unpack_from(data, number * _SAMPLE.size)
        yield when_ns, tuple(words)


def main() -> None:
    """``python campaign_modbus.py PORT LOG [noise]``: such a PLC, or one that babbles, until killed."""
    serve = babble if "noise" in sys.argv[3:] else Memory(Path(sys.argv[2])).serve
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
