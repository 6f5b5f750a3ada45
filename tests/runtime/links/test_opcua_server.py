"""The OPC UA server on its own loop, with real clients: reads are whole, writes reach control alone."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from link_kit import pattern

pytest.importorskip("asyncua", reason="asyncua is not installed")
from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.uaerrors import UaError

from cada_edge.errors import ConfigError
from cada_edge.runtime.control import ControlFlag, decode_control
from cada_edge.runtime.links.config import OpcUaServerConfig
from cada_edge.runtime.links.opcua import CONTROL_FIELDS
from cada_edge.runtime.links.opcua_server import APPLICATION, OpcUaServer
from cada_edge.runtime.registers import StatusBlock, decode, field_names

_NODE = "ns=2;s=CadaEdge.{}"


Test = Callable[["Station", OpcUaServer, Client], Awaitable[None]]
Run = Callable[[Test], None]


class Station:
    """A block to show, and what came in."""

    def __init__(self) -> None:
        self.block, self.came, self.reads = decode(pattern(7)), list[tuple[int, ...]](), 0

    def show(self) -> StatusBlock:
        """A new number at each look, as a station that never rests."""
        self.reads += 1
        seq = self.reads
        self.block = replace(self.block, seq=seq, trigger_id=seq, total=seq)
        return self.block

    def take(self, words: Any) -> None:
        """A control block came."""
        self.came.append(tuple(words))


@asynccontextmanager
async def _served(station: Station, **settings: Any) -> AsyncIterator[tuple[OpcUaServer, str]]:
    config = OpcUaServerConfig(**{"kind": "opcua-server", "port": 0, "session_timeout_ms": 5000, **settings})
    server = OpcUaServer(config, station.show, station.take)
    port = await server.start()
    try:
        yield server, f"opc.tcp://127.0.0.1:{port}/cada-edge"
    finally:
        await server.stop()
        await server.stop()


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One loop for all, because a server takes seconds to start."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[Station, OpcUaServer, str]]:
    """A station, its server and where it listens."""
    station = Station()
    context = _served(station)
    server, url = loop.run_until_complete(context.__aenter__())
    yield station, server, url
    loop.run_until_complete(context.__aexit__(None, None, None))


@pytest.fixture
def run(loop: asyncio.AbstractEventLoop, served: tuple[Station, OpcUaServer, str]) -> Run:
    """Runs a test of the shared server as its client."""
    station, server, url = served
    station.came.clear()

    async def with_client(test: Test) -> None:
        async with Client(url, timeout=10) as client:
            await test(station, server, client)

    return lambda test: loop.run_until_complete(with_client(test))


def _status(client: Client, name: str) -> Any:
    return client.get_node(_NODE.format(f"Status.{name}"))


def _control(client: Client, name: str) -> Any:
    return client.get_node(_NODE.format(f"Control.{name}"))


def test_one_read_request_is_of_one_block(run: Run) -> None:
    """Every field is a variable, and what one request reads belongs together though the block changes all the time."""

    async def read(_station: Station, _server: OpcUaServer, client: Client) -> None:
        names = (*field_names(), "seq_tail", "words")
        for _ in range(20):
            values = dict(zip(names, await client.read_values([_status(client, n) for n in names]), strict=True))
            assert values["seq"] == values["seq_tail"] == values["trigger_id"] == values["total"]
            block = decode(values["words"])
            assert {name: values[name] for name in field_names()} == {n: getattr(block, n) for n in field_names()}

    run(read)


def test_results_have_the_names_of_the_standard(run: Run) -> None:
    """ResultId, PartId, ResultState and IsSimulated tell of the same result."""

    async def read(_station: Station, _server: OpcUaServer, client: Client) -> None:
        names = ("ResultId", "PartId", "ResultState", "IsSimulated")
        result = await client.read_values([client.get_node(_NODE.format(f"Result.{name}")) for name in names])
        assert result[0] == result[1]
        assert result[2:] == [1, False]

    run(read)


def test_a_write_of_all_control_fields_arrives_as_one_block(run: Run) -> None:
    """Trigger and its number come together, whatever the order of the variables in the request."""

    async def write(station: Station, _server: OpcUaServer, client: Client) -> None:
        values = {"flags": 2, "heartbeat": 9, "trigger_id": 0xFFFF_FFFE, "encoder": 70_000, "recipe": 3, "command": 1}
        kinds = {
            name: ua.VariantType.UInt32 if name in {"trigger_id", "encoder"} else ua.VariantType.UInt16
            for name in values
        }
        await client.write_values(
            [_control(client, name) for name in values],
            [ua.DataValue(ua.Variant(value, kinds[name])) for name, value in values.items()],
        )
        assert len(station.came) == 1
        control = decode_control(station.came[0])
        assert control.flags == ControlFlag.TRIGGER
        assert [getattr(control, name) for name in CONTROL_FIELDS] == list(values.values())
        assert await client.read_values([_control(client, name) for name in values]) == list(values.values())

    run(write)


@pytest.mark.parametrize("user", [None, "admin", "Admin"])
def test_a_hostile_client_changes_nothing(
    user: str | None, loop: asyncio.AbstractEventLoop, served: tuple[Station, OpcUaServer, str]
) -> None:
    """Status variables, other attributes, wrong types, new nodes and deleted ones are refused, to "admin" too."""
    station, _, url = served
    station.came.clear()

    async def attack() -> None:
        client = Client(url, timeout=10)
        if user:
            client.set_user(user)
            client.set_password("x")
        async with client:
            for attempt in _attempts(client):
                try:
                    outcome = await attempt()
                except (UaError, ConnectionError):
                    continue
                assert not _succeeded(outcome)
            assert await _status(client, "result").read_value() == 1
        assert station.came == []

    loop.run_until_complete(attack())


def _attempts(client: Client) -> list[Callable[[], Awaitable[Any]]]:
    flags, result = _control(client, "flags"), _status(client, "result")
    return [
        lambda: result.write_value(ua.Variant(1, ua.VariantType.UInt16)),
        lambda: _status(client, "words").write_value(ua.Variant([1] * 32, ua.VariantType.UInt16)),
        result.set_writable,
        lambda: flags.write_value(ua.Variant("x", ua.VariantType.String)),
        lambda: flags.write_value(ua.Variant([1, 2], ua.VariantType.UInt16)),
        lambda: flags.write_value(ua.Variant(None, ua.VariantType.Null)),
        lambda: client.nodes.objects.add_object("ns=2;s=mine", "2:mine"),
        lambda: client.delete_nodes([result]),
    ]


def test_without_control_nothing_can_be_written() -> None:
    """`control: false` refuses the trigger."""

    async def write() -> None:
        station = Station()
        async with _served(station, control=False) as (_, url), Client(url, timeout=10) as client:
            with pytest.raises(UaError):
                await _control(client, "flags").write_value(ua.Variant(2, ua.VariantType.UInt16))
        assert station.came == []

    asyncio.run(write())


def test_subscribers_are_told(run: Run) -> None:
    """A client that subscribed sees the next number after `refresh`, and reads stay live."""

    class Ear:
        def __init__(self) -> None:
            self.heard: asyncio.Queue[int] = asyncio.Queue()

        def datachange_notification(self, _node: Any, value: int, _data: Any) -> None:
            self.heard.put_nowait(value)

    async def listen(station: Station, server: OpcUaServer, client: Client) -> None:
        ear = Ear()
        subscription = await client.create_subscription(50, ear)
        await subscription.subscribe_data_change(_status(client, "seq"))
        first = await asyncio.wait_for(ear.heard.get(), 10)
        server.refresh()
        assert await asyncio.wait_for(ear.heard.get(), 10) > first
        before = station.reads
        assert await _status(client, "seq").read_value() > before
        await subscription.delete()

    run(listen)


def test_garbage_harms_nobody(run: Run, served: tuple[Station, OpcUaServer, str]) -> None:
    """Clients that send nonsense, huge lengths or half messages change nothing and leave the others served."""
    port = int(served[2].split(":")[2].split("/")[0])
    chance = random.Random(3)
    hello = b"HELF" + (32 + 10).to_bytes(4, "little") + bytes(20) + (10).to_bytes(4, "little") + b"opc.tcp://"

    async def send(station: Station, _server: OpcUaServer, client: Client) -> None:
        for _ in range(60):
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            huge = chance.choice((b"OPNF", b"MSGC", b"CLOF")) + b"\xff\xff\xff\x7f" + chance.randbytes(60)
            writer.write(chance.choice((chance.randbytes(200), huge, hello + chance.randbytes(100), hello[:9])))
            await writer.drain()
            writer.close()
        assert await _status(client, "result").read_value() == 1
        assert station.came == []

    run(send)


def test_an_address_in_use_is_an_error() -> None:
    """A port that another has is an `OSError` at the start."""

    async def start() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
            async with _served(Station(), port=other.getsockname()[1]):
                pass

    asyncio.run(start())


def test_a_certificate_closes_the_door_to_plain_clients(tmp_path: Path) -> None:
    """With a certificate only signed and encrypted sessions are taken; a file that is none names itself."""
    certificate, key = _self_signed(tmp_path, "line")

    async def connect() -> None:
        keys = {"certificate": certificate, "private_key": key}
        async with _served(Station(), **keys) as (_, url):
            plain = Client(url, timeout=10)
            with pytest.raises((UaError, ConnectionError)):
                await plain.connect()
            async with await _secured(url, certificate, key) as client:
                assert await _status(client, "result").read_value() == 1
        key.write_text("no key")
        with pytest.raises(ConfigError, match=key.name):
            async with _served(Station(), **keys):
                pass

    asyncio.run(connect())


def test_only_trusted_clients_are_taken(tmp_path: Path) -> None:
    """With a folder of certificates a client whose own is not there is refused; an empty folder names itself."""
    certificate, key = _self_signed(tmp_path, "line")
    known, stranger = _self_signed(tmp_path, "known"), _self_signed(tmp_path, "stranger")
    trusted = tmp_path / "trusted"
    trusted.mkdir()

    async def connect() -> None:
        keys = {"certificate": certificate, "private_key": key, "trusted": trusted}
        with pytest.raises(ConfigError, match="trusted"):
            async with _served(Station(), **keys):
                pass
        (trusted / "plc.pem").write_bytes(known[0].read_bytes())
        async with _served(Station(), **keys) as (_, url):
            refused = await _secured(url, *stranger)
            with pytest.raises((UaError, ConnectionError)):
                await refused.connect()
            async with await _secured(url, *known) as client:
                assert await _status(client, "result").read_value() == 1
        (trusted / "broken.pem").write_text("no certificate")
        with pytest.raises(ConfigError, match="trusted"):
            async with _served(Station(), **keys):
                pass

    asyncio.run(connect())


async def _secured(url: str, certificate: Path, key: Path) -> Client:
    client = Client(url, timeout=10)
    await client.set_security(SecurityPolicyBasic256Sha256, certificate, key)
    return client


def _succeeded(outcome: Any) -> bool:
    results = outcome if isinstance(outcome, list) else [outcome]
    return any(not isinstance(result, ua.StatusCode) or result.is_good() for result in results)


def _self_signed(folder: Path, called: str) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, called)])
    now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)  # as x509 wants it
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(APPLICATION)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now)
    certificate = builder.not_valid_after(now + dt.timedelta(days=1)).add_extension(names, critical=False)
    pem = serialization.Encoding.PEM
    (folder / f"{called}.pem").write_bytes(certificate.sign(key, hashes.SHA256()).public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{called}-key.pem").write_bytes(private)
    return folder / f"{called}.pem", folder / f"{called}-key.pem"
