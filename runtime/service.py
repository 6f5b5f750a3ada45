"""A systemd unit for one line: it starts at boot, is watched, and may do no more than it must."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cada_edge.errors import ConfigError
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.links.config import ModbusServerConfig, OpcUaServerConfig
from cada_edge.runtime.plc.urgency import NICENESS

PRIVILEGED_BELOW = 1024
WATCHDOG_S, START_S, STOP_S = 5, 300, 20
_WRITES = ("sinks",)  # sections of line.yaml that name folders which the line writes to
_UNIT = """\
# {title}
# Install:  sudo install -m 644 {name}.service /etc/systemd/system/ && sudo systemctl daemon-reload
#           sudo systemctl enable --now {name}
# Look:     systemctl status {name};  journalctl -u {name} -o cat | jq .
{folders}
[Unit]
Description=cada-edge line {line}
Documentation=man:systemd.service(5)
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
User={user}
SupplementaryGroups={groups}
Environment=PYTHONUNBUFFERED=1
Restart=always
RestartSec=2
WatchdogSec={watchdog_s}
TimeoutStartSec={start_s}
TimeoutStopSec={stop_s}
KillMode=mixed
UMask=0027
OOMScoreAdjust=-500
LimitRTPRIO={priority}
LimitNICE={niceness}

NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={writes}
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
RestrictNamespaces=yes
RestrictRealtime={ordinary}
RestrictSUIDSGID=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Service:
    """What the unit is made from.

    Attributes:
        config: the line.
        path: of its ``line.yaml``, absolute.
        user: who runs it; should own nothing but the folders it writes to.
        program: the Python that has cada-edge.
    """

    config: LineConfig
    path: Path
    user: str = "cada-edge"
    program: str = sys.executable

    @property
    def name(self) -> str:
        """Of the unit, without its suffix."""
        return f"cada-edge-{''.join(c if c.isalnum() and c.isascii() else '-' for c in self.path.stem).strip('-')}"

    def unit(self) -> str:
        """The text of the unit. Raises `ConfigError` for a path that no unit can hold."""
        writes, priority = self.writable(), self.config.plc_priority if self.config.wired() else 0
        plain = {"title": f"{self.name}.service", "name": self.name, "user": _plain("user", self.user)}
        return _UNIT.format(
            **plain,
            folders="".join(f"# Before:   sudo install -d -o {self.user} {_shell(path)}\n" for path in writes),
            line=_escaped(str(self.path)),
            command=" ".join(_quoted(word) for word in (self.program, "-m", "cada_edge", "run", str(self.path))),
            groups=" ".join(self.groups()),
            capabilities="CAP_NET_BIND_SERVICE" if self.privileged() else "",
            writes=" ".join(_quoted(str(path)) for path in writes),
            priority=priority,
            niceness=NICENESS if priority else 0,
            ordinary="no" if priority else "yes",
            watchdog_s=WATCHDOG_S,
            start_s=START_S,
            stop_s=STOP_S,
        )

    def privileged(self) -> list[int]:
        """Ports below 1024 that the line listens on."""
        servers = [link for link in self.config.all_links() if isinstance(link, ModbusServerConfig | OpcUaServerConfig)]
        ports = [server.port for server in servers] + ([self.config.page.port] if self.config.page else [])
        return [port for port in ports if 0 < port < PRIVILEGED_BELOW]

    def groups(self) -> list[str]:
        """Whose devices the line uses: a group that a machine does not have would keep the unit from starting."""
        kinds = {link.kind for link in self.config.links}
        return ["video", "dialout", *(["gpio"] if "digital" in kinds else [])]

    def writable(self) -> list[Path]:
        """Folders that the line writes to, each once."""
        document = self.config.model_dump()
        found = [path for name in _WRITES for path in _paths(document.get(name))]
        folders = {path.parent if path.suffix else path for path in found}
        return sorted(folders)


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _paths(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _paths(one)


def _escaped(text: str) -> str:
    """`text` with systemd's specifiers taken literally. Raises `ConfigError` for control characters."""
    if any(ord(c) < 32 for c in text):
        raise ConfigError(f"{text!r} has a control character, which no unit file can hold; rename it")
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """One word of a unit's line."""
    safe = _escaped(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return safe if safe == text and " " not in text else f'"{safe}"'


def _shell(path: Path) -> str:
    return "'" + _escaped(str(path)).replace("%%", "%").replace("'", "'\\''") + "'"


def _plain(field: str, text: str) -> str:
    if not text or not all((c.isalnum() and c.isascii()) or c in "_-" for c in text) or text[0] in "-0123456789":
        raise ConfigError(f"{field}: got {text!r}, expected a system user such as cada-edge")
    return text
