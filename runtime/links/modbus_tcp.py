"""A PLC that is a Modbus TCP server."""

from __future__ import annotations

from pymodbus.client import ModbusTcpClient

from cada_edge.runtime.links.config import ModbusTcpConfig
from cada_edge.runtime.links.modbus import ModbusLink


class ModbusTcpLink(ModbusLink):
    """Writer mode over Modbus TCP."""

    def __init__(self, config: ModbusTcpConfig) -> None:
        peer = f"modbus-tcp {config.host}:{config.port} unit {config.unit}"
        super().__init__(
            config,
            lambda: ModbusTcpClient(config.host, port=config.port, timeout=config.timeout_ms / 1000, retries=0),
            peer,
            "is the PLC on, and does its Modbus server allow this device?",
        )
