"""The PLC process: stations, servers and links on an event loop of their own.

It distrusts its pipeline: whatever happens there, every trigger is answered by its deadline, and

* no sign of life for `stale_ms`: the heartbeat stops and the safe state shows;
* the pipe closes, or SIGTERM: the safe state shows for `linger_ms`, then the process ends.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cada_edge.errors import CadaEdgeError
from cada_edge.runtime.handshake import Life
from cada_edge.runtime.links.assembly import address_of, make_link, make_server
from cada_edge.runtime.links.config import AnyLink, ModbusServerConfig, OpcUaServerConfig
from cada_edge.runtime.links.server import Server
from cada_edge.runtime.links.supervisor import LinkState, LinkSupervisor
from cada_edge.runtime.outcome import Outcome
from cada_edge.runtime.plc.journal import Journal
from cada_edge.runtime.plc.outbox import Outbox
from cada_edge.runtime.plc.place import Place
from cada_edge.runtime.plc.urgency import take
from cada_edge.runtime.plc.wire import (
    MESSAGE_BYTES,
    Acquired,
    CommandEnded,
    Health,
    Listening,
    Packet,
    Refused,
    Setup,
    unpack,
)
from cada_edge.runtime.status import LinkStatus

_HEALTH_PERIOD_S = 0.25


class Host:
    """Everything one pipeline's PLCs see. For the loop it is made on.

    Args:
        setup: what to host.
        outbox: to the pipeline.
    """

    def __init__(self, setup: Setup, outbox: Outbox) -> None:
        self._setup, self._outbox = setup, outbox
        self._loop = asyncio.get_running_loop()
        self._places = {station.id: Place(station, outbox.put) for station in setup.stations}
        self._servers: list[Server] = []
        self._known: list[tuple[str, str, LinkSupervisor | None]] = []

    async def start(self) -> None:
        """Open every server, start every link, and tell the pipeline. Raises `_RefusedLinkError`."""
        ports: list[int | None] = []
        for number, config in enumerate(self._setup.links):
            place = self._places[config.station or next(iter(self._places))]
            try:
                ports.append(await self._open(config, place, number))
            except OSError as error:
                raise _RefusedLinkError(Refused(number, error.strerror or str(error), error.errno or 0)) from error
            except CadaEdgeError as error:
                raise _RefusedLinkError(Refused(number, str(error))) from error
        take(self._setup.priority)  # what came before is work for seconds; the threads that follow inherit it
        if self._setup.journal:
            self._outbox.journal = Journal(Path(self._setup.journal))
        for _, _, link in self._known:
            if link is not None:
                link.start()
        self._outbox.put(Listening(tuple(ports)))
        for place in self._places.values():
            place.tick()
        self._tell_health()

    def take(self, packet: Packet) -> None:
        """The pipeline said something."""
        message, place = packet.message, self._places[packet.station]
        if isinstance(message, Life):
            place.do(lambda station, now_ns: station.life(message, now_ns))
        elif isinstance(message, Acquired):
            place.do(lambda station, now_ns: station.acquired(message.part, now_ns))
        elif isinstance(message, Outcome):
            place.do(lambda station, now_ns: station.outcome(message, now_ns))
        elif isinstance(message, CommandEnded):
            place.do(lambda station, now_ns: station.command_ended(message.recipe, message.done, now_ns))

    async def stop(self) -> None:
        """Show the safe state for `linger_ms`, then let go of everything."""
        for place in self._places.values():
            place.do(lambda station, now_ns: station.stop(now_ns))
        closing = [asyncio.to_thread(link.close) for _, _, link in self._known if link is not None]
        await asyncio.gather(asyncio.sleep(self._setup.linger_ms / 1000), *closing)
        for place in self._places.values():
            place.close()
        for server in self._servers:
            await server.stop()
        if self._outbox.journal is not None:
            self._outbox.journal.close()

    async def _open(self, config: AnyLink, place: Place, number: int) -> int | None:
        if isinstance(config, ModbusServerConfig | OpcUaServerConfig):
            server = place.add_server(partial(make_server, config), config.control)
            self._servers.append(server)
            port = await server.start()
            self._known.append((config.kind, f"{config.host}:{port}", None))
            return port
        driver = place.driver(config.control)

        def on_control(words: Sequence[int]) -> None:
            self._loop.call_soon_threadsafe(driver, words)

        def on_blind() -> None:
            self._loop.call_soon_threadsafe(place.blind)

        name = f"{config.kind}-{number}"
        link = LinkSupervisor(make_link(config), name, on_control, config.poll_ms / 1000, on_blind=on_blind)
        place.add_link(link)
        self._known.append((config.kind, address_of(config), link))
        return None

    def _tell_health(self) -> None:
        stations = tuple(place.status() for place in self._places.values())
        tallies = {place.id: place.tally() for place in self._places.values()}
        self._outbox.offer(Health(stations, self._link_states(), tallies))
        self._loop.call_later(_HEALTH_PERIOD_S, self._tell_health)

    def _link_states(self) -> tuple[LinkStatus, ...]:
        return tuple(_link_status(kind, address, link) for kind, address, link in self._known)


def _link_status(kind: str, address: str, link: LinkSupervisor | None) -> LinkStatus:
    """Of a server, which listens for as long as the process lives, or of a link."""
    if link is None:
        return LinkStatus(kind, address, up=True)
    health = link.health
    up = health.state is LinkState.UP
    return LinkStatus(kind, address, up, "" if up else health.last_error, late=health.late)


class _RefusedLinkError(Exception):
    """A link cannot be had; told to the pipeline, which explains it."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.error)
        self.refused = refused


async def serve(pipe: socket.socket) -> int:
    """Host what the first message asks for until the pipe closes; the exit code."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    setup = unpack(await loop.sock_recv(pipe, MESSAGE_BYTES)).message
    assert isinstance(setup, Setup)  # our own client sends nothing else first
    outbox = Outbox(pipe)
    host = Host(setup, outbox)
    try:
        await host.start()
    except _RefusedLinkError as error:
        outbox.put(error.refused)
        await host.stop()
        return 1
    gc.collect()
    gc.freeze()  # what lives for good need not be looked at again while a PLC waits
    loop.add_reader(pipe, _drain, pipe, host, ended)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await host.stop()
    return 0


def _drain(pipe: socket.socket, host: Host, ended: asyncio.Event) -> None:
    """Take every message there is."""
    while True:
        try:
            data = pipe.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(pipe)
            ended.set()
            return
        host.take(unpack(data))


def main() -> int:
    """Entry of the process. Exit code 1: a link cannot be had (the pipe says why)."""
    parser = argparse.ArgumentParser(prog="cada-edge-plc")
    parser.add_argument("--fd", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the pipeline, which closes the pipe
    for library in ("pymodbus", "asyncua"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # a client's bad request is not our news
    pipe = socket.socket(fileno=arguments.fd)
    pipe.setblocking(False)
    return asyncio.run(serve(pipe))
