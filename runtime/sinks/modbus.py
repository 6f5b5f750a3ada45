"""Verdicts for a PLC that polls: a Modbus TCP server in a process of its own."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cada_edge
from cada_edge.errors import SinkError
from cada_edge.runtime.publisher import Publisher
from cada_edge.runtime.registers import OfflineReason, StatusBlock, encode, to_bytes
from cada_edge.runtime.sinks.modbus_server import ServerOptions, pack_message
from cada_edge.types import Frame, Prediction, Verdict

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 5.0
_MODULE = "cada_edge.runtime.sinks.modbus_server"


class ModbusSink:
    """Shows the status block as holding and input registers.

    The server lives in its own process: a busy pipeline cannot slow the PLC's polling,
    and a pipeline that hangs or dies cannot keep the heartbeat alive. Sending never
    blocks. Use as a context manager, or call `close`.
    """

    def __init__(self, options: ServerOptions, publisher: Publisher) -> None:
        self._options, self._publisher = options, publisher
        self._pipe, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = _spawn(theirs, options)
        try:
            self.port = self._await_port()
        except BaseException:
            self.close()
            raise
        self._pipe.setblocking(False)

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Publish one verdict as one block. Raises `SinkError` if the server is gone."""
        self._publish(self._publisher.verdict(verdict, frame, prediction))

    def alive(self) -> None:
        """A sign of life: model and sources are ready and the pipeline moves.

        To be called well within `stale_ms`. Raises `SinkError` if the server is gone.
        """
        self._publish(self._publisher.online())

    def offline(self, reason: OfflineReason) -> None:
        """Show the safe state. Raises `SinkError`."""
        self._publish(self._publisher.offline(reason))

    @property
    def address(self) -> str:
        """Host and port it listens on."""
        return f"{self._options.host}:{self.port}"

    def healthy(self) -> bool:
        """False once the server process has ended."""
        return self._process.poll() is None

    def close(self) -> None:
        """Leave the safe state readable for `linger_ms`, then end the server."""
        self._pipe.close()
        try:
            self._process.wait(_STOP_TIMEOUT_S + self._options.linger_ms / 1000)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _publish(self, block: StatusBlock) -> None:
        message = pack_message(time.monotonic_ns(), to_bytes(encode(block)))
        try:
            self._pipe.send(message)
        except OSError as error:
            raise SinkError(
                f"the Modbus server at {self.address} takes no more blocks ({error.strerror}); "
                "the PLC sees a stopped heartbeat or no connection; restart the line"
            ) from error

    def _await_port(self) -> int:
        self._pipe.settimeout(_START_TIMEOUT_S)
        try:
            reply = self._pipe.recv(4096)
        except TimeoutError as error:
            raise SinkError(f"the Modbus server did not start within {_START_TIMEOUT_S:.0f} s; try again") from error
        if not reply:
            code = self._process.wait()
            raise SinkError(f"the Modbus server ended at start with exit code {code}; is pymodbus installed?")
        answer: dict[str, Any] = json.loads(reply)
        if "port" not in answer:
            raise SinkError(_explain(self._options, answer))
        return int(answer["port"])


def _spawn(theirs: socket.socket, options: ServerOptions) -> subprocess.Popen[bytes]:
    root = str(Path(cada_edge.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", _MODULE, "--fd", str(theirs.fileno()), "--options", options.to_json()]
    return subprocess.Popen(  # noqa: S603  # our own module, our own arguments, no shell
        command, pass_fds=[theirs.fileno()], env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL
    )


def _explain(options: ServerOptions, answer: dict[str, Any]) -> str:
    advice = {
        errno.EADDRINUSE: "another program listens there; stop it or set another sinks.modbus.port",
        errno.EACCES: "ports below 1024 need a privilege; set sinks.modbus.port to 1502, say, or grant "
        "CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "this machine has no such address; set sinks.modbus.host to one of its own",
    }.get(answer.get("errno", 0), "check sinks.modbus.host and sinks.modbus.port")
    return f"Modbus cannot listen on {options.host}:{options.port}: {answer['error']}; {advice}"
