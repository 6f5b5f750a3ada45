"""PLCs as processes to write into, pairs of serial ports, and blocks whose halves can be told apart."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wire_kit import SerialPair

from cada_edge.runtime.control import ControlBlock, ControlFlag, encode_control
from cada_edge.runtime.links.config import WriterConfig
from cada_edge.runtime.registers import OfflineReason, ResultFlag, StatusBlock, StatusFlag, encode

KITS = Path(__file__).resolve().parent
CONTROL = encode_control(ControlBlock(ControlFlag.TRIGGER_ENABLE | ControlFlag.TRIGGER, 77, 0xFEDC1234, 70_000, 2, 1))
_START_S = 60.0


def pattern(seq: int) -> list[int]:
    """The 32 words of a valid PASS whose counters all hold `seq`, so that half of another block shows."""
    flags = StatusFlag.ONLINE | StatusFlag.RESULTS_VALID
    numbers: dict[str, Any] = dict.fromkeys(
        ("trigger_id", "total", "rejected", "unknown", "encoder"), 0x1_0000 * 40_000 + seq
    )
    return encode(replace(StatusBlock(flags, OfflineReason.NONE, 1, ResultFlag.PASS, seq, score=0.25), **numbers))


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Plc:
    """A PLC as a process that speaks the lines of `plc_peer`; can be frozen, killed and started again.

    Args:
        config: how a link reaches it.
        command: the program and its arguments.
        environment: beside that of the tests.
    """

    def __init__(self, config: WriterConfig, command: Sequence[str], **environment: str) -> None:
        self.config = config
        self.wire: SerialPair | None = None  # what it hangs on, for one on a serial line
        self._command, self._environment = list(command), {**os.environ, **environment}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it can be reached."""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(self._command, text=True, env=self._environment, **pipes)
        assert self._answer() == "ready"

    def ask(self, question: object) -> Any:
        """What it answers to one line."""
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        return self._answer()

    def status(self) -> list[int]:
        """The 32 words in its memory."""
        words: list[int] = self.ask("status")
        return words

    def freeze(self) -> None:
        """Stop it as it stands, every thread of it; the kernel keeps its connections."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        until_s = time.monotonic() + _START_S
        while not all(_stopped(task) for task in Path(f"/proc/{process.pid}/task").iterdir()):
            assert time.monotonic() < until_s, "does not stop"
            time.sleep(0.001)

    def thaw(self) -> None:
        """Let it go on."""
        self._running().send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a farewell."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()

    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    def _answer(self) -> Any:
        out = self._running().stdout
        assert out is not None
        assert select.select([out], [], [], _START_S)[0], f"{self._command}: no answer within {_START_S:g} s"
        line = out.readline()
        assert line, f"{self._command}: ended"
        return json.loads(line)


def python_plc(config: WriterConfig, place: str) -> Plc:
    """A PLC by the Python library of its kind."""
    return Plc(config, [sys.executable, str(KITS / "plc_peer.py"), config.kind, place])


def node_plc(stack: ExitStack, config: WriterConfig, script: str, package: str, place: str) -> Plc:
    """A PLC by an npm package, from ``CADA_EDGE_NODE_PATH`` or the global folder; skips where it is absent."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    folder = os.environ.get("CADA_EDGE_NODE_PATH") or _npm_root()
    if not (Path(folder) / package).is_dir():
        pytest.skip(f"the npm package {package} is not installed in {folder or 'any folder'}")
    scratch = stack.enter_context(tempfile.TemporaryDirectory())
    return Plc(config, ["node", str(KITS.parent / "peers" / script), place], NODE_PATH=folder, TMPDIR=scratch)


def _stopped(task: Path) -> bool:
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"


def _npm_root() -> str:
    npm = shutil.which("npm")
    found = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, check=False) if npm else None
    return found.stdout.strip() if found else ""
