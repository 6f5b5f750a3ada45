"""A board with something on it, and a page's process to ask."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from runtime_kit import SPEC, THRESHOLD, make_frame, python_env

from cada_edge.decision import decide, undecided
from cada_edge.runtime.board import StatusBoard
from cada_edge.runtime.page.config import PageConfig
from cada_edge.runtime.status import (
    DriftStatus,
    LinkStatus,
    SinkStatus,
    SourceStatus,
    StationStatus,
)
from cada_edge.types import Frame, Prediction

CONFIG = PageConfig(port=0, pictures_hz=20, status_hz=10)


def make_board() -> StatusBoard:
    """Without a part yet."""
    return StatusBoard("line3.cada", "ab" * 32, THRESHOLD.value, SPEC)


def make_prediction(score: float) -> Prediction:
    """One of every number that there is, with a map of one value."""
    one = np.ones(1, np.float32)
    return Prediction(one * score, np.full((1, 8, 8), score, np.float32), one * 0, one, one * 0)


def put(board: StatusBoard, score: float | None, frame_id: int = 1, **changes: Any) -> Frame:
    """Judge a frame of this score, ``None`` for a runner that failed, and note the verdict."""
    frame = make_frame(100, frame_id, **changes)
    if score is None:
        board.verdict(undecided(frame, "no prediction: out of memory", time.monotonic_ns(), THRESHOLD), frame, None)
        return frame
    prediction = make_prediction(score)
    board.verdict(decide(frame, prediction, THRESHOLD, time.monotonic_ns()), frame, prediction)
    return frame


def fill(board: StatusBoard) -> None:
    """One of everything a status can hold: two verdicts of each kind, a station, links, sinks, drift."""
    for number, score in enumerate((0.1, 0.9, None, 0.2, 0.8, None)):
        put(board, score, number)
    board.update(
        sources=(SourceStatus("cam1", True, 6, 1, 12.5, 40.0), SourceStatus("cam2", False, 0, 0, error="no frames")),
        stations=(StationStatus("st1", "triggered", "READY", True, "", 6, 6, 4, 2, 1, "FAIL", None, ("reject run",)),),
        links=(
            LinkStatus("modbus-server", "127.0.0.1:502", True),
            LinkStatus("s7", "10.0.0.1:102", False, "refused", late=2),
        ),
        sinks=(SinkStatus("csv", True), SinkStatus("mqtt", False, 3, reached=False, waiting=123, error="no answer")),
        drift=(DriftStatus("cam1", 200, 0.2, 0.001, True, 0.3, 0.8), DriftStatus("cam2", 3, None, None, False)),
    )


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    """Status and body of one request to a page on loopback."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def status_of(port: int) -> dict[str, Any]:
    """What ``/status.json`` says."""
    code, body = get(port, "/status.json")
    assert code == 200
    found: dict[str, Any] = json.loads(body)
    return found


@dataclass(frozen=True)
class RunningLine:
    """A line in its own process and the port of its page."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def address(self) -> str:
        """For a browser."""
        return f"http://127.0.0.1:{self.port}/"

    def freeze(self) -> None:
        """Stop it as a hang would."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.process.pid, signal.SIGCONT)


class Lines:
    """Starts lines and ends them."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, level: int = 0, source: str = "cam1", name: str = "part.png") -> RunningLine:
        """One that judges pictures of a grey level under these names; above 127 they are rejects."""
        kits = Path(__file__).parent
        environment = python_env()
        environment["PYTHONPATH"] += f"{os.pathsep}{kits}"
        process = subprocess.Popen(
            [sys.executable, str(kits / "page_line.py"), str(level), source, name],
            env=environment,
            stdout=subprocess.PIPE,
        )
        self._started.append(process)
        assert process.stdout is not None
        return RunningLine(process, int(process.stdout.readline()))

    def close(self) -> None:
        """End them all."""
        for process in self._started:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
