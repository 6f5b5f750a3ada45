"""From a `WriterConfig` to a link that a supervisor can open."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from cada_edge.errors import MissingDependencyError
from cada_edge.runtime.links.config import (
    AdsConfig,
    AnyLink,
    DigitalConfig,
    ModbusRtuConfig,
    ModbusServerConfig,
    OpcUaConfig,
    OpcUaServerConfig,
    SerialLineConfig,
    WriterConfig,
)
from cada_edge.runtime.links.link import Link
from cada_edge.runtime.links.server import OnControl, Server, ShownBlock

# kind -> module and class of ours, package it needs, extra that brings it
_KINDS = {
    "modbus-server": ("modbus_server", "ModbusServer", "pymodbus", "runtime"),
    "opcua-server": ("opcua_server", "OpcUaServer", "asyncua", "opcua"),
    "modbus-tcp": ("modbus_tcp", "ModbusTcpLink", "pymodbus", "runtime"),
    "modbus-rtu": ("modbus_rtu", "ModbusRtuLink", "serial", "serial"),
    "s7": ("s7", "S7Link", "snap7", "s7"),
    "logix": ("logix", "LogixLink", "pylogix", "logix"),
    "opcua": ("opcua", "OpcUaLink", "asyncua", "opcua"),
    "ads": ("ads", "AdsLink", "pyads", "ads"),
    "serial-line": ("serial_line", "SerialLineLink", "serial", "serial"),
    "digital": ("digital", "DigitalLink", "", ""),  # see below
}
# driver of single wires -> package it needs, extra that brings it
DRIVERS = {"gpiod": ("gpiod", "gpio"), "jetson": ("Jetson", "jetson")}


def make_link(config: WriterConfig) -> Link:
    """The link that `config` describes, not opened yet.

    Raises `MissingDependencyError` naming the package, the link and the extra.
    """
    module, name, package, extra = _KINDS[config.kind]
    if isinstance(config, DigitalConfig):
        package, extra = DRIVERS[config.driver]
    need(package, extra, config.kind)
    link: Link = getattr(import_module(f"cada_edge.runtime.links.{module}"), name)(config)
    return link


def make_server(config: ModbusServerConfig | OpcUaServerConfig, block: ShownBlock, on_control: OnControl) -> Server:
    """The server that `config` describes, not started yet.

    Raises `MissingDependencyError` naming the package, the link and the extra.
    """
    module, name, package, extra = _KINDS[config.kind]
    need(package, extra, config.kind)
    server: Server = getattr(import_module(f"cada_edge.runtime.links.{module}"), name)(config, block, on_control)
    return server


def address_of(config: AnyLink) -> str:
    """Where the PLC of a link is, or where a server of ours listens, for people."""
    if isinstance(config, SerialLineConfig | ModbusRtuConfig):
        return config.device
    if isinstance(config, DigitalConfig):
        return config.chip
    if isinstance(config, AdsConfig):
        return f"{config.host} ({config.net_id}:{config.ams_port})"
    return config.url if isinstance(config, OpcUaConfig) else f"{config.host}:{config.port}"


def need(package: str, extra: str, kind: str) -> None:
    """Raise `MissingDependencyError` unless `package` is installed."""
    if find_spec(package) is None:
        raise MissingDependencyError(
            f"the package {package}, which a link of kind {kind} needs, is not installed; "
            f"run: pip install 'cada-edge[{extra}]'"
        )
