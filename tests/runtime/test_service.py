"""The systemd unit of a line."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import write_line
from typer.testing import CliRunner

from cada_edge.cli.app import build
from cada_edge.errors import ConfigError
from cada_edge.runtime.config import load_config
from cada_edge.runtime.service import Service


def make_service(folder: Path, **settings: Any) -> Service:
    """Of a line that lies there."""
    path = write_line(folder, **settings)
    return Service(load_config(path), path)


def settings_of(unit: str) -> dict[str, str]:
    """Every ``Name=value`` of a unit."""
    return dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` is content, also with blanks and percent signs in the path."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed; Debian's package `systemd` brings it")
    service = make_service(tmp_path / "a b%i", sinks={"rejects": {"dir": "re jects"}})
    unit = tmp_path / f"{service.name}.service"
    unit.write_text(service.unit())
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_line_is_watched_and_comes_back(tmp_path: Path) -> None:
    """systemd waits for its signs of life and starts it again for ever."""
    found = settings_of(make_service(tmp_path).unit())
    assert found["Type"] == "notify"
    assert float(found["WatchdogSec"]) > 0
    assert (found["Restart"], found["StartLimitIntervalSec"]) == ("always", "0")
    assert found["ExecStart"].endswith(f"-m cada_edge run {tmp_path / 'line.yaml'}")


@pytest.mark.parametrize(("port", "capability"), [(502, "CAP_NET_BIND_SERVICE"), (1502, ""), (0, "")])
def test_only_a_low_port_brings_a_privilege(tmp_path: Path, port: int, capability: str) -> None:
    """A line that listens above 1024 has no capability at all."""
    found = settings_of(make_service(tmp_path, sinks={"modbus": {"port": port}}).unit())
    assert found["CapabilityBoundingSet"] == found["AmbientCapabilities"] == capability


def test_only_a_line_with_a_plc_may_be_urgent(tmp_path: Path) -> None:
    """Real time for the PLC process and as much as line.yaml wants; for a line without a PLC none at all."""
    found = settings_of(make_service(tmp_path, links=[{"kind": "modbus-server"}], plc_priority=12).unit())
    assert (found["LimitRTPRIO"], found["LimitNICE"], found["RestrictRealtime"]) == ("12", "-10", "no")
    for settings in ({}, {"links": [{"kind": "modbus-server"}], "plc_priority": 0}):
        found = settings_of(make_service(tmp_path, **settings).unit())
        assert (found["LimitRTPRIO"], found["LimitNICE"], found["RestrictRealtime"]) == ("0", "0", "yes")


def test_a_server_of_a_link_counts_as_listening(tmp_path: Path) -> None:
    """Port 502 of a link needs the privilege, and a reload is a signal to the line."""
    found = settings_of(make_service(tmp_path, links=[{"kind": "modbus-server"}]).unit())
    assert found["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"
    assert found["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_wires_need_their_group(tmp_path: Path) -> None:
    """Only a line with digital outputs asks for the group that owns them."""
    wires = [{"kind": "digital", "pass_line": 1}]
    assert settings_of(make_service(tmp_path, links=wires).unit())["SupplementaryGroups"] == "video dialout gpio"
    assert settings_of(make_service(tmp_path).unit())["SupplementaryGroups"] == "video dialout"


def test_it_may_write_to_its_records_and_nowhere_else(tmp_path: Path) -> None:
    """Folders of records and rejects are writable, that of the bundle is not."""
    sinks = {"records": {"csv": "out/v.csv", "jsonl": "out/v.jsonl"}, "rejects": {"dir": "rejects"}}
    service = make_service(tmp_path, sinks=sinks)
    assert service.writable() == [tmp_path / "out", tmp_path / "rejects"]
    found = settings_of(service.unit())
    assert found["ReadWritePaths"] == f"{tmp_path}/out {tmp_path}/rejects"
    assert found["ProtectSystem"] == "strict"


def test_names_cannot_add_lines_to_the_unit(tmp_path: Path) -> None:
    """A line feed in a path, or a user that is none, is refused."""
    service = make_service(tmp_path)
    with pytest.raises(ConfigError, match="control character"):
        replace(service, path=Path("/line\nExecStartPre=/bin/evil.yaml")).unit()
    for user in ("", "a b", "root\nUser=x", "-x"):
        with pytest.raises(ConfigError, match="user"):
            replace(service, user=user).unit()


def test_the_command_prints_the_unit_and_installs_nothing(tmp_path: Path) -> None:
    """Standard output is the file to install, and says how."""
    path = write_line(tmp_path)
    done = CliRunner().invoke(build("service"), ["service", str(path), "--user", "press"])
    assert done.exit_code == 0
    assert "User=press\n" in done.stdout
    assert "sudo systemctl enable --now cada-edge-line\n" in done.stdout
