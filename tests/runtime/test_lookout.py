"""Promises of what people and systemd are told of a running line."""

from __future__ import annotations

import json
import signal
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import wait_until, write_line

from cada_edge.runtime.config import load_config
from cada_edge.runtime.line import run_line
from cada_edge.types import Verdict


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quiet(*_: object) -> None:
    """Problems are of no interest here."""


def test_systemd_hears_ready_a_heartbeat_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under systemd a line says when it is ready, that its loop turns, and that it stops on purpose."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "2000")
        run_line(load_config(write_line(tmp_path)), on_problem=quiet)
        heard = [systemd.recv(100).decode()]
        while heard[-1] != "STOPPING=1":
            heard.append(systemd.recv(100).decode())
    assert heard[0] == "READY=1"
    assert "WATCHDOG=1" in heard


def test_the_page_shows_a_running_line(tmp_path: Path) -> None:
    """With `page` in line.yaml, a browser finds verdicts, source, link and sink while the line runs."""
    pytest.importorskip("h11", reason="the page extra is not installed")
    port = free_port()
    config = load_config(
        write_line(
            tmp_path,
            sources=[{"uri": "folder:images?fps=20&loop=1", "id": "top"}],
            sinks={"modbus": {"port": free_port()}, "records": {"jsonl": "v.jsonl"}},
            page={"port": port, "status_hz": 10},
        )
    )
    status: dict[str, Any] = {}
    seen = threading.Event()

    def look() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status.json", timeout=2) as reply:
                status.update(json.load(reply))
        except OSError:
            return False
        return json.dumps(status).count('"top"') > 2 and '"modbus-server"' in json.dumps(status)

    def watch() -> None:
        try:
            wait_until(look, 30)
        finally:
            seen.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    stop_when = _StopWhen(seen)
    summary = run_line(config, stop_when, quiet)
    watcher.join()
    assert summary.problems == ()
    assert '"jsonl"' in json.dumps(status)


class _StopWhen:
    """Ends the line by the signal a person would send."""

    def __init__(self, seen: threading.Event) -> None:
        self._seen = seen

    def __call__(self, _: Verdict) -> None:
        if self._seen.is_set():
            signal.raise_signal(signal.SIGTERM)
            self._seen.clear()
