"""A whole line as a program, with a Modbus server and records, for figures and long tests; what its processes use."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cada_edge.runtime.plc import urgency

PEERS = Path(__file__).resolve().parents[1] / "peers"
ROLES = {"cada_edge.runtime.plc": "PLC process", "cada_edge.runtime.page": "page"}
MASTER = "modbus_master.js"


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_line_file(folder: Path, bundle: Path, images: Path, **settings: Any) -> tuple[Path, int]:
    """A line.yaml over `images` again and again, as fast as they are judged, and its Modbus port."""
    port = free_port()
    document = {
        "schema": 1,
        "bundle": str(bundle.resolve()),
        "threads": 1,  # the other core is for the PLC and its process
        "sources": [{"uri": f"folder:{images.resolve()}?loop=1", "id": "cam1"}],
        "stations": [{"id": "st1"}],
        "links": [{"kind": "modbus-server", "port": port}],
        "sinks": {"records": {"sqlite": "records.sqlite"}},
        **settings,
    }
    path = folder / "line.yaml"
    path.write_text(yaml.safe_dump(document))
    return path, port


@dataclass
class RunningLine:
    """A line under way; `summary` is there once it has ended."""

    process: subprocess.Popen[str]
    started_s: float
    log: Path
    summary: dict[str, Any]

    def pids(self) -> dict[str, int]:
        """By role: ``main``, ``PLC process``, ``page``."""
        found = {"main": self.process.pid}
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        for pid in {pid for child in children for pid in child.read_text().split()}:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            found.update({role: int(pid) for module, role in ROLES.items() if module in command})
        return found


@contextmanager
def line_running(path: Path, python: str = sys.executable, **env: str) -> Iterator[RunningLine]:
    """Run a line as a program until the block ends, then stop it as systemd would."""
    with (path.parent / "line.log").open("w") as log:
        process = subprocess.Popen(
            [python, "-m", "cada_edge", "run", str(path), "--json"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PEERS.parents[1]), **env},
            cwd=path.parent,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        line = RunningLine(process, time.monotonic(), path.parent / "line.log", {})
        try:
            yield line
            process.terminate()
            line.summary.update(json.loads(process.communicate(timeout=60)[0]))
        finally:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Usage:
    """What a process uses now."""

    rss_bytes: int
    handles: int
    threads: int


def usage(pid: int) -> Usage:
    """By ``/proc``. Raises `FileNotFoundError` once the process is gone."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return Usage(int(fields["VmRSS"].split()[0]) * 1024, len(os.listdir(f"/proc/{pid}/fd")), int(fields["Threads"]))  # noqa: PTH208  # counts names, follows no link


def node_modules() -> str | None:
    """Where npm's packages are: ``CADA_EDGE_NODE_PATH``, else the global folder; ``None`` without modbus-serial."""
    folder = os.environ.get("CADA_EDGE_NODE_PATH", "")
    if not folder:
        with suppress(OSError, subprocess.CalledProcessError):
            folder = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True, check=True).stdout.strip()
    return folder if folder and (Path(folder) / "modbus-serial").is_dir() else None


def start_master(port: int, cycles: int, idle_polls: int, poll_ms: float, priority: int = 0) -> subprocess.Popen[str]:
    """The independent PLC. It prints what it saw as JSON; see ``modbus_master.js``.

    With a `priority` (real-time, 1 to 99), where it is allowed, it runs before everything else here: a PLC brings a
    processor of its own, and what it waits for must not be its own turn on ours.
    """
    command = ["node", str(PEERS / MASTER), f"127.0.0.1:{port}", str(cycles), str(idle_polls), str(poll_ms)]
    if urgency.probe(priority).startswith("SCHED_FIFO"):
        command = ["chrt", "--fifo", str(priority), *command]
    env = {**os.environ, "NODE_PATH": node_modules() or ""}
    return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def until_listening(line: RunningLine, port: int, timeout_s: float = 60.0) -> None:
    """Return once somebody listens. Raises `TimeoutError`, at once if the line has ended."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s and line.process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nobody listens on port {port}; the line says: {line.log.read_text()[-2000:]}")
