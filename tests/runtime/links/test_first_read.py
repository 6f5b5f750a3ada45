"""A verdict that a client first sees after the deadline is LATE and REJECT, whoever else has seen it in time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymodbus.client import AsyncModbusTcpClient

from cada_edge.runtime.handshake import Life, StationOptions
from cada_edge.runtime.links import modbus_server
from cada_edge.runtime.links.config import ModbusServerConfig, OpcUaServerConfig
from cada_edge.runtime.links.gate import ReaderGates, Shown
from cada_edge.runtime.links.modbus_server import ModbusServer
from cada_edge.runtime.links.server import Reading, answering, being_answered
from cada_edge.runtime.plc.place import Place
from cada_edge.runtime.plc.wire import StationSetup
from cada_edge.runtime.registers import HEARTBEAT, RESULT, ResultFlag, StatusBlock, decode, encode

_BASE, _DEADLINE = 100, 200
_LATE = ResultFlag.UNKNOWN | ResultFlag.REJECT | ResultFlag.LATE


class Station:
    """A station with a clock that the test sets."""

    def __init__(self) -> None:
        self.gates, self.now, self.until, self.block = ReaderGates(), 0, 0, StatusBlock()
        self.passed = asyncio.Event()  # an answer told a PASS

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
        reading = being_answered()
        block = decode(self.gates.admit(shown, reading, self.now))
        if reading is not None and reading.result and block.result == ResultFlag.PASS:
            self.passed.set()
        return block


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


def test_an_answer_counts_for_the_results_it_tells() -> None:
    """A reader that is told of an earlier result alone has not seen the newest."""
    station, reader = Station(), _Reader()
    station.passes()
    with answering(reader, result=True, seqs=frozenset({station.block.seq - 1})):
        assert station.show().result == ResultFlag.PASS
    station.wait()
    with answering(reader, result=True, seqs=frozenset({station.block.seq})):
        assert station.show().result == _LATE


class _Watch:
    """A server that looks at whom the news is for."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Reading | None] = asyncio.Queue()

    async def start(self) -> int:
        """Not at all."""
        return 0

    def refresh(self) -> None:
        """News."""
        self.told.put_nowait(being_answered())

    async def stop(self) -> None:
        """Not at all."""


def test_what_a_read_sets_off_answers_nobody() -> None:
    """The timer that a read sets belongs to no reader, nor does what it tells in a later turn."""

    async def look() -> None:
        place, watch, faces = (
            Place(StationSetup("s", StationOptions(mode="free-run")), lambda *_: None),
            _Watch(),
            list[Any](),
        )
        place.add_server(lambda face, _control: faces.append(face) or watch, control=False)  # type: ignore[func-returns-value]
        try:
            place.do(lambda station, now_ns: station.life(Life(now_ns), now_ns))  # the heart beats
            with answering(_Reader(), result=True):
                faces[0]()
            for _ in range(3):
                assert await asyncio.wait_for(watch.told.get(), 10) is None
        finally:
            place.close()

    asyncio.run(look())


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


