"""Malformed OPC UA at the server of a station that waits for a trigger, before and within a session.

What is spoilt are real messages of a client that reads, browses, subscribes, writes status variables and calls
methods. None of them names a variable of the control block, and its names are too far from those that stand
there for a few changed bytes to make one: a write that a PLC may make is left out by construction.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from asyncua import Client, ua
from fuzz_kit import Process, mutated
from plc_kit import Driver, Place, living, options

from cada_edge.runtime.handshake import Acquire
from cada_edge.runtime.links.config import ModbusServerConfig, OpcUaServerConfig
from cada_edge.runtime.links.opcua_server import NAMESPACE
from cada_edge.runtime.plc.client import PlcProcess
from cada_edge.runtime.plc.wire import Setup, StationSetup
from cada_edge.runtime.registers import HEARTBEAT

_WAIT_S, _ANSWER_S, _INPUTS_A_SESSION = 0.03, 0.15, 20
_STATUS = ("Status.seq", "Status.words", "Status.flags", "Result.ResultId")
_CONTROL = ("flags", "heartbeat", "trigger_id", "encoder", "recipe", "command")
_SIZE = slice(4, 8)  # of a message, in its head
_Result = TypeVar("_Result")


class Station(Place):
    """What Modbus and OPC UA show; Modbus makes it ready and sees what OPC UA did."""

    def __init__(self) -> None:
        links = ModbusServerConfig(kind="modbus-server", port=0), OpcUaServerConfig(kind="opcua-server", port=0)
        stations = (StationSetup("st1", options(mode="triggered"), sources=("cam1",)),)
        self.asked: list[Acquire] = []
        self.problems: list[str] = []
        self.process = PlcProcess(
            Setup(stations, links, 0),
            lambda _station, acquire: self.asked.append(acquire),
            lambda error: self.problems.append(str(error)),
        )

    @property
    def opcua_port(self) -> int:
        """Of the OPC UA server."""
        return int(getattr(self.process.links[1], "port", 0))


class _Tap:
    """Stands for a client's transport: sees, and may change, every message on its way out."""

    def __init__(self, transport: Any, change: Callable[[bytes], bytes]) -> None:
        self._transport, self._change = transport, change

    def write(self, data: bytes) -> None:
        self._transport.write(self._change(bytes(data)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OpcUaTarget:
    """The PLC process with an OPC UA server on a station that is ready; clients of ours run on a loop of their own."""

    def __init__(self, station: Station, loop: asyncio.AbstractEventLoop) -> None:
        self._station, self._loop, self._driver = station, loop, Driver(station.port)
        self._driver.ready()
        self._url = f"opc.tcp://127.0.0.1:{station.opcua_port}/cada-edge"
        self._client: Client | None = None
        self._left = 0
        self._run(self._record())
        self._pid = station.process._process.pid
        self._process, self._first = Process(self._pid), self._state()

    def one(self, chance: random.Random) -> str:
        """A spoilt conversation from the hello on, or a spoilt request of a client whose session is good."""
        return self._raw(chance) if chance.random() < 0.75 else self._run(self._in_session(chance))

    def audit(self) -> list[str]:
        """Status, control block, process, and what the pipeline was asked."""
        self._run(self._leave())
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
        self._run(self._leave())
        self._driver.close()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return self._loop.run_until_complete(work)

    def _state(self) -> tuple[list[int], list[int], list[object]]:
        """By a good client of each protocol: both go on being served."""
        words, control = self._driver.words(), self._driver.client.read_holding_registers(0, count=16)
        words[HEARTBEAT] = 0
        return words, list(control.registers), self._run(self._control())

    async def _control(self) -> list[object]:
        async with Client(self._url, timeout=10) as client:
            return list(await client.read_values([await _node(client, f"Control.{name}") for name in _CONTROL]))

    async def _record(self) -> None:
        """The messages of a good client, from its hello to its farewell."""
        seen: list[bytes] = []
        client = Client(self._url, timeout=10)
        await client.connect_socket()

        def note(data: bytes) -> bytes:
            seen.append(data)
            return data

        _tap(client, note)
        await client.send_hello()
        await client.open_secure_channel()
        await client.create_session()
        await client.activate_session()
        for ask in _REQUESTS:
            with suppress(ua.UaError):
                await ask(client)
        await client.close_session()
        await client.close_secure_channel()
        client.disconnect_socket()
        self._messages = seen

    def _raw(self, chance: random.Random) -> str:
        """A conversation as recorded up to some message, which is spoilt."""
        upto = chance.choice((0, 0, 1, 1, 2, 3, chance.randrange(len(self._messages))))
        data = chance.randbytes(chance.randint(1, 400)) if chance.random() < 0.1 else b""
        spoilt = data or _spoilt(chance, self._messages[upto])
        with socket.create_connection(("127.0.0.1", self._station.opcua_port), timeout=5) as line:
            line.settimeout(_WAIT_S)
            with suppress(ConnectionError):
                line.sendall(b"".join(self._messages[:upto]) + spoilt)
            return _met(line)

    async def _in_session(self, chance: random.Random) -> str:
        client = self._client or await self._connected()
        self._left -= 1
        protocol: Any = client.uaclient.protocol
        plain = protocol.transport
        _tap(client, lambda data: _spoilt(chance, data))
        met = "answered"
        try:
            await asyncio.wait_for(chance.choice(_REQUESTS)(client), _ANSWER_S)
        except (asyncio.TimeoutError, ConnectionError):
            met = "silence or closed"
        except Exception:  # noqa: BLE001  # our own client's, of an answer to what it did not ask
            met = "refused"
        if protocol.transport is None or met != "answered" or self._left <= 0:
            await self._leave()
        else:
            protocol.transport = plain
        return met

    async def _connected(self) -> Client:
        self._client, self._left = Client(self._url, timeout=10), _INPUTS_A_SESSION
        await self._client.connect()
        return self._client

    async def _leave(self) -> None:
        """Without a farewell: the channel may be spoilt."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect_socket()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def opcua_target() -> Iterator[OpcUaTarget]:
    """A station that is ready for a trigger, with a pipeline that lives."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it tells of each answer that it cannot read
    station, loop = Station(), asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # our client's own, of spoilt conversations
    try:
        with living(station):
            target = OpcUaTarget(station, loop)
            try:
                yield target
            finally:
                target.close()
    finally:
        loop.close()
        station.close()


async def _node(client: Client, name: str) -> Any:
    space = await client.get_namespace_index(NAMESPACE)
    return client.get_node(f"ns={space};s=CadaEdge.{name}")


async def _read(client: Client) -> None:
    await client.read_values([await _node(client, name) for name in _STATUS])


async def _browse(client: Client) -> None:
    await client.nodes.objects.get_children()


async def _write_status(client: Client) -> None:
    await (await _node(client, "Status.seq")).write_value(ua.Variant(7, ua.VariantType.UInt16))


async def _call(client: Client) -> None:
    await client.nodes.server.call_method("0:GetMonitoredItems", ua.Variant(1, ua.VariantType.UInt32))


async def _endpoints(client: Client) -> None:
    await client.get_endpoints()


_REQUESTS: tuple[Callable[[Client], Coroutine[Any, Any, None]], ...] = (
    _read,
    _browse,
    _write_status,
    _call,
    _endpoints,
)


def _tap(client: Client, change: Callable[[bytes], bytes]) -> None:
    protocol: Any = client.uaclient.protocol
    protocol.transport = _Tap(protocol.transport, change)


def _spoilt(chance: random.Random, message: bytes) -> bytes:
    """A message changed somewhere; half of the time with a size that fits, so that its body is read too."""
    changed = bytearray(mutated(chance, message))
    if chance.random() < 0.5 and len(changed) >= 8:
        changed[:4] = message[:4]
        changed[_SIZE] = struct.pack("<I", len(changed))
    elif chance.random() < 0.1 and len(changed) >= 8:
        changed[_SIZE] = struct.pack("<I", chance.choice((0, 7, 8, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20)))
    return bytes(changed)


def _met(line: socket.socket) -> str:
    last = b""
    try:
        while more := line.recv(1 << 16):
            last = more
    except TimeoutError:
        return "refused" if last[:3] == b"ERR" else "answered" if last else "silence"
    except ConnectionError:
        return "closed"
    return "refused" if last[:3] == b"ERR" else "closed"
