"""Receivers of records: an HTTP server that can misbehave, mosquitto, and a subscriber of its own."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import wait_until


class Receiver:
    """An HTTP server on loopback.

    Attributes:
        got: bodies taken, in order, with the headers of each.
        status: answered to the next requests.
        delay_s: before each answer.
    """

    def __init__(self, port: int = 0) -> None:
        self.got: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.status, self.delay_s = 200, 0.0
        self.lines: list[socket.socket] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                """Remember the line, to hang it up."""
                super().setup()
                receiver.lines.append(self.connection)

            def do_POST(self) -> None:
                """Answer as the receiver says."""
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(receiver.delay_s)
                status = receiver.status
                receiver.headers.append(dict(self.headers))
                if status == 200:
                    receiver.got.append(body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Hang up and free the port."""
        self._server.shutdown()
        self._server.server_close()
        for line in self.lines:
            with suppress(OSError):  # its caller has hung up already
                line.shutdown(socket.SHUT_RDWR)


class Broker:
    """Debian's mosquitto, in a process that can be frozen, killed and restarted; keeps what it was given."""

    def __init__(self, folder: Path, settings: str = "allow_anonymous true\n") -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            pytest.skip("mosquitto is not installed; apt-get install mosquitto brings it")
        self._program, self.port = program, free_port()
        self._file = folder / "mosquitto.conf"
        store = f"persistence true\npersistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\n"
        self._file.write_text(f"listener {self.port} 127.0.0.1\nuser root\n{store}{settings}")
        self.start()

    def start(self) -> None:
        """Start, and return once it listens."""
        self.process = subprocess.Popen(
            [self._program, "-c", str(self._file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )  # fmt: skip
        wait_until(lambda: answers(self.port))

    def send_signal(self, number: signal.Signals) -> None:
        """SIGSTOP freezes it, SIGCONT thaws it."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, whatever state it is in."""
        self.process.kill()
        self.process.wait()


class Subscriber:
    """Collects the records of a topic by paho, a client of its own, coming back after each loss."""

    def __init__(self, port: int, topic: str = "cada-edge/#", **options: Any) -> None:
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        self._topic = topic
        self.got: list[tuple[str, dict[str, Any]]] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="test-subscriber", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = lambda *given: self.got.append((given[2].topic, json.loads(given[2].payload)))
        self._client.on_connect = self._subscribe
        self._ready = threading.Event()
        self._client.on_subscribe = lambda *_: self._ready.set()
        if options.get("username"):
            self._client.username_pw_set(options["username"], options["password"])
        self._client.connect("127.0.0.1", port, keepalive=2)
        self._client.loop_start()
        assert self._ready.wait(10)

    def _subscribe(self, *_: Any) -> None:
        self._client.subscribe(self._topic, qos=1)

    def records(self) -> list[str]:
        """Their ``record`` numbers in the order of arrival."""
        return [body["record"] for _, body in self.got]

    def close(self) -> None:
        """Hang up."""
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def broker(folder: Path, settings: str = "allow_anonymous true\n") -> Iterator[Broker]:
    """A broker, killed at the end."""
    one = Broker(folder, settings)
    try:
        yield one
    finally:
        one.kill()


def free_port() -> int:
    """A TCP port of loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
