"""A simulated PLC that is an OPC UA server with the variables that a link of ours writes, by asyncua."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any
from urllib.parse import urlsplit

from asyncua import Server, ua
from asyncua.ua.uaerrors import UaError

from cada_edge.errors import ConfigError, LinkError
from cada_edge.runtime.control import decode_control
from cada_edge.runtime.links.config import OpcUaConfig
from cada_edge.runtime.links.opcua import CONTROL_FIELDS, TAIL_FIELD
from cada_edge.runtime.links.opcua_server import kind_of
from cada_edge.runtime.plc_sim.listen import must_be_free
from cada_edge.runtime.registers import (
    HEAD,
    TAIL,
    OfflineReason,
    ResultFlag,
    StatusBlock,
    StatusFlag,
    encode,
    field_names,
)

_START_S, _CALL_S = 30.0, 5.0
_UNDER_WAY_S = 3.0  # a link that writes in three requests has either written the last by then, or gone
_USUAL_PORT = 4840
_STATUS = (*field_names(), TAIL_FIELD)
_SORTS = (("flags", StatusFlag), ("offline", OfflineReason), ("result", ResultFlag))


class OpcUaMemory:
    """A variable for each field of both blocks, under the node ids of the link.

    It sets the variables of one request at once, and reads as a program must: while the number in front is not the
    one behind, a block is under way and there is nothing to see. One that stays so is handed on as torn.

    Args:
        config: of the link; `url` names where to listen.

    Raises:
        ConfigError: a node id that is none.
    """

    def __init__(self, config: OpcUaConfig) -> None:
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # a link that hangs up is not our news
        place = urlsplit(config.url)
        self._host, self._port = str(place.hostname), place.port or _USUAL_PORT
        self._url = config.url
        self._status = {name: _node_id(config.status_node, name) for name in _STATUS}
        self._control = {name: _node_id(config.control_node, name) for name in CONTROL_FIELDS}
        self._server: Server | None = None
        self._listening = False
        self._torn_s: float | None = None  # since when a block is under way
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="cada-edge-plc-sim", daemon=True).start()

    def open(self) -> None:
        """Listen; takes seconds the first time. Raises `LinkError` for an address that cannot be had."""
        must_be_free(self._host, self._port)
        try:
            self._wait(self._listen(), _START_S)
        except (UaError, OSError) as error:
            raise LinkError(f"cannot listen on {self._url}: {type(error).__name__}: {error}") from error

    def read(self) -> Sequence[int] | None:
        """The block that the variables hold; ``None`` before the first and while one is under way."""
        words: list[int] = self._wait(self._words())
        if words[HEAD] == words[TAIL]:
            self._torn_s = None
            return words if any(words) else None
        now_s = time.monotonic()
        self._torn_s = now_s if self._torn_s is None else self._torn_s
        if now_s - self._torn_s < _UNDER_WAY_S:
            return None
        self._torn_s = now_s  # told once for as long
        return words

    def write(self, words: Sequence[int]) -> None:
        """Set every control variable at once."""
        block = decode_control(words)
        values = {self._control[name]: _variant(name, getattr(block, name)) for name in CONTROL_FIELDS}
        self._wait(self._set(values))

    def close(self) -> None:
        """Hang up; the variables keep their values."""
        if self._listening:
            self._listening = False
            self._wait(self._hang_up())

    def _wait(self, job: Coroutine[Any, Any, Any], timeout_s: float = _CALL_S) -> Any:
        call = asyncio.run_coroutine_threadsafe(job, self._loop)
        try:
            return call.result(timeout_s)
        except concurrent.futures.TimeoutError as error:
            call.cancel()
            raise LinkError(f"{self._url}: nothing within {timeout_s:g} s; is this machine busy?") from error

    async def _listen(self) -> None:
        if self._server is None:
            server = await self._filled()
            await server.start()
            self._server = server
        elif self._server.bserver is not None:
            await self._server.bserver.start()
        self._listening = True

    async def _hang_up(self) -> None:
        if self._server is not None and self._server.bserver is not None:
            await self._server.bserver.stop()

    async def _filled(self) -> Server:
        server = Server()
        await server.init()
        server.iserver.allow_remote_admin = False  # or a client named admin would own the address space
        server.set_endpoint(self._url)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        await server.register_namespace("urn:cada-edge:plc-sim")
        for name, nodeid in self._status.items():
            node = await server.nodes.objects.add_variable(nodeid, f"Status.{name}", _variant(name, 0))
            await node.set_writable()
        for name, nodeid in self._control.items():
            await server.nodes.objects.add_variable(nodeid, f"Control.{name}", _variant(name, 0))
        return server

    async def _words(self) -> list[int]:
        """All fields as of one moment: nothing here gives way to the server."""
        assert self._server is not None  # `open` comes first
        values: dict[str, Any] = {
            name: self._server.read_attribute_value(nodeid).Value.Value  # type: ignore[union-attr]  # made with one
            for name, nodeid in self._status.items()
        }
        tail = values.pop(TAIL_FIELD)
        try:
            for name, sort in _SORTS:
                values[name] = sort(values[name])
            words = encode(StatusBlock(**values))
        except (ConfigError, ValueError, TypeError) as error:
            raise LinkError(f"{self._url}: the status variables hold no block: {error}; who writes them?") from error
        words[TAIL] = tail
        return words

    async def _set(self, values: dict[ua.NodeId, ua.Variant]) -> None:
        assert self._server is not None  # `open` comes first
        for nodeid, value in values.items():
            await self._server.write_attribute_value(nodeid, ua.DataValue(value))


def _node_id(template: str, name: str) -> ua.NodeId:
    """Raises `ConfigError` for one that is none."""
    text = template.replace("{field}", name)
    try:
        return ua.NodeId.from_string(text)
    except (UaError, ValueError) as error:
        raise ConfigError(
            f"plc-sim of opcua: got node id {text!r}, expected one such as ns=2;s=Name: {error}"
        ) from error


def _variant(name: str, value: float) -> ua.Variant:
    kind = kind_of(name)
    return ua.Variant(float(value) if kind is ua.VariantType.Float else int(value), kind)
