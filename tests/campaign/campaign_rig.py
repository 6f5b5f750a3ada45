"""A whole cell on one machine: camera, line, PLCs and broker, each a program that can be frozen and killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from campaign_entry import set_switch
from runtime_kit import python_env, write_line

HERE = Path(__file__).resolve().parent
DEADLINE_MS = 500
_START_S = 60.0


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


class Program:
    """A program that can be started again.

    Args:
        command: with its arguments.
        port: that it listens on once it is up.
        log: what it says goes there.
    """

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self._command, self._port, self._log = list(command), port, log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    def start(self, wait: bool = True) -> None:
        """Start it; with `wait`, until its port is open."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=python_env(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until_s = time.monotonic() + _START_S
        while wait and not listens(self._port):
            assert time.monotonic() < until_s, f"{self._command} does not listen:\n{self._log.read_text()[-2000:]}"
            time.sleep(0.02)

    def running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """A signal to it alone."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, and wait."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> int:
        """Ask it to end, and wait; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(_START_S)

    def child(self, module: str) -> int | None:
        """The process id of its child that runs a module of ours."""
        with suppress(OSError):
            for number in _children(self.pid):
                if module.encode() in Path(f"/proc/{number}/cmdline").read_bytes():
                    return number
        return None


@dataclass(frozen=True)
class Rig:
    """What faults are put into.

    Attributes:
        guard: restarts the line when it ends by itself.
        folder: of everything.
        line: ``cada-edge run``.
        camera: see `campaign_camera`.
        peer: a PLC that is written into; see `campaign_modbus`.
        noisy_peer: in its place one that answers noise.
        broker: of MQTT; ``None`` where mosquitto is not installed.
        noisy_broker: in its place one that answers noise.
        port: of the line's Modbus server.
        page_port: of the operator's page.
        peer_port: of `peer`.
    """

    guard: Guard
    folder: Path
    line: Program
    camera: Program
    peer: Program
    noisy_peer: Program
    broker: Program | None
    noisy_broker: Program
    port: int
    page_port: int
    peer_port: int

    @property
    def scene(self) -> Path:
        """What lies before the camera."""
        return self.folder / "scene"

    @property
    def switch(self) -> Path:
        """Of `campaign_entry`."""
        return self.folder / "switch"

    @property
    def records(self) -> Path:
        """The database that the line writes."""
        return self.folder / "records.sqlite"

    @property
    def peer_log(self) -> Path:
        """What the other PLC was written."""
        return self.folder / "peer.log"

    def programs(self) -> tuple[Program, ...]:
        """All, the line last."""
        return (self.camera, self.peer, *filter(None, [self.broker]), self.line)


@contextmanager
def rig(folder: Path) -> Iterator[Rig]:
    """A cell that is up, ended at the end."""
    cell = _assemble(folder)
    try:
        for program in cell.programs():
            program.start()
        cell.guard.start()
        yield cell
    finally:
        cell.guard.close()
        for program in reversed(cell.programs()):
            with suppress(OSError, AssertionError):
                program.send(signal.SIGCONT)
            program.kill()
        cell.noisy_peer.kill()
        cell.noisy_broker.kill()


class Guard(threading.Thread):
    """Restarts a line that ended by itself, as its systemd unit does.

    Attributes:
        restarts: how often.
        paused: while a fault has ended it on purpose.
    """

    def __init__(self, line: Program) -> None:
        super().__init__(daemon=True)
        self._line, self._over, self.restarts, self.paused = line, threading.Event(), 0, False

    def run(self) -> None:
        """Look ten times a second."""
        while not self._over.wait(0.1):
            if not self.paused and not self._line.running():
                self.restarts += 1
                self._line.start(wait=False)

    def close(self) -> None:
        """Let it be."""
        self._over.set()
        if self.is_alive():
            self.join()


def _assemble(folder: Path) -> Rig:
    port, page_port, camera_port, peer_port, broker_port = (free_port() for _ in range(5))
    sinks: dict[str, object] = {"records": {"sqlite": "records.sqlite"}}
    broker: Program | None = None
    if (mosquitto := shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")) is not None:
        sinks["mqtt"] = {"host": "127.0.0.1", "port": broker_port}
        broker = Program([mosquitto, "-p", str(broker_port)], broker_port, folder / "broker.txt")
    path = write_line(
        folder,
        sources=[{"uri": f"rtsp://127.0.0.1:{camera_port}/part"}],
        stations=[{"id": "st1", "mode": "triggered", "deadline_ms": DEADLINE_MS, "reject_run": 5}],
        links=[
            {"kind": "modbus-server", "port": port},
            {"kind": "modbus-tcp", "host": "127.0.0.1", "port": peer_port, "control": False, "timeout_ms": 200},
        ],
        sinks=sinks,
        page={"port": page_port},
        linger_ms=0,
    )
    (folder / "scene").write_bytes(b"\xff\0")
    set_switch(folder / "switch")

    def ours(name: str, *arguments: str) -> list[str]:
        return [sys.executable, str(HERE / name), *arguments]

    scene, log = str(folder / "scene"), str(folder / "peer.log")
    line = Program(ours("campaign_entry.py", str(folder / "switch"), "run", str(path)), port, folder / "line.txt")
    return Rig(
        Guard(line),
        folder,
        line,
        Program(ours("campaign_camera.py", str(camera_port), scene), camera_port, folder / "camera.txt"),
        Program(ours("campaign_modbus.py", str(peer_port), log), peer_port, folder / "peer.txt"),
        Program(ours("campaign_modbus.py", str(peer_port), log, "noise"), peer_port, folder / "peer.txt"),
        broker,
        Program(ours("campaign_modbus.py", str(broker_port), log, "noise"), broker_port, folder / "broker.txt"),
        port,
        page_port,
        peer_port,
    )


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(word) for task in tasks for word in (task / "children").read_text().split()]
