"""A verdict that a client first sees after the deadline is LATE and REJECT, whoever else has seen it in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from pymodbus.client import AsyncModbusTcpClient

from cada_edge.runtime.links.config import ModbusServerConfig, OpcUaServerConfig
from cada_edge.runtime.links.gate import ReaderGates, Shown
from cada_edge.runtime.links.modbus_server import ModbusServer
from cada_edge.runtime.links.server import answering, being_answered
from cada_edge.runtime.registers import HEARTBEAT, RESULT, ResultFlag, StatusBlock, decode, encode

_BASE, _DEADLINE = 100, 200
_LATE = ResultFlag.UNKNOWN | ResultFlag.REJECT | ResultFlag.LATE


class Station:
    """A station with a clock that the test sets."""

    def __init__(self) -> None:
        self.gates, self.now, self.until, self.block = ReaderGates(), 0, 0, StatusBlock()

    def passes(self) -> None:
        """One more part passes, with a deadline to come."""
        self.until = self.now + _DEADLINE
        self.block = replace(self.block, seq=self.block.seq + 1, result=ResultFlag.PASS, score=0.25)

    def wait(self) -> None:
        """Until after the deadline."""
        self.now = self.until + 1

    def show(self) -> StatusBlock:
        """The block for whoever is being answered."""
        shown = Shown(tuple(encode(self.block)), self.block.seq, self.until)
        return decode(self.gates.admit(shown, being_answered(), self.now))


def test_each_reader_has_a_deadline_of_its_own() -> None:
    """One that has seen PASS in time goes on seeing it; one that comes late, and nobody at all, gets LATE."""
    station, early, late = Station(), _Reader(), _Reader()
    station.passes()
    with answering(early, result=True):
        assert station.show().result == ResultFlag.PASS
    with answering(late, result=False):  # reads the heartbeat alone
        station.show()
    station.wait()
    with answering(early, result=True):
        assert station.show().result == ResultFlag.PASS
    with answering(late, result=True):
        assert station.show().result == _LATE
    assert station.show().result == _LATE


class _Reader:
    """A connection."""


@asynccontextmanager
async def _modbus(station: Station, clients: int) -> AsyncIterator[list[AsyncModbusTcpClient]]:
    server = ModbusServer(ModbusServerConfig(kind="modbus-server", port=0), station.show, lambda _words: None)
    port = await server.start()
    opened = [AsyncModbusTcpClient("127.0.0.1", port=port, timeout=10, retries=0) for _ in range(clients)]
    try:
        assert all([await client.connect() for client in opened])
        yield opened
    finally:
        for client in opened:
            client.close()
        await server.stop()


async def _word(client: AsyncModbusTcpClient, number: int, count: int = 1) -> int:
    return (await client.read_holding_registers(_BASE + number, count=count)).registers[0]


def test_another_modbus_client_does_not_stop_the_clock() -> None:
    """A display that reads in time gains the PLC nothing, nor does a PLC that looked at the heartbeat alone."""

    async def read() -> None:
        station = Station()
        async with _modbus(station, 2) as (display, plc):
            station.passes()
            assert await _word(display, RESULT) == ResultFlag.PASS
            await _word(plc, HEARTBEAT)
            await plc.write_registers(0, [0] * 16)
            station.wait()
            assert await _word(plc, RESULT) == _LATE
            assert await _word(display, RESULT) == ResultFlag.PASS
            station.passes()
            assert await _word(plc, RESULT) == ResultFlag.PASS
            station.wait()
            assert await _word(plc, RESULT) == ResultFlag.PASS

    asyncio.run(read())


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One loop for all, because an OPC UA server takes seconds to start."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[Station, Any, str]]:
    """A station, its OPC UA server and where it listens."""
    pytest.importorskip("asyncua", reason="asyncua is not installed")
    from cada_edge.runtime.links.opcua_server import OpcUaServer  # needs an extra

    station = Station()
    server = OpcUaServer(OpcUaServerConfig(kind="opcua-server", port=0), station.show, lambda _words: None)
    port = loop.run_until_complete(server.start())
    yield station, server, f"opc.tcp://127.0.0.1:{port}/cada-edge"
    loop.run_until_complete(server.stop())


def _client(url: str) -> Any:
    from asyncua import Client  # needs an extra

    return Client(url, timeout=10)


def _node(client: Any, name: str) -> Any:
    return client.get_node(f"ns=2;s=CadaEdge.Status.{name}")


async def _turned(server: Any) -> None:
    """The station's news has gone out."""
    server.refresh()
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_change_that_nobody_read_is_not_seen_in_time(
    loop: asyncio.AbstractEventLoop, served: tuple[Station, Any, str]
) -> None:
    """An OPC UA client that first reads after the deadline gets LATE, also where another has read in time."""
    station, server, url = served

    async def read() -> None:
        async with _client(url) as plc, _client(url) as display:
            station.passes()
            await _turned(server)
            assert await _node(display, "result").read_value() == ResultFlag.PASS
            await _node(plc, "heartbeat").read_value()
            station.wait()
            await _turned(server)
            assert await _node(plc, "result").read_value() == _LATE
            assert (await _node(plc, "words").read_value())[RESULT] == _LATE
            assert await _node(display, "result").read_value() == ResultFlag.PASS
            station.passes()
            await _turned(server)
            assert await _node(plc, "result").read_value() == ResultFlag.PASS
            station.wait()
            assert await _node(plc, "result").read_value() == ResultFlag.PASS

    loop.run_until_complete(read())


class _Ear:
    def __init__(self) -> None:
        self.heard: asyncio.Queue[int] = asyncio.Queue()

    def datachange_notification(self, _node: Any, value: int, _data: Any) -> None:
        """Called by asyncua."""
        self.heard.put_nowait(value)


def test_what_waits_for_a_subscriber_gets_late(
    loop: asyncio.AbstractEventLoop, served: tuple[Station, Any, str]
) -> None:
    """A PASS sent in time is a PASS; one that waits for the publishing interval beyond its deadline is LATE."""
    station, server, url = served

    async def listen() -> None:
        async with _client(url) as client:
            ear = _Ear()
            station.passes()
            subscription = await client.create_subscription(20, ear)
            await subscription.subscribe_data_change(_node(client, "result"), queuesize=10)
            assert await asyncio.wait_for(ear.heard.get(), 10) == ResultFlag.PASS
            station.wait()
            assert await _node(client, "result").read_value() == ResultFlag.PASS  # it has been told in time
            station.passes()
            await subscription.set_publishing_mode(False)
            await _turned(server)  # PASS after PASS is news
            station.wait()
            await subscription.set_publishing_mode(True)
            assert await asyncio.wait_for(ear.heard.get(), 10) == _LATE
            assert await _node(client, "result").read_value() == _LATE
            await subscription.delete()

    loop.run_until_complete(listen())


def test_a_late_subscription_begins_with_late(
    loop: asyncio.AbstractEventLoop, served: tuple[Station, Any, str]
) -> None:
    """The first value of a subscription is no PASS of long ago; and what was sent is not sent again."""
    station, _, url = served

    async def listen() -> None:
        async with _client(url) as client:
            ear = _Ear()
            station.passes()
            station.wait()
            subscription = await client.create_subscription(20, ear)
            await subscription.subscribe_data_change(_node(client, "result"))
            assert await asyncio.wait_for(ear.heard.get(), 10) == _LATE
            from asyncua.ua.uaerrors import BadMessageNotAvailable  # needs an extra

            with pytest.raises(BadMessageNotAvailable):
                await client.uaclient.session.republish(subscription.subscription_id, 1)
            await subscription.delete()

    loop.run_until_complete(listen())
