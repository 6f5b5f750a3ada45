"""Keeps a slow or broken sink away from the line."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from cada_edge.errors import CadaEdgeError, SinkError
from cada_edge.protocols import Sink
from cada_edge.types import Frame, Prediction, Verdict

_Job = tuple[Verdict, Frame, Prediction | None]


class IsolatedSink:
    """Runs another sink in a thread behind a short queue.

    `send` never blocks and never raises for what the other sink does: failures are told
    to `on_error` and show in `healthy`. When the queue is full the verdict is dropped
    *for this sink alone* and counted.

    Args:
        sink: the one to isolate; closed by `close`.
        name: for messages.
        on_error: called from the sink's thread with each failure; must be quick.
        depth: verdicts that may wait, > 0.
    """

    def __init__(self, sink: Sink, name: str, on_error: Callable[[str, Exception], None], depth: int = 64) -> None:
        self.name = name
        self._sink, self._on_error = sink, on_error
        self._jobs: queue.Queue[_Job | None] = queue.Queue(depth)
        self._dropped, self._failures, self._closed = 0, 0, False
        self._thread = threading.Thread(target=self._work, name=f"cada-edge-{name}", daemon=True)
        self._thread.start()

    @property
    def failures(self) -> int:
        """Verdicts this sink lost: failed or dropped."""
        return self._dropped + self._failures

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Hand over one verdict."""
        if self._closed:
            raise SinkError(f"{self.name}: the sink is closed")
        try:
            self._jobs.put_nowait((verdict, frame, prediction))
        except queue.Full:
            self._dropped += 1
            if self._dropped == 1:
                self._on_error(self.name, SinkError(f"{self.name} is too slow: verdicts are not kept there"))

    def healthy(self) -> bool:
        """False while the other sink fails or its queue is full."""
        return self._sink.healthy() and not self._jobs.full()

    def close(self, timeout_s: float = 5.0) -> None:
        """Let the waiting verdicts through, for at most `timeout_s`, then close the other sink."""
        if self._closed:
            return
        self._closed = True
        try:
            self._jobs.put(None, timeout=timeout_s)
        except queue.Full:
            self._on_error(self.name, SinkError(f"{self.name} hangs: {self._jobs.qsize()} verdicts are lost there"))
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._on_error(self.name, SinkError(f"{self.name} did not finish within {timeout_s} s"))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._guard(lambda job=job: self._sink.send(*job))  # type: ignore[misc]  # bound to this turn's job
        self._guard(self._sink.close)

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except CadaEdgeError as error:
            self._failures += 1
            self._on_error(self.name, error)
        except Exception as error:  # noqa: BLE001  # a fault in one sink must not end its thread
            self._failures += 1
            self._on_error(self.name, error)
