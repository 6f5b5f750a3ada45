"""Messages to a pipeline that may be busy, or hang, without ever waiting for it."""

from __future__ import annotations

import asyncio
import socket
from collections import deque

from cada_edge.runtime.handshake import Published
from cada_edge.runtime.plc.journal import Journal
from cada_edge.runtime.plc.wire import Message, pack

_KEPT = 100_000  # results of hours; a pipeline that hangs longer has long been restarted


class Outbox:
    """Sends in order. For the thread of the event loop it is made on.

    Args:
        pipe: a non-blocking SEQPACKET socket.

    Attributes:
        journal: is given every result as well, for a pipeline that is killed before it writes it.
    """

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe, self._loop = pipe, asyncio.get_running_loop()
        self.journal: Journal | None = None
        self._waiting: deque[bytes] = deque(maxlen=_KEPT)

    def put(self, message: Message, station: str = "") -> None:
        """Send now, or as soon as the pipeline reads again."""
        packet = pack(message, station)
        if self.journal is not None and isinstance(message, Published):
            self.journal.put(packet)
        self._waiting.append(packet)
        if len(self._waiting) == 1:
            self._flush()

    def offer(self, message: Message, station: str = "") -> None:
        """Send now or never: what has a newer one soon."""
        if not self._waiting:
            self.put(message, station)

    def _flush(self) -> None:
        try:
            while self._waiting:
                self._pipe.send(self._waiting[0])
                self._waiting.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._pipe, self._flush)
            return
        except OSError:  # the pipeline is gone; the reader's end of file says so too
            self._waiting.clear()
        self._loop.remove_writer(self._pipe)
