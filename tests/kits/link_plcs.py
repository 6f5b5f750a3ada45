"""The PLCs that links are held to: one per protocol, and one per other implementation of it."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import pytest
from link_kit import Plc, free_port, node_plc, python_plc
from wire_kit import SerialPair, TcpWire

from cada_edge.runtime.links.config import (
    AdsConfig,
    LogixConfig,
    ModbusRtuConfig,
    ModbusTcpConfig,
    OpcUaConfig,
    S7Config,
    WriterConfig,
)

_HOST, _TIMEOUT_MS = "127.0.0.1", 400
_ADS_PORT = 48898
Make = Callable[[ExitStack], Plc]
Wire = SerialPair | TcpWire


def modbus_tcp(_stack: ExitStack) -> Plc:
    """By pymodbus."""
    config = ModbusTcpConfig(kind="modbus-tcp", host=_HOST, port=free_port(), timeout_ms=_TIMEOUT_MS)
    return python_plc(config, f"{_HOST}:{config.port}")


def modbus_tcp_node(stack: ExitStack) -> Plc:
    """By npm's modbus-serial."""
    config = ModbusTcpConfig(kind="modbus-tcp", host=_HOST, port=free_port(), timeout_ms=_TIMEOUT_MS)
    return node_plc(stack, config, "modbus_plc.js", "modbus-serial", f"{_HOST}:{config.port}")


def modbus_rtu(stack: ExitStack) -> Plc:
    """By pymodbus, over a pair of pseudo terminals."""
    pair = SerialPair()
    stack.callback(pair.close)
    config = ModbusRtuConfig(kind="modbus-rtu", device=pair.ports[0], parity="N", timeout_ms=_TIMEOUT_MS)
    plc = python_plc(config, pair.ports[1])
    plc.wire = pair
    return plc


def s7(_stack: ExitStack) -> Plc:
    """By python-snap7."""
    config = S7Config(kind="s7", host=_HOST, port=free_port(), db=7, timeout_ms=_TIMEOUT_MS)
    return python_plc(config, f"{_HOST}:{config.port}")


def s7_node(stack: ExitStack) -> Plc:
    """By npm's node-snap7, which is the original C library."""
    config = S7Config(kind="s7", host=_HOST, port=free_port(), db=7, timeout_ms=_TIMEOUT_MS)
    return node_plc(stack, config, "s7_plc.js", "node-snap7", f"{_HOST}:{config.port}")


def opcua(_stack: ExitStack) -> Plc:
    """By asyncua."""
    place = f"{_HOST}:{free_port()}"
    config = OpcUaConfig(kind="opcua", url=f"opc.tcp://{place}/plc", timeout_ms=_TIMEOUT_MS)
    return python_plc(config, place)


def opcua_node(stack: ExitStack) -> Plc:
    """By npm's node-opcua-server."""
    place = f"{_HOST}:{free_port()}"
    config = OpcUaConfig(
        kind="opcua",
        url=f"opc.tcp://{place}/plc",
        status_node="ns=1;s=CadaEdge.Status.{field}",
        control_node="ns=1;s=CadaEdge.Control.{field}",
        timeout_ms=_TIMEOUT_MS,
    )
    return node_plc(stack, config, "opcua_plc.js", "node-opcua-server", place)


def logix(_stack: ExitStack) -> Plc:
    """By cpppo, which is another implementation than the client's."""
    pytest.importorskip("cpppo", reason="the simulated controller cpppo is not installed")
    config = LogixConfig(kind="logix", host=_HOST, port=free_port(), timeout_ms=_TIMEOUT_MS)
    return python_plc(config, f"{_HOST}:{config.port}")


def ads(_stack: ExitStack) -> Plc:
    """By pyads' test server, at an address of its own: the port cannot be chosen."""
    pytest.importorskip("pyads", reason="pyads is not installed")
    config = AdsConfig(kind="ads", host=free_ads_host(), net_id="10.1.2.3.1.1", timeout_ms=_TIMEOUT_MS)
    return python_plc(config, config.host)


PLCS = [
    pytest.param(modbus_tcp, id="modbus-tcp"),
    pytest.param(modbus_tcp_node, id="modbus-tcp-node", marks=pytest.mark.peer),
    pytest.param(modbus_rtu, id="modbus-rtu"),
    pytest.param(s7, id="s7"),
    pytest.param(s7_node, id="s7-node", marks=pytest.mark.peer),
    pytest.param(opcua, id="opcua"),
    pytest.param(opcua_node, id="opcua-node", marks=pytest.mark.peer),
    pytest.param(logix, id="logix"),
    pytest.param(ads, id="ads"),
]


@contextmanager
def wired(plc: Plc) -> Iterator[tuple[Wire, WriterConfig]]:
    """A wire that can be spoiled before a PLC, and how to reach the PLC over it."""
    if isinstance(plc.wire, SerialPair):
        try:
            yield plc.wire, plc.config
        finally:
            plc.wire.spoil, plc.wire.drip_s = None, 0.0
        return
    wire, config = _tcp(plc.config)
    try:
        yield wire, config
    finally:
        wire.close()


def _tcp(config: WriterConfig) -> tuple[TcpWire, WriterConfig]:
    if isinstance(config, OpcUaConfig):
        place = urlsplit(config.url)
        wire = TcpWire(str(place.hostname), int(place.port or 0))
        return wire, config.model_copy(update={"url": f"opc.tcp://{_HOST}:{wire.port}{place.path}"})
    if isinstance(config, AdsConfig):
        host = free_ads_host()
        return TcpWire(config.host, _ADS_PORT, (host, _ADS_PORT)), config.model_copy(update={"host": host})
    assert isinstance(config, LogixConfig | ModbusTcpConfig | S7Config)
    wire = TcpWire(config.host, config.port)
    return wire, config.model_copy(update={"port": wire.port})


def free_ads_host() -> str:
    """A loopback address where nobody listens on the port of ADS."""
    while True:
        host = f"127.{random.randrange(10, 250)}.{random.randrange(250)}.{random.randrange(1, 250)}"
        with contextlib.suppress(OSError), socket.create_server((host, _ADS_PORT)):
            return host