def test_a_modbus_connection_that_cannot_be_told_has_seen_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pymodbus does not tell whose request it is, each counts as a first one."""
    monkeypatch.delattr(modbus_server._Handler, "handle_request")

    async def read() -> None:
        station = Station()
        async with _modbus(station, 1) as (plc,):
            station.passes()
            assert await _word(plc, RESULT) == ResultFlag.PASS
            station.wait()
            assert await _word(plc, RESULT) == _LATE

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


def test_what_waits_is_late_unless_it_is_looked_at_again() -> None:
    """Should asyncua find another way to a client, it tells no PASS there; what it compares with is as decided."""
    pytest.importorskip("asyncua", reason="asyncua is not installed")
    from copy import deepcopy  # beside what needs an extra

    from asyncua import ua

    from cada_edge.runtime.links.opcua_sessions import Variable

    variable = Variable(lambda block: int(block.result), ua.VariantType.UInt16)
    passed, failed = (
        variable.to_tell(StatusBlock(result=result)).Value for result in (ResultFlag.PASS, ResultFlag.FAIL)
    )
    assert passed is not None
    assert passed.Value == _LATE
    assert passed != failed
    assert passed == deepcopy(passed)
    assert deepcopy(passed).Value == ResultFlag.PASS


def test_a_deadband_goes_by_what_was_decided(loop: asyncio.AbstractEventLoop, served: tuple[Station, Any, str]) -> None:
    """A client that wants to hear of larger changes alone hears of them."""
    station, server, url = served

    async def listen() -> None:
        async with _client(url) as client:
            ear = _Ear()
            station.passes()
            subscription = await client.create_subscription(20, ear)
            await subscription.deadband_monitor(_node(client, "score"), 0.1)
            assert await asyncio.wait_for(ear.heard.get(), 10) == 0.25
            station.passes()
            station.block = replace(station.block, score=0.75)
            await _turned(server)
            assert await asyncio.wait_for(ear.heard.get(), 10) == 0.75
            await subscription.delete()

    loop.run_until_complete(listen())


def test_news_that_a_read_set_off_is_for_nobody(
    loop: asyncio.AbstractEventLoop, served: tuple[Station, Any, str]
) -> None:
    """A result that comes before they are told does not count as seen by the reader whose read set them off."""
    station, server, _ = served

    async def read() -> None:
        reader = _Reader()
        with answering(reader, result=True):
            server.refresh()
        station.passes()
        for _ in range(3):
            await asyncio.sleep(0)
        station.wait()
        with answering(reader, result=True):
            assert station.show().result == _LATE

    loop.run_until_complete(read())


class _Cable:
    """The way to a server, which can be cut and which can lose what comes back."""

    def __init__(self, port: int) -> None:
        self._port, self._ends = port, list[asyncio.StreamWriter]()
        self.loses = False

    async def forward(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        """One connection, as long as it lasts."""
        far, to_far = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends += to_near, to_far
        await asyncio.gather(self._pump(near, to_far), self._pump(far, to_near, back=True))

    async def _pump(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, back: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                if not (back and self.loses):
                    to.write(data)
        to.close()

    def cut(self) -> None:
        """Connections made from now on are whole."""
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()
        self.loses = False


@asynccontextmanager
async def _through_cable(url: str) -> AsyncIterator[tuple[_Cable, Any]]:
    """A client that comes back with its session, and goes on with the subscriptions that this has."""
    from asyncua import Client  # needs an extra

    class Returning(Client):
        async def _recreate_subscriptions(self) -> None:
            """They are still there."""

    cable = _Cable(urlsplit(url).port or 0)
    relay = await asyncio.start_server(cable.forward, "127.0.0.1", 0)
    port = relay.sockets[0].getsockname()[1]
    client = Returning(f"opc.tcp://127.0.0.1:{port}/cada-edge", timeout=10, auto_reconnect=True)
    try:
        async with client:
            yield cable, client
    finally:
        relay.close()
        cable.cut()


async def _comes_back(client: Any) -> None:
    """The first answer that a client gets on another connection; asyncua raises much while there is none."""

    async def ask() -> None:
        while True:
            with contextlib.suppress(Exception):
                await _node(client, "heartbeat").read_value()
                return
            await asyncio.sleep(0.05)

    await asyncio.wait_for(ask(), 30)


def test_an_answer_that_was_lost_does_not_count(
    loop: asyncio.AbstractEventLoop, served: tuple[Station, Any, str]
) -> None:
    """A session that comes back on another connection has not seen what the first one lost."""
    station, _, url = served

    async def read() -> None:
        async with _through_cable(url) as (cable, plc):
            subscription = await plc.create_subscription(1000, _Ear())
            session = plc.uaclient.session.authentication_token
            station.passes()
            station.passed.clear()
            cable.loses = True
            answer = asyncio.ensure_future(_node(plc, "result").read_value())
            await asyncio.wait_for(station.passed.wait(), 10)
            station.wait()
            cable.cut()
            assert isinstance((await asyncio.gather(answer, return_exceptions=True))[0], Exception)
            await _comes_back(plc)
            assert plc.uaclient.session.authentication_token == session
            assert await _node(plc, "result").read_value() == _LATE
            await subscription.delete()

    loop.run_until_complete(read())


def test_what_waits_for_a_session_that_comes_back_gets_late(
    loop: asyncio.AbstractEventLoop, served: tuple[Station, Any, str]
) -> None:
    """On another connection, too, a PASS sent in time is a PASS, and one that waited too long is LATE."""
    station, server, url = served

    async def listen() -> None:
        async with _through_cable(url) as (cable, plc):
            ear = _Ear()
            station.passes()
            subscription = await plc.create_subscription(20, ear)
            await subscription.subscribe_data_change(_node(plc, "result"), queuesize=10)
            assert await asyncio.wait_for(ear.heard.get(), 10) == ResultFlag.PASS
            await subscription.set_publishing_mode(False)
            station.passes()
            await _turned(server)
            cable.cut()
            station.wait()
            await _comes_back(plc)
            await subscription.set_publishing_mode(True)
            assert await asyncio.wait_for(ear.heard.get(), 10) == _LATE
            station.passes()
            await _turned(server)
            assert await asyncio.wait_for(ear.heard.get(), 10) == ResultFlag.PASS
            await subscription.delete()

    loop.run_until_complete(listen())


def test_an_activation_that_fails_leaves_nothing_unseen(
    loop: asyncio.AbstractEventLoop, served: tuple[Station, Any, str]
) -> None:
    """asyncua hands subscriptions to a new connection before it asks who is there: they are looked at all the same."""
    station, server, _ = served
    from asyncua import ua  # needs an extra
    from asyncua.common.utils import ServiceError

    async def fail() -> None:
        sent: list[ua.PublishResult] = []

        async def publish(result: ua.PublishResult, *_request: Any) -> None:
            sent.append(result)

        session = server._server.iserver.create_session("one that comes back")
        made = await session.create_subscription(ua.CreateSubscriptionParameters(), publish)
        subscription = session.subscription_service.subscriptions[made.SubscriptionId]
        subscription.pub_result_callback = publish  # as asyncua does
        with pytest.raises(ServiceError):
            session.activate_session(ua.ActivateSessionParameters(UserIdentityToken=ua.IssuedIdentityToken()), None)
        variable = next(one for one in server._variables.values() if one.result)
        station.passes()
        item = ua.MonitoredItemNotification(Value=variable.to_tell(station.block))
        message = ua.NotificationMessage(NotificationData=[ua.DataChangeNotification(MonitoredItems=[item])])
        await subscription.pub_result_callback(ua.PublishResult(NotificationMessage=message))
        assert sent
        assert item.Value == variable.of(station.block)
        await session.delete_subscriptions([made.SubscriptionId])

    loop.run_until_complete(fail())
