"""A PLC that is an OPC UA server with a variable per field, by asyncua."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Coroutine, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from asyncua import Client, Node, ua
from asyncua.ua.uaerrors import UaError

from cada_edge.errors import ConfigError, LinkError
from cada_edge.runtime.control import ControlBlock, ControlFlag, encode_control
from cada_edge.runtime.links.config import OpcUaConfig
from cada_edge.runtime.registers import decode, field_names

TAIL_FIELD = "seq_tail"
CONTROL_FIELDS = tuple(field.name for field in fields(ControlBlock))
_FLOATS = (ua.VariantType.Float, ua.VariantType.Double)
_BITS = {
    ua.VariantType.Int16: 16,
    ua.VariantType.UInt16: 16,
    ua.VariantType.Int32: 32,
    ua.VariantType.UInt32: 32,
    ua.VariantType.Int64: 64,
    ua.VariantType.UInt64: 64,
}
_SIGNED = (ua.VariantType.Int16, ua.VariantType.Int32, ua.VariantType.Int64)
_SHORTEST_SESSION_MS = 5000  # asyncua asks for an hour, for which a broken session would be one of the PLC's few
_HANDSHAKE_REQUESTS = 6  # hello, channel, session, activation, namespaces or types
# What asyncua raises, or trips over, at garbage: it asserts that an answer is of the kind it asked for.
_BROKEN = (UaError, OSError, ValueError, TypeError, LookupError, AttributeError, AssertionError, struct.error)
_Result = TypeVar("_Result")


class OpcUaLink:
    """Writer mode into variables: `seq`, then all fields, then `seq_tail`, each a request of its own.

    A server need not write the variables of a request at once, so that a program that sees the new
    number in front and the old one behind knows that something is under way. Without a new number one
    request does. Its event loop runs only while a call does, so that everything stays in the caller's thread.
    """

    def __init__(self, config: OpcUaConfig) -> None:
        self._config, self._timeout_s = config, config.timeout_ms / 1000
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._status: dict[str, tuple[Node, ua.VariantType]] = {}
        self._control: list[Node] = []
        self._seq: int | None = None  # as the PLC has it; None: unknown
        self._silent = False  # a peer that did not answer is not bidden farewell

    def open(self) -> None:
        """Connect, and read the type of every variable. Raises `LinkError`."""
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # each failure is raised; once is enough
        self._loop, self._seq, self._silent = asyncio.new_event_loop(), None, False
        self._run("connect", self._connect(), self._timeout_s * _HANDSHAKE_REQUESTS)

    def write_status(self, words: Sequence[int]) -> None:
        """Write every field; see the class for the order. Raises `LinkError`."""
        self._run("write", self._write(words), self._timeout_s)

    def read_control(self) -> Sequence[int] | None:
        """The 16 words, or ``None`` where this link may not drive the station. Raises `LinkError`."""
        if not self._config.control:
            return None
        values = self._run("read", self._read(), self._timeout_s)
        try:
            numbers = dict(zip(CONTROL_FIELDS, (_whole(value) for value in values), strict=True))
            flags = ControlFlag(numbers.pop("flags") & sum(ControlFlag))
            return encode_control(ControlBlock(flags=flags, **numbers))
        except (ConfigError, TypeError, ValueError) as error:
            raise LinkError(f"opcua {self._config.url}: control variables hold {values}: {error}") from error

    def close(self) -> None:
        """Disconnect."""
        client, loop = self._client, self._loop
        self._client = self._loop = None
        if loop is None:
            return
        if client is not None and not self._silent:
            loop.run_until_complete(_leave(client, self._timeout_s))
        elif client is not None:
            client.disconnect_socket()
        loop.run_until_complete(_cancel_all())
        loop.close()

    async def _connect(self) -> None:
        config = self._config
        client = self._client = Client(config.url, timeout=self._timeout_s)
        client.session_timeout = max(_SHORTEST_SESSION_MS, 3 * config.timeout_ms)
        await client.connect()
        names = (*field_names(), TAIL_FIELD)
        nodes = [client.get_node(config.status_node.replace("{field}", name)) for name in names]
        types = await client.read_attributes(nodes, ua.AttributeIds.DataType)
        self._status = {
            name: (node, _variant_type(name, node, found))
            for name, node, found in zip(names, nodes, types, strict=True)
        }
        if config.control:
            self._control = [client.get_node(config.control_node.replace("{field}", name)) for name in CONTROL_FIELDS]

    async def _write(self, words: Sequence[int]) -> None:
        block = decode(words)
        values = {name: getattr(block, name) for name in field_names()}
        if block.seq == self._seq:
            await self._put(values)
            return
        self._seq = None
        await self._put({"seq": block.seq})
        await self._put(values)
        await self._put({TAIL_FIELD: block.seq})
        self._seq = block.seq

    async def _read(self) -> list[object]:
        found = await self._opened().read_attributes(self._control)
        for node, value in zip(self._control, found, strict=True):
            if value.Value is None or (value.StatusCode is not None and not value.StatusCode.is_good()):
                raise ValueError(f"{node.nodeid.to_string()} is {value.StatusCode}")
        return [value.Value.Value for value in found if value.Value is not None]

    async def _put(self, values: dict[str, float]) -> None:
        """One request. Without times, which many PLCs refuse."""
        nodes = [self._status[name][0] for name in values]
        data = [ua.DataValue(_variant(value, self._status[name][1])) for name, value in values.items()]
        results = await self._opened().write_values(nodes, data)
        if len(results) != len(nodes):
            raise ValueError(f"wrote {len(nodes)} variables, got {len(results)} results")

    def _opened(self) -> Client:
        if self._client is None:
            raise LinkError(f"opcua {self._config.url}: not open")
        return self._client

    def _run(self, what: str, call: Coroutine[Any, Any, _Result], timeout_s: float) -> _Result:
        """Run one call to its end, within the time-out."""
        loop = self._loop
        if loop is None:
            call.close()
            raise LinkError(f"opcua {self._config.url}: not open")
        try:
            return loop.run_until_complete(asyncio.wait_for(call, timeout_s))
        except asyncio.TimeoutError as error:
            self._silent = True
            raise LinkError(f"opcua {self._config.url}: {what}: no answer within {timeout_s:g} s") from error
        except _BROKEN as error:
            raise LinkError(
                f"opcua {self._config.url}: {what}: {type(error).__name__}: {error}; is the server up, do the nodes "
                "exist, and may anybody write them?"
            ) from error


def _variant_type(name: str, node: Node, found: ua.DataValue) -> ua.VariantType:
    """The type that a variable takes. Raises `LinkError` for one that holds no number."""
    identifier = found.Value.Value if found.Value is not None else None
    number = identifier.Identifier if isinstance(identifier, ua.NodeId) and identifier.NamespaceIndex == 0 else None
    for kind in (*_BITS, *_FLOATS):
        if number == kind.value:
            return kind
    raise LinkError(f"opcua: node {node.nodeid.to_string()} for {name} is of type {identifier}, expected a number")


def _variant(value: float, kind: ua.VariantType) -> ua.Variant:
    """A number as that type: bits beyond a signed type's range become its sign."""
    if kind in _FLOATS:
        return ua.Variant(float(value), kind)
    bits = _BITS[kind]
    whole = int(value) & ((1 << bits) - 1)
    return ua.Variant(whole - (1 << bits) if kind in _SIGNED and whole >> (bits - 1) else whole, kind)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"got {value!r}, expected a whole number")
    return value


async def _leave(client: Client, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(client.disconnect(), timeout_s)
    except (UaError, OSError, asyncio.TimeoutError):
        client.disconnect_socket()  # it does not say goodbye either


async def _cancel_all() -> None:
    """End what the client left running in this loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
