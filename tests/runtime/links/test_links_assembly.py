"""From a section of line.yaml to a link: nothing is imported before it is needed, and what is absent has a name."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from cada_edge.errors import MissingDependencyError
from cada_edge.runtime.links.assembly import make_link
from cada_edge.runtime.links.config import AnyLink, LinkConfig, ModbusServerConfig, OpcUaServerConfig, WriterConfig

_SECTIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "modbus-tcp": ({"host": "plc"}, "pymodbus", "runtime"),
    "modbus-rtu": ({"device": "/dev/ttyS0"}, "serial", "serial"),
    "s7": ({"host": "plc", "db": 1}, "snap7", "s7"),
    "logix": ({"host": "plc"}, "pylogix", "logix"),
    "opcua": ({"url": "opc.tcp://plc:4840"}, "asyncua", "opcua"),
    "ads": ({"host": "plc", "net_id": "1.2.3.4.1.1"}, "pyads", "ads"),
    "serial-line": ({"device": "/dev/ttyS0"}, "serial", "serial"),
    "digital": ({"pass_line": 1}, "gpiod", "gpio"),
}


def _config(kind: str, **settings: Any) -> WriterConfig:
    config = TypeAdapter[AnyLink](LinkConfig).validate_python({"kind": kind, **_SECTIONS[kind][0], **settings})
    assert not isinstance(config, ModbusServerConfig | OpcUaServerConfig)
    return config


@pytest.mark.parametrize("kind", _SECTIONS)
def test_a_section_makes_a_link_that_is_not_open(kind: str) -> None:
    """Every kind has a link; making it connects to nothing, and closing it is nothing."""
    pytest.importorskip(_SECTIONS[kind][1], reason=f"{_SECTIONS[kind][1]} is not installed")
    make_link(_config(kind)).close()


@pytest.mark.parametrize("kind", _SECTIONS)
def test_a_missing_package_names_its_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its library a link says what to install."""
    _, package, extra = _SECTIONS[kind]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"{package}.*{kind}.*cada-edge\[{extra}\]"):
        make_link(_config(kind))


def test_the_other_driver_of_wires_has_its_own_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """`driver: jetson` needs Jetson.GPIO, not gpiod."""
    monkeypatch.setitem(sys.modules, "Jetson", None)
    with pytest.raises(MissingDependencyError, match=r"cada-edge\[jetson\]"):
        make_link(_config("digital", driver="jetson"))


def test_reading_the_settings_imports_no_protocol() -> None:
    """A line pays for the protocols that it uses alone."""
    packages = sorted({package for _, package, _ in _SECTIONS.values()})
    program = (
        f"import sys, cada_edge.runtime.links.assembly; sys.exit(str([p for p in {packages} if p in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("modbus-tcp", {"base": 10}),
        ("modbus-tcp", {"unknown": 1}),
        ("modbus-rtu", {"unit": 0}),
        ("s7", {"status_byte": 16}),
        ("opcua", {"status_node": "ns=2;s=all"}),
        ("ads", {"net_id": "1.2.3.4"}),
        ("serial-line", {"device": "COM1"}),
        ("digital", {"valid_line": 1}),
        ("logix", {"timeout_ms": 0}),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(kind: str, settings: dict[str, Any]) -> None:
    """Overlapping blocks, unknown keys, shared wires and values out of range never reach a PLC."""
    with pytest.raises(ValidationError):
        _config(kind, **settings)
