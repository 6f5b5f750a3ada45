"""How the simulated PLC reaches a station: as a client of its server, or as the memory it writes into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from cada_edge.errors import ConfigError
from cada_edge.runtime.links.assembly import DRIVERS, need
from cada_edge.runtime.links.config import (
    AdsConfig,
    DigitalConfig,
    LogixConfig,
    ModbusRtuConfig,
    ModbusServerConfig,
    ModbusTcpConfig,
    OpcUaConfig,
    OpcUaServerConfig,
    S7Config,
    SerialLineConfig,
)
from cada_edge.runtime.plc_sim.wire_names import lines_of
from cada_edge.strict_yaml import validated

# kind of the link -> its section, module and class of the wire, package it needs, extra that brings it
KINDS = {
    "modbus-server": (ModbusServerConfig, "wire_modbus", "ModbusClient", "pymodbus", "runtime"),
    "modbus-tcp": (ModbusTcpConfig, "wire_modbus", "ModbusMemory", "pymodbus", "runtime"),
    "modbus-rtu": (ModbusRtuConfig, "wire_modbus", "ModbusMemory", "serial", "serial"),
    "opcua-server": (OpcUaServerConfig, "wire_opcua", "OpcUaClient", "asyncua", "opcua"),
    "opcua": (OpcUaConfig, "wire_opcua_memory", "OpcUaMemory", "asyncua", "opcua"),
    "s7": (S7Config, "wire_s7", "S7Memory", "snap7", "s7"),
    "logix": (LogixConfig, "wire_logix", "LogixMemory", "pylogix", "logix"),  # and a program, see there
    "ads": (AdsConfig, "wire_ads", "AdsMemory", "pyads", "ads"),
    "serial-line": (SerialLineConfig, "wire_serial", "SerialController", "serial", "serial"),
    "digital": (DigitalConfig, "wire_digital", "DigitalController", "", ""),  # by its driver
}
Config = (
    ModbusServerConfig
    | ModbusTcpConfig
    | ModbusRtuConfig
    | OpcUaServerConfig
    | OpcUaConfig
    | S7Config
    | LogixConfig
    | AdsConfig
    | SerialLineConfig
    | DigitalConfig
)
_OPCUA_PORT, _ANY_NET_ID = 4840, "0.0.0.0.0.0"  # a simulated controller answers to every net id


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


@runtime_checkable
class Witness(Wire, Protocol):
    """A wire that is not asked for its words but has watched them come: it says what they are worth."""

    @property
    def as_of_ns(self) -> int:
        """Monotonic time at which the words read last surely stood; may be earlier than the read."""

    @property
    def doubtful(self) -> bool:
        """Whether the station may rightly leave a trigger without an answer."""


def config_of(kind: str, place: str, settings: Mapping[str, object]) -> Config:
    """The section of ``line.yaml`` of such a link: `place` is its host, URL or device.

    Raises `ConfigError` naming every setting that this kind has not, lacks or refuses.
    """
    model: Any = KINDS[kind][0]
    given = _placed(model, place, settings)
    for name in given.keys() - model.model_fields.keys():
        raise ConfigError(f"--{name.replace('_', '-')}: a link of kind {kind} has no such setting; leave it out")
    config: Config = validated(model, {"kind": kind, **given}, f"plc-sim of {kind}")
    return config


def _placed(model: Any, place: str, settings: Mapping[str, object]) -> dict[str, object]:
    """The settings with what `place` is to this kind of link."""
    given = dict(settings)
    if model is OpcUaConfig:
        whole = place if "://" in place else f"opc.tcp://{place}:{given.pop('port', _OPCUA_PORT)}/plc"
        return {"url": whole, **given}
    if model is DigitalConfig:
        lines = lines_of(str(given.pop("wires", "")))
        return {"chip": place, **lines, **given} if given.get("driver") != "jetson" else {**lines, **given}
    if model is AdsConfig:
        given.setdefault("net_id", _ANY_NET_ID)
    return {"device" if "device" in model.model_fields else "host": place, **given}


def make_wire(config: Config) -> Wire:
    """The PLC's end of the link that `config` describes, not opened yet.

    Raises `MissingDependencyError` naming the package, the link and the extra.
    """
    _, module, name, package, extra = KINDS[config.kind]
    if isinstance(config, DigitalConfig):
        package, extra = DRIVERS[config.driver]
    need(package, extra, config.kind)
    wire: Wire = getattr(import_module(f"cada_edge.runtime.plc_sim.{module}"), name)(config)
    return wire
