"""What systemd wants to hear: ready, still alive, stopping. A few datagrams, no library.

Outside systemd, where ``NOTIFY_SOCKET`` is not set, every call does nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping

_STATUS_CHARS = 200


class Watchdog:
    """Speaks for one process. Only the pipeline's loop may call `alive`: a hung loop must fall silent.

    Args:
        address: of systemd's datagram socket, abstract where it starts with ``@``; empty for none.
        period_s: between two signs of life, half of what systemd waits for; ``None`` where it does not watch.
        clock: monotonic, s.
    """

    def __init__(
        self, address: str = "", period_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._period_s, self._clock, self._next_s = period_s, clock, float("-inf")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if address else None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Watchdog:
        """As systemd says in ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``."""
        microseconds = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watched = mine and microseconds.isascii() and microseconds.isdigit() and int(microseconds) > 0
        return cls(environment.get("NOTIFY_SOCKET", ""), int(microseconds) / 2e6 if watched else None)

    def ready(self) -> None:
        """The line is online, or is again after `reloading`."""
        self._tell("READY=1")

    def alive(self) -> None:
        """A sign of life; to be called in every turn of the loop, sent no more often than systemd needs."""
        if self._period_s is None or (now_s := self._clock()) < self._next_s:
            return
        self._next_s = now_s + self._period_s
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._tell("STATUS=" + " ".join(text.split())[:_STATUS_CHARS])

    def reloading(self) -> None:
        """A new model or threshold is on its way; `ready` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The line goes down on purpose."""
        self._tell("STOPPING=1")

    def close(self) -> None:
        """Release the socket. Safe to call twice; later calls do nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, message: str) -> None:
        if self._socket is None:
            return
        # systemd restarts what it no longer hears: nothing better can be done here than to go on inspecting.
        with contextlib.suppress(OSError):
            self._socket.sendto(message.encode("utf-8", "replace"), self._address)
