"""The pipeline's end of the PLC process: starts it, starts it anew when it dies, never waits for it."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cada_edge
from cada_edge.errors import LineError, LinkError
from cada_edge.runtime.handshake import Acquire, Published, Tally
from cada_edge.runtime.links.assembly import address_of
from cada_edge.runtime.links.config import AnyLink, ModbusServerConfig, OpcUaServerConfig
from cada_edge.runtime.plc.wire import (
    MESSAGE_BYTES,
    Health,
    Listening,
    Message,
    Packet,
    Refused,
    Setup,
    pack,
    unpack,
)

if TYPE_CHECKING:
    from typing_extensions import Self

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
OnAcquire = Callable[[str, Acquire], None]


class PlcProcess:
    """Stations and their links, in a process of their own. A context manager, or call `close`.

    A reader thread takes what the process says. A trigger is handed on at once, for a camera must
    not wait until the model has judged the part before; everything else waits for `packets`.

    Args:
        setup: what to host.
        on_acquire: called from the reader thread with a station's id and its trigger; must be quick.
        on_problem: called with what went wrong; from any thread; must be quick.

    Raises:
        LinkError: a link cannot be had, with what to do.
    """

    def __init__(self, setup: Setup, on_acquire: OnAcquire, on_problem: Callable[[Exception], None]) -> None:
        self._setup, self._on_acquire, self._on_problem = setup, on_acquire, on_problem
        self._packets: queue.SimpleQueue[Packet] = queue.SimpleQueue()
        self._health, self._closing = Health((), ()), threading.Event()
        self._up = False
        self._start()
        self._reader = threading.Thread(target=self._read, name="cada-edge-plc", daemon=True)
        self._reader.start()

    @property
    def links(self) -> tuple[AnyLink, ...]:
        """The links, each server with the port it listens on."""
        return self._setup.links

    @property
    def pid(self) -> int:
        """Of the process; of the last one while it is away."""
        return self._process.pid

    @property
    def health(self) -> Health:
        """What the process last said of its stations and links, also while it is away."""
        return self._health

    def alive(self) -> bool:
        """False from the death of the process until the next one listens."""
        return self._up

    def send(self, message: Message, station: str = "") -> None:
        """Tell the process. Never waits. Raises `LinkError` if it is gone or takes nothing."""
        if not self._up:  # a process that starts must hear its setup first
            raise _away("it is being started")
        try:
            self._pipe.send(pack(message, station), socket.MSG_DONTWAIT)
        except OSError as error:
            raise _away(error.strerror or str(error)) from error

    def packets(self) -> list[Packet]:
        """What it said since the last call, but for triggers and health."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._packets.get_nowait())
        return found

    def stop(self) -> None:
        """Show the safe state from now on. Safe to call twice."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._pipe.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Leave the safe state to be seen for `linger_ms`, then end the process. Safe to call twice."""
        self.stop()
        timeout_s = _STOP_TIMEOUT_S + self._setup.linger_ms / 1000
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout_s)
        self._pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        """A new process that listens, on the ports of the one before."""
        self._pipe, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = _spawn(theirs)
        try:
            ports = self._await_ports()
        except BaseException:
            self._pipe.close()
            self._process.kill()
            self._process.wait()
            raise
        links = tuple(_with_port(link, port) for link, port in zip(self._setup.links, ports, strict=True))
        self._setup = replace(self._setup, links=links)
        self._up = True

    def _await_ports(self) -> tuple[int | None, ...]:
        self._pipe.settimeout(_START_TIMEOUT_S)
        try:
            self._pipe.send(pack(self._setup))
            reply = self._pipe.recv(MESSAGE_BYTES)
        except TimeoutError as error:
            raise LinkError(f"the PLC process did not start within {_START_TIMEOUT_S:.0f} s; try again") from error
        except OSError as error:
            raise LinkError(f"the PLC process ended at start ({error.strerror})") from error
        self._pipe.setblocking(True)
        if not reply:
            raise LinkError(f"the PLC process ended at start with exit code {self._process.wait()}")
        answer = unpack(reply).message
        if isinstance(answer, Refused):
            raise LinkError(explain(self._setup.links[answer.link], answer))
        assert isinstance(answer, Listening)  # our own process says nothing else first
        return answer.ports

    def _read(self) -> None:
        """Take what the process says; when it died, start another."""
        while not self._closing.is_set():
            try:
                self._hear()
            except LineError as error:
                self._on_problem(error)
            if not self._closing.is_set():
                self._revive()

    def _hear(self) -> None:
        """Until the process is gone."""
        while data := self._receive():
            message, station = packet = unpack(data)
            if isinstance(message, Acquire):
                self._note({station: replace(self._tally(station), parts=message.part)})
                self._on_acquire(station, message)
            elif isinstance(message, Health):
                self._health = message
                self._note(message.tallies)
            else:
                if isinstance(message, Published):
                    self._note({station: message.tally})
                self._packets.put(packet)

    def _receive(self) -> bytes:
        try:
            return self._pipe.recv(MESSAGE_BYTES)
        except OSError:
            return b""

    def _tally(self, station: str) -> Tally:
        return next(one.tally for one in self._setup.stations if one.id == station)

    def _note(self, tallies: Mapping[str, Tally]) -> None:
        """Where the next process goes on counting, by station."""
        stations = tuple(replace(one, tally=tallies.get(one.id, one.tally)) for one in self._setup.stations)
        self._setup = replace(self._setup, stations=stations)

    def _revive(self) -> None:
        self._up, pause_s = False, _FIRST_PAUSE_S
        self._pipe.close()
        self._process.kill()
        self._note({one.id: one.tally.one_on() for one in self._setup.stations})
        self._on_problem(LinkError(f"the PLC process ended (exit code {self._process.wait()}); it is started anew"))
        while not self._closing.wait(pause_s) and not self._started():
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _started(self) -> bool:
        try:
            self._start()
        except (LineError, OSError) as error:  # OSError: no memory or no handle left for a process, say
            self._on_problem(error)
        return self._up


def explain(link: AnyLink, refused: Refused) -> str:
    """Why a link cannot be had and what to do."""
    advice = {
        errno.EADDRINUSE: "another program listens there; stop it or set another port",
        errno.EACCES: "ports below 1024 need a privilege; set port to 1502, say, or grant CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "this machine has no such address; set host to one of its own",
    }.get(refused.errno, "check its section of line.yaml")
    if not refused.errno:
        return f"link {link.kind}: {refused.error}"
    return f"link {link.kind} cannot listen on {address_of(link)}: {refused.error}; {advice}"


def _away(why: str) -> LinkError:
    return LinkError(
        f"the PLC process takes no messages ({why}): PLCs see a stopped heartbeat or no connection until it is back"
    )


def _with_port(link: AnyLink, port: int | None) -> AnyLink:
    return link.model_copy(update={"port": port}) if isinstance(link, ModbusServerConfig | OpcUaServerConfig) else link


def _spawn(theirs: socket.socket) -> subprocess.Popen[bytes]:
    root = str(Path(cada_edge.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "cada_edge.runtime.plc", "--fd", str(theirs.fileno())]
    return subprocess.Popen(  # noqa: S603  # our own module, our own arguments, no shell
        command, pass_fds=[theirs.fileno()], env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL
    )
