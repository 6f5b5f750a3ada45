"""How the simulated PLC reaches a station: as a client of its server, or as the memory it writes into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from cada_edge.errors import ConfigError
from cada_edge.runtime.links.assembly import need
from cada_edge.runtime.links.config import (
    ModbusRtuConfig,
    ModbusServerConfig,
    ModbusTcpConfig,
    OpcUaServerConfig,
    S7Config,
    SerialLineConfig,
)
from cada_edge.strict_yaml import validated

# kind of the link -> its section, module and class of the wire, package it needs, extra that brings it
KINDS = {
    "modbus-server": (ModbusServerConfig, "wire_modbus", "ModbusClient", "pymodbus", "runtime"),
    "modbus-tcp": (ModbusTcpConfig, "wire_modbus", "ModbusMemory", "pymodbus", "runtime"),
    "modbus-rtu": (ModbusRtuConfig, "wire_modbus", "ModbusMemory", "serial", "serial"),
    "opcua-server": (OpcUaServerConfig, "wire_opcua", "OpcUaClient", "asyncua", "opcua"),
    "s7": (S7Config, "wire_s7", "S7Memory", "snap7", "s7"),
    "serial-line": (SerialLineConfig, "wire_serial", "SerialController", "serial", "serial"),
}
Config = ModbusServerConfig | ModbusTcpConfig | ModbusRtuConfig | OpcUaServerConfig | S7Config | SerialLineConfig


class Wire(Protocol):
    """Both blocks, from the PLC's side. For one thread; every call blocks for seconds at most."""

    def open(self) -> None:
        """Connect, or listen. Raises `LinkError`."""

    def read(self) -> Sequence[int] | None:
        """The 32 words as they stand; ``None`` before there are any. Raises `LinkError`."""

    def write(self, words: Sequence[int]) -> None:
        """Write the 16 words of the control block. Raises `LinkError`."""

    def close(self) -> None:
        """Disconnect, without a goodbye. Safe to call twice, and before `open`."""


def config_of(kind: str, place: str, settings: Mapping[str, object]) -> Config:
    """The section of ``line.yaml`` of such a link: `place` is its host or device.

    Raises `ConfigError` naming every setting that this kind has not, lacks or refuses.
    """
    model: Any = KINDS[kind][0]
    for name in settings.keys() - model.model_fields.keys():
        raise ConfigError(f"--{name.replace('_', '-')}: a link of kind {kind} has no such setting; leave it out")
    where = "device" if "device" in model.model_fields else "host"
    config: Config = validated(model, {"kind": kind, where: place, **settings}, f"plc-sim of {kind}")
    return config


def make_wire(config: Config) -> Wire:
    """The PLC's end of the link that `config` describes, not opened yet.

    Raises `MissingDependencyError` naming the package, the link and the extra.
    """
    _, module, name, package, extra = KINDS[config.kind]
    need(package, extra, config.kind)
    wire: Wire = getattr(import_module(f"cada_edge.runtime.plc_sim.{module}"), name)(config)
    return wire
