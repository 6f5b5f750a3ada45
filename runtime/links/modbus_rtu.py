"""A PLC that is a Modbus device on a serial line."""

from __future__ import annotations

from pymodbus.client import ModbusSerialClient

from cada_edge.runtime.links.config import ModbusRtuConfig
from cada_edge.runtime.links.modbus import ModbusLink


class ModbusRtuLink(ModbusLink):
    """Writer mode over Modbus RTU; we are the only master on the line."""

    def __init__(self, config: ModbusRtuConfig) -> None:
        super().__init__(
            config,
            lambda: ModbusSerialClient(
                config.device,
                baudrate=config.baud,
                parity=config.parity,
                stopbits=config.stop_bits,
                timeout=config.timeout_ms / 1000,
                retries=0,
            ),
            f"modbus-rtu {config.device} unit {config.unit}",
            f"check the wires, {config.baud} baud, parity {config.parity} and the PLC's address",
        )
