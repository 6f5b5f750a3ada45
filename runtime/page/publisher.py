"""Feeds the page's process from a `StatusBoard`, and never lets it matter to the line."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cada_edge
from cada_edge.errors import MissingDependencyError, SinkError
from cada_edge.runtime.board import StatusBoard
from cada_edge.runtime.page.config import PageConfig
from cada_edge.runtime.page.wire import pack, pack_picture

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

THUMBNAIL_PX = 160
START_TIMEOUT_S = 20.0
SEND_TIMEOUT_S = 5.0  # a page that takes nothing for so long hangs and is replaced
FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 1.0, 60.0
_STOP_TIMEOUT_S = 2.0
_MODULE = "cada_edge.runtime.page"


class PagePublisher:
    """Shows a board in a process of its own.

    One thread starts the process, sends it status and pictures at the configured rates,
    and starts it anew with a back-off when it ends or hangs. The line never waits for
    it: it only writes to the board. Use as a context manager, or call `close`.

    Args:
        board: what to show.
        config: where and how often.
        on_problem: called from the thread with ``page`` and each failure; must be quick.

    Raises:
        MissingDependencyError: the page's packages are not installed.
    """

    def __init__(self, board: StatusBoard, config: PageConfig, on_problem: Callable[[str, Exception], None]) -> None:
        if find_spec("h11") is None:
            raise MissingDependencyError(
                "line.yaml asks for a page, which needs the package 'h11'; "
                "install it with: pip install 'cada-edge[page]', or remove the section `page`"
            )
        self._board, self._config, self._on_problem = board, config, on_problem
        self._closing, self._peer, self._lock = threading.Event(), None, threading.Lock()
        self.starts = 0
        self._thread = threading.Thread(target=self._run, name="cada-edge-page", daemon=True)
        self._thread.start()

    _peer: _Peer | None

    @property
    def port(self) -> int | None:
        """TCP port the page listens on; ``None`` while it does not."""
        peer = self._peer
        return None if peer is None else peer.port

    @property
    def pid(self) -> int | None:
        """Of the page's process; ``None`` while there is none."""
        peer = self._peer
        return None if peer is None else peer.pid

    def healthy(self) -> bool:
        """True while the page listens."""
        return self.port is not None

    def close(self) -> None:
        """End the process and the thread. Safe to call twice."""
        self._closing.set()
        with self._lock:
            if self._peer is not None:
                self._peer.hang_up()
        self._thread.join(_STOP_TIMEOUT_S + SEND_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        """Start, feed, and start again, for as long as the line lives."""
        back_off_s = FIRST_BACK_OFF_S
        while not self._closing.is_set():
            started_s = time.monotonic()
            try:
                self._show()
            except Exception as error:  # noqa: BLE001  # whatever breaks the page, the line goes on and the page comes back
                if not self._closing.is_set():
                    self._on_problem("page", error)
            if time.monotonic() - started_s > LONGEST_BACK_OFF_S:
                back_off_s = FIRST_BACK_OFF_S
            self._closing.wait(back_off_s)
            back_off_s = min(2 * back_off_s, LONGEST_BACK_OFF_S)

    def _show(self) -> None:
        """One life of the page's process. Raises `SinkError` at its end, unless `close` ended it."""
        self.starts += 1
        with _Peer(self._config) as peer:
            with self._lock:
                self._peer = peer
            try:
                peer.await_port()
                self._feed(peer)
            finally:
                with self._lock:
                    self._peer = None

    def _feed(self, peer: _Peer) -> None:
        status_s = 1 / self._config.status_hz
        picture_s = 1 / self._config.pictures_hz if self._config.pictures_hz else float("inf")
        next_status_s = next_picture_s = time.monotonic()
        while not self._closing.wait(max(0.0, min(next_status_s, next_picture_s) - time.monotonic())):
            now_s = time.monotonic()
            if now_s >= next_status_s:
                peer.send(pack({"kind": "status"}, self._board.snapshot().to_json()))
                next_status_s = now_s + status_s
            if now_s >= next_picture_s:
                self._send_pictures(peer)
                next_picture_s = now_s + picture_s

    def _send_pictures(self, peer: _Peer) -> None:
        if picture := self._board.take_picture():
            peer.send(pack_picture("picture", picture, self._config.side_px))
        if reject := self._board.take_thumbnail():
            peer.send(pack_picture("thumbnail", reject, THUMBNAIL_PX))


class _Peer:
    """The page's process and the pipeline's end of the socket."""

    def __init__(self, config: PageConfig) -> None:
        self._config, self.port = config, None
        self._pipe, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._process = _spawn(theirs, config)

    port: int | None

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up, which ends a process that lives; end one that hangs."""
        self._pipe.close()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def hang_up(self) -> None:
        """End whatever the thread is waiting for here. Safe from another thread."""
        try:
            self._pipe.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other side was faster
            return

    def await_port(self) -> None:
        """Wait until it listens. Raises `SinkError` saying why it does not."""
        self._pipe.settimeout(START_TIMEOUT_S)
        try:
            reply = self._pipe.makefile("rb").readline(4096)
        except OSError as error:
            raise SinkError(f"the page did not start within {START_TIMEOUT_S:.0f} s: {error}") from error
        answer: dict[str, Any] = json.loads(reply or b"{}")
        if "port" not in answer:
            raise SinkError(_explain(self._config, answer))
        self.port = int(answer["port"])
        self._pipe.settimeout(SEND_TIMEOUT_S)

    def send(self, message: bytes) -> None:
        """Hand over one message. Raises `SinkError` when the process is gone or hangs."""
        try:
            self._pipe.sendall(message)
        except TimeoutError as error:
            raise SinkError(f"the page took nothing for {SEND_TIMEOUT_S:.0f} s; it is started again") from error
        except OSError as error:
            raise SinkError(f"the page's process has ended ({error.strerror}); it is started again") from error


def _spawn(theirs: socket.socket, config: PageConfig) -> subprocess.Popen[bytes]:
    root = str(Path(cada_edge.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", _MODULE, "--fd", str(theirs.fileno()), "--config", config.model_dump_json()]
    return subprocess.Popen(  # noqa: S603  # our own module, our own arguments, no shell
        command, pass_fds=[theirs.fileno()], env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL
    )


def _explain(config: PageConfig, answer: dict[str, Any]) -> str:
    advice = {
        errno.EADDRINUSE: "another program listens there; stop it or set another page.port",
        errno.EACCES: "ports below 1024 need a privilege; set page.port to 8080, say",
        errno.EADDRNOTAVAIL: "this machine has no such address; set page.host to one of its own",
    }.get(answer.get("errno", 0), "check page.host and page.port")
    reason = answer.get("error", "its process ended at once")
    return f"the page cannot listen on {config.host}:{config.port}: {reason}; {advice}; the line runs without it"
