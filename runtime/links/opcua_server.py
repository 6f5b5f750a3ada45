"""An OPC UA server: a variable per field of the status block to read, one per field of the control block to write.

Variables, in the namespace ``urn:cada-edge``: ``CadaEdge.Status.<field>``, ``CadaEdge.Status.words`` (the whole block
as UInt16[32]), ``CadaEdge.Control.<field>``, and the latest result under names of OPC 40100-1:
``CadaEdge.Result.ResultId``, ``PartId``, ``ResultState``, ``IsSimulated``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.server.address_space import NodeData
from asyncua.ua.uaerrors import BadOutOfRange

from cada_edge.errors import ConfigError
from cada_edge.runtime.control import ControlBlock, ControlFlag, encode_control
from cada_edge.runtime.links.config import OpcUaServerConfig
from cada_edge.runtime.links.opcua import CONTROL_FIELDS, TAIL_FIELD
from cada_edge.runtime.links.opcua_sessions import Sessions, Variable
from cada_edge.runtime.links.opcua_trust import trusting
from cada_edge.runtime.links.server import OnControl, Reading, ShownBlock, being_answered, for_nobody
from cada_edge.runtime.registers import ResultFlag, StatusBlock, StatusFlag, encode, field_names

NAMESPACE = "urn:cada-edge"
APPLICATION = "urn:cada-edge:server"  # what a certificate must name
_LONG = {"trigger_id", "encoder", "total", "rejected", "unknown"}
_FLOAT = {"score", "threshold"}
_TELLS_RESULT = {"result", "words"}
_MOST_CLIENTS, _LARGEST_MESSAGE = 16, 1 << 20
_Read = Callable[[StatusBlock], Any]


class OpcUaServer:
    """Shows one station to OPC UA clients and takes their control block.

    The variables of one read request are of one block; so are `words`. What one write request sets is
    handed on together. A client may write the control variables alone, and not even these where the
    link may not drive the station.
    """

    def __init__(self, config: OpcUaServerConfig, block: ShownBlock, on_control: OnControl) -> None:
        self._config, self._block, self._on_control = config, block, on_control
        self._server: Server | None = None
        self._now: tuple[Reading, StatusBlock] | None = None
        self._variables: dict[ua.NodeId, Variable] = {}
        self._control = ControlBlock()
        self._changed = False
        self._notifying: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; the port it listens on. Takes seconds, mostly in a thread.

        Raises `OSError` for an address that cannot be had, `ConfigError` for a certificate or key that is none.
        """
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it logs what a client does wrong
        _try_address(self._config.host, self._config.port)
        server = Server(Sessions(self._block, self._variables))
        await server.init()
        await self._secure(server)
        await server.set_application_uri(APPLICATION)
        server.set_server_name("cada-edge")
        server.set_endpoint(f"opc.tcp://{self._config.host}:{self._config.port}/cada-edge")
        await self._fill(server)
        await server.start()
        self._server = server
        assert server.bserver is not None  # `start` made it
        return int(server.bserver.port)

    def refresh(self) -> None:
        """Tell subscribers what changed."""
        self._now = None
        if self._server is not None and self._notifying is None:
            # a read may be why something changed: the task must not take later news for that reader's answer
            self._notifying = for_nobody(partial(self._start_notifying, self._server))

    def _start_notifying(self, server: Server) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._notify(server))

    async def stop(self) -> None:
        """Hang up and listen no more. Safe to call twice."""
        server, self._server = self._server, None
        if self._notifying is not None:
            self._notifying.cancel()
        if server is not None:
            await server.stop()

    async def _secure(self, server: Server) -> None:
        iserver, config = server.iserver, self._config
        iserver.allow_remote_admin = False  # or a client named admin would own the address space
        iserver.max_connections = _MOST_CLIENTS
        iserver.max_session_timeout_ms = iserver.min_session_timeout_ms = config.session_timeout_ms
        server.limits = replace(server.limits, max_message_size=_LARGEST_MESSAGE)
        policies = [ua.SecurityPolicyType.NoSecurity]
        if config.certificate is not None and config.private_key is not None:
            try:
                await server.load_certificate(config.certificate, _format(config.certificate))
                await server.load_private_key(config.private_key, format=_format(config.private_key))
            except (OSError, ValueError, TypeError) as error:
                raise ConfigError(
                    f"opcua-server: cannot use {config.certificate}, {config.private_key}: {error}"
                ) from error
            policies = [
                ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
                ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
            ]
        if config.trusted is not None:
            server.set_certificate_validator(await trusting(config.trusted))
        server.set_security_policy(policies)

    async def _fill(self, server: Server) -> None:
        space = await server.register_namespace(NAMESPACE)
        status = [(name, kind_of(name), _field(name)) for name in field_names()]
        status += [(TAIL_FIELD, ua.VariantType.UInt16, _field("seq")), ("words", ua.VariantType.UInt16, encode)]
        root = await server.nodes.objects.add_object(_node_id(space, ""), f"{space}:CadaEdge")
        for group, variables in (("Status", status), ("Result", _RESULT)):
            folder = await root.add_object(_node_id(space, f".{group}"), f"{space}:{group}")
            for name, kind, read in variables:
                nodeid = _node_id(space, f".{group}.{name}")
                first = ua.Variant(read(StatusBlock()), kind)
                await folder.add_variable(nodeid, f"{space}:{name}", first)
                self._variables[nodeid] = Variable(read, kind, result=name in _TELLS_RESULT)
                server.set_attribute_value_callback(nodeid, self._read)
                server.set_attribute_value_setter(nodeid, _keep_callback)
        await self._fill_control(server, space, root)

    async def _fill_control(self, server: Server, space: int, root: Any) -> None:
        folder = await root.add_object(_node_id(space, ".Control"), f"{space}:Control")
        for name in CONTROL_FIELDS:
            nodeid, kind = _node_id(space, f".Control.{name}"), kind_of(name)
            node = await folder.add_variable(nodeid, f"{space}:{name}", ua.Variant(0, kind))
            if self._config.control:
                await node.set_writable()
            server.set_attribute_value_callback(nodeid, self._control_reader(name, kind))
            server.set_attribute_value_setter(nodeid, self._control_writer(name, kind))

    def _read(self, nodeid: ua.NodeId, _attribute: ua.AttributeIds) -> ua.DataValue:
        variable, reading = self._variables[nodeid], being_answered()
        if reading is None:  # the first value of a subscription
            return variable.to_tell(self._block())
        if self._now is None or self._now[0] != reading:
            self._now = reading, self._block()
            asyncio.get_running_loop().call_soon(self._forget)  # what is read in one go is of one block
        return variable.of(self._now[1])

    def _forget(self) -> None:
        self._now = None

    def _control_reader(self, name: str, kind: ua.VariantType) -> Callable[..., ua.DataValue]:
        return lambda _nodeid, _attribute: ua.DataValue(ua.Variant(int(getattr(self._control, name)), kind))

    def _control_writer(self, name: str, kind: ua.VariantType) -> Callable[..., None]:
        def write(_node: NodeData, _attribute: ua.AttributeIds, value: ua.DataValue) -> None:
            number = value.Value.Value if value.Value is not None and value.Value.VariantType == kind else None
            if type(number) is not int:
                raise BadOutOfRange
            change: dict[str, Any] = {name: ControlFlag(number & sum(ControlFlag)) if name == "flags" else number}
            self._control = replace(self._control, **change)
            if not self._changed:
                self._changed = True
                asyncio.get_running_loop().call_soon(self._hand_on)  # after the whole request

        return write

    def _hand_on(self) -> None:
        self._changed = False
        self._on_control(encode_control(self._control))

    async def _notify(self, server: Server) -> None:
        """Values for those who subscribed, shown to nobody until they are sent; `_read` stays what answers."""
        try:
            block = self._block()
            for nodeid, variable in self._variables.items():
                await server.write_attribute_value(nodeid, variable.to_tell(block))
        finally:
            self._notifying = None


