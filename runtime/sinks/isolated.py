"""Keeps a slow or broken sink away from the line, and tells it what else it wants to know."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cada_edge.errors import SinkError
from cada_edge.protocols import Sink
from cada_edge.runtime.drift import DriftReport
from cada_edge.runtime.records.rows import ResultRecord
from cada_edge.types import Frame, Prediction, Verdict

if TYPE_CHECKING:
    from cada_edge.bundle import Bundle
    from cada_edge.runtime.sinks.courier import Delivery

_Job = Callable[[], None]
TEND_PERIOD_S = 1.0
_TELL_AGAIN = 10  # at the 1st, 10th, 100th that is lost, as problems are told


@runtime_checkable
class TakesResults(Protocol):
    """A sink that keeps more than verdicts."""

    def result(self, record: ResultRecord) -> None:
        """Keep what a PLC was shown. Raises `SinkError`."""

    def drift(self, report: DriftReport) -> None:
        """Keep a test for drift. Raises `SinkError`."""


@runtime_checkable
class FollowsBundle(Protocol):
    """A sink that says which bundle judged."""

    def use_bundle(self, bundle: Bundle) -> None:
        """What comes from now on was judged by `bundle`."""


@runtime_checkable
class Tended(Protocol):
    """A sink with something to do while no verdicts come."""

    def tend(self) -> None:
        """Catch up; called every second or so. Raises `SinkError`."""


@runtime_checkable
class Delivers(Protocol):
    """A sink whose records another machine has to take."""

    def delivery(self) -> Delivery:
        """How that goes. Never waits."""


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
        pictures: hand frames over with their pictures; without, many may wait and take no room.
    """

    def __init__(
        self,
        sink: Sink,
        name: str,
        on_error: Callable[[str, Exception], None],
        depth: int = 64,
        *,
        pictures: bool = True,
    ) -> None:
        self.name, self._pictures = name, pictures
        self._sink, self._on_error = sink, on_error
        self._jobs: queue.Queue[_Job | None] = queue.Queue(depth)
        self._dropped, self._tell_at, self._failures, self._closed = 0, 1, 0, False
        self._thread = threading.Thread(target=self._work, name=f"cada-edge-{name}", daemon=True)
        self._thread.start()

    @property
    def failures(self) -> int:
        """Verdicts this sink failed on or dropped; what it keeps in memory for later is among them."""
        return self._dropped + self._failures

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Hand over one verdict."""
        shown = frame if self._pictures else replace(frame, image=None)
        self._submit(lambda: self._sink.send(verdict, shown, prediction))

    def result(self, record: ResultRecord) -> None:
        """Hand over what a PLC was shown, in its order among the verdicts; nothing where the sink keeps none."""
        sink = self._sink
        if isinstance(sink, TakesResults):
            self._submit(lambda: sink.result(record))

    def drift(self, report: DriftReport) -> None:
        """Hand over a test for drift; as `result`."""
        sink = self._sink
        if isinstance(sink, TakesResults):
            self._submit(lambda: sink.drift(report))

    def use_bundle(self, bundle: Bundle) -> None:
        """Say that the verdicts sent from now on come from `bundle`; nothing where the sink does not care."""
        sink = self._sink
        if isinstance(sink, FollowsBundle):
            self._submit(lambda: sink.use_bundle(bundle))

    def healthy(self) -> bool:
        """False while the other sink fails or its queue is full."""
        return self._sink.healthy() and not self._jobs.full()

    def delivery(self) -> Delivery | None:
        """How another machine takes the records; ``None`` where none has to."""
        return self._sink.delivery() if isinstance(self._sink, Delivers) else None

    def close(self, timeout_s: float = 5.0) -> None:
        """Let the waiting verdicts through, for at most `timeout_s`, then close the other sink."""
        if self._closed:
            return
        self._closed = True
        if self._dropped > self._tell_at // _TELL_AGAIN:
            self._tell_dropped("in all")
        try:
            self._jobs.put(None, timeout=timeout_s)
        except queue.Full:
            self._on_error(self.name, SinkError(f"{self.name} hangs: {self._jobs.qsize()} verdicts are lost there"))
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._on_error(self.name, SinkError(f"{self.name} did not finish within {timeout_s} s"))

    def _submit(self, job: _Job) -> None:
        if self._closed:
            raise SinkError(f"{self.name}: the sink is closed")
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._dropped += 1
            if self._dropped == self._tell_at:
                self._tell_at *= _TELL_AGAIN
                self._tell_dropped("so far")

    def _tell_dropped(self, when: str) -> None:
        error = SinkError(
            f"{self.name} is too slow: {self._dropped} records were lost there {when}, its queue of "
            f"{self._jobs.maxsize} was full; give it a faster disk or network, have it keep less, or take fewer frames"
        )
        self._on_error(self.name, error)

    def _work(self) -> None:
        tend_at_s = time.monotonic() + TEND_PERIOD_S
        while True:
            with suppress(queue.Empty):
                job = self._jobs.get(timeout=max(0.0, tend_at_s - time.monotonic()))
                if job is None:
                    break
                self._failures += not self._done(job)
            if time.monotonic() >= tend_at_s:  # also when verdicts never cease
                self._done(self._tend)
                tend_at_s = time.monotonic() + TEND_PERIOD_S
        self._failures += not self._done(self._sink.close)

    def _tend(self) -> None:
        if isinstance(self._sink, Tended):
            self._sink.tend()

    def _done(self, action: Callable[[], None]) -> bool:
        """False, and told, where `action` failed."""
        try:
            action()
        except Exception as error:  # noqa: BLE001  # a fault in one sink must not end its thread
            self._on_error(self.name, error)
            return False
        return True
