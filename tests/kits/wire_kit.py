"""Wires between a link and its PLC that can be made to stall, garble and drip."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import random
import select
import socket
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable

Spoil = Callable[[bytes], bytes]


def stall(_data: bytes) -> bytes:
    """Nothing comes through."""
    return b""


def garble(chance: random.Random) -> Spoil:
    """One byte in six of an answer is another one, and now and then it ends early or goes on."""

    def spoil(data: bytes) -> bytes:
        noisy = bytes(chance.randrange(256) if chance.random() < 1 / 6 else byte for byte in data)
        return chance.choice((noisy, noisy[: len(noisy) // 2], noisy + chance.randbytes(300)))

    return spoil


class SerialPair:
    """Two pseudo terminals with a wire between them; the link has the first port, the PLC the second.

    `spoil` changes what the PLC says; `drip_s` is the pause after each of its bytes.
    """

    def __init__(self) -> None:
        pairs = [pty.openpty() for _ in range(2)]
        for _, slave in pairs:
            tty.setraw(slave)
        for master, _ in pairs:
            os.set_blocking(master, False)  # what nobody reads is lost, as on a wire
        self.spoil: Spoil | None = None
        self.drip_s = 0.0
        self.ports = [os.ttyname(slave) for _, slave in pairs]
        self._masters = [master for master, _ in pairs]
        self._slaves = [slave for _, slave in pairs]  # kept open: the pair outlives those who use it
        self._stop_r, self._stop_w = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def waiting(self) -> int:
        """Bytes that lie unread in the link's port."""
        return int.from_bytes(fcntl.ioctl(self._slaves[0], termios.FIONREAD, bytes(4)), sys.byteorder)

    def close(self) -> None:
        """Cut the wire."""
        os.write(self._stop_w, b"x")
        self._thread.join()
        for fd in (*self._masters, *self._slaves, self._stop_r, self._stop_w):
            os.close(fd)

    def _carry(self) -> None:
        link, plc = self._masters
        while True:
            ready = select.select([link, plc, self._stop_r], [], [])[0]
            if self._stop_r in ready:
                return
            if link in ready:
                _put(plc, os.read(link, 4096))
            if plc in ready:
                _deliver(lambda part: _put(link, part), os.read(plc, 4096), self)


class TcpWire:
    """A proxy in front of a TCP server; `spoil` and `drip_s` as `SerialPair` has them."""

    def __init__(self, host: str, port: int, at: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.spoil: Spoil | None = None
        self.drip_s = 0.0
        self._peer, self._closing = (host, port), False
        self._listener = socket.create_server(at)
        self.port = int(self._listener.getsockname()[1])
        self._listener.settimeout(0.1)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Cut every connection."""
        self._closing = True
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing:
            with contextlib.suppress(OSError):
                near, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._carry, args=(near,), daemon=True))
                self._threads[-1].start()

    def _carry(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError), socket.create_connection(self._peer) as far:
            while not self._closing:
                ready = select.select([near, far], [], [], 0.1)[0]
                for side in ready:
                    if not (data := side.recv(65536)):
                        return
                    if side is near:
                        far.sendall(data)
                    else:
                        _deliver(near.sendall, data, self)


def _put(fd: int, data: bytes) -> None:
    with contextlib.suppress(BlockingIOError):
        os.write(fd, data)


def _deliver(send: Callable[[bytes], object], data: bytes, wire: SerialPair | TcpWire) -> None:
    data = wire.spoil(data) if wire.spoil else data
    if not wire.drip_s:
        send(data)
        return
    for at in range(len(data)):
        send(data[at : at + 1])
        time.sleep(wire.drip_s)
        if not wire.drip_s:  # mended meanwhile: what is late is lost
            return