def kind_of(name: str) -> ua.VariantType:
    """The type of a field's variable."""
    if name in _FLOAT:
        return ua.VariantType.Float
    return ua.VariantType.UInt32 if name in _LONG else ua.VariantType.UInt16


def result_state(block: StatusBlock) -> int:
    """OPC 40100-1's ResultState: 0 undefined, 1 completed, 2 processing, 4 failed."""
    if StatusFlag.BUSY in block.flags:
        return 2
    if StatusFlag.RESULTS_VALID not in block.flags:
        return 0
    return 4 if ResultFlag.UNKNOWN in block.result else 1


_RESULT: list[tuple[str, ua.VariantType, _Read]] = [
    ("ResultId", ua.VariantType.String, lambda block: str(block.seq)),
    ("PartId", ua.VariantType.String, lambda block: str(block.trigger_id)),
    ("ResultState", ua.VariantType.Int32, result_state),
    ("IsSimulated", ua.VariantType.Boolean, lambda block: ResultFlag.SIMULATED in block.result),
]


def _try_address(host: str, port: int) -> None:
    """Say what cannot be had before seconds are spent."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    socket.create_server((host, port), family=family).close()


def _format(path: Path) -> str:
    """What a certificate or key is written in; asyncua goes by the name's end."""
    return "pem" if path.read_bytes().lstrip().startswith(b"-----BEGIN") else "der"


def _field(name: str) -> _Read:
    return (lambda block: float(getattr(block, name))) if name in _FLOAT else (lambda block: int(getattr(block, name)))


def _node_id(space: int, name: str) -> ua.NodeId:
    return ua.NodeId.from_string(f"ns={space};s=CadaEdge{name}")


def _keep_callback(_node: NodeData, _attribute: ua.AttributeIds, _value: ua.DataValue) -> None:
    """Without a setter, a write would put the value in the callback's place."""
