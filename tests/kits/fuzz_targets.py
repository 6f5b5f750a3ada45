"""What is fuzzed, each with its share of a campaign."""

from __future__ import annotations

from fuzz_config import config_target
from fuzz_http import page_target
from fuzz_kit import Protocolled
from fuzz_modbus import modbus_target
from fuzz_opcua import opcua_target
from fuzz_plcs import plc_target
from link_plcs import modbus_rtu, modbus_tcp, opcua, s7

TARGETS = (
    Protocolled("modbus-server", 0.30, modbus_target),
    Protocolled("opcua-server", 0.16, opcua_target),
    Protocolled("http", 0.22, page_target),
    Protocolled("config", 0.22, config_target),
    Protocolled("modbus-tcp-plc", 0.03, plc_target(modbus_tcp)),
    Protocolled("modbus-rtu-plc", 0.02, plc_target(modbus_rtu)),
    Protocolled("opcua-plc", 0.02, plc_target(opcua)),
    Protocolled("s7-plc", 0.03, plc_target(s7)),
)
