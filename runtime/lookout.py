"""What people and systemd are told of a running line, by its loop and nobody else."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from cada_edge.runtime.board import StatusBoard
from cada_edge.runtime.changes import Changes, OnChange
from cada_edge.runtime.drift import DriftReport
from cada_edge.runtime.judge import Judgement
from cada_edge.runtime.plc.wire import Health
from cada_edge.runtime.status import DriftStatus, SinkStatus, SourceStatus
from cada_edge.runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from cada_edge.bundle import Bundle
    from cada_edge.runtime.sinks.courier import Delivery

_UPDATE_NS = 500_000_000
_ARRIVALS_KEPT = 50


class _Outlet(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def failures(self) -> int: ...
    def healthy(self) -> bool: ...
    def delivery(self) -> Delivery | None: ...


class _Feed(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def trouble(self) -> str: ...
    def healthy(self) -> bool: ...


@dataclass
class _Seen:
    """What came of one source."""

    frames: int = 0
    drops: int = 0
    error: str = ""
    trouble: str = ""  # why its newest picture was none
    arrivals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_ARRIVALS_KEPT))

    def fps(self) -> float | None:
        """Frames a second over the last arrivals."""
        span_ns = self.arrivals_ns[-1] - self.arrivals_ns[0] if self.arrivals_ns else 0
        return round((len(self.arrivals_ns) - 1) / span_ns * 1e9, 2) if span_ns > 0 else None

    def age_ms(self, now_ns: int) -> float | None:
        """Of the newest frame."""
        return round((now_ns - self.arrivals_ns[-1]) / 1e6, 1) if self.arrivals_ns else None


class Lookout:
    """Keeps the status board up to date and systemd's watchdog quiet. For the line's thread.

    Args:
        board: what the operator's page and the metrics show; ``None`` without a page.
        watchdog: fed once a turn: a loop that hangs starves it.
        clock: monotonic, ns.
        on_change: called with what goes away and comes back; nobody by default.
    """

    def __init__(
        self,
        board: StatusBoard | None = None,
        watchdog: Watchdog | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        on_change: OnChange | None = None,
    ) -> None:
        self._board, self._watchdog, self._clock = board, watchdog or Watchdog(), clock
        self._changes = Changes(on_change) if on_change is not None else None
        self._seen: defaultdict[str, _Seen] = defaultdict(_Seen)
        self._next_ns = 0

    def ready(self) -> None:
        """The model is warm and the sources are open."""
        self._watchdog.ready()

    def verdict(self, judgement: Judgement) -> None:
        """One more verdict was published."""
        frame = judgement.frame
        seen = self._seen[frame.source_id]
        seen.frames, seen.drops = seen.frames + 1, seen.drops + frame.drops
        seen.arrivals_ns.append(frame.t_arrival_ns)
        seen.trouble = frame.note if frame.status == "incomplete" else ""
        if self._board is not None:
            self._board.verdict(judgement.verdict, frame, judgement.prediction)

    def source_failed(self, name: str, error: Exception) -> None:
        """A source broke."""
        self._seen[name].error = str(error)

    def use_bundle(self, name: str, bundle: Bundle) -> None:
        """Another model or threshold judges from now on, from the file of this name."""
        if self._board is not None:
            threshold, spec = bundle.manifest.threshold, bundle.manifest.spec
            self._board.reload(name, bundle.sha256, threshold.value if threshold else None, spec)

    def turn(
        self,
        feeds: Iterable[_Feed],
        sinks: Iterable[_Outlet],
        health: Health | None = None,
        drift: Iterable[DriftReport] = (),
    ) -> None:
        """The loop came round once more; `health` is that of stations and links, where there are any."""
        self._watchdog.alive()
        now_ns = self._clock()
        if self._changes is not None:
            self._changes.look(now_ns, [self._health_of(feed) for feed in feeds], health)
        if self._board is None:
            return
        self._board.alive()
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + _UPDATE_NS
        self._board.update(
            sources=tuple(self._source(feed, now_ns) for feed in feeds),
            stations=health.stations if health else (),
            links=health.links if health else (),
            sinks=tuple(_sink(sink) for sink in sinks),
            drift=tuple(_drift(report) for report in drift),
        )

    def stopping(self) -> None:
        """The line goes down on purpose."""
        self._watchdog.stopping()

    def _health_of(self, feed: _Feed) -> SourceStatus:
        seen, healthy = self._seen[feed.name], feed.healthy()
        if healthy:  # the next loss has a reason of its own
            seen.trouble = ""
        return SourceStatus(feed.name, healthy, error=seen.error or seen.trouble or feed.trouble)

    def _source(self, feed: _Feed, now_ns: int) -> SourceStatus:
        seen = self._seen[feed.name]
        return SourceStatus(
            feed.name, feed.healthy(), seen.frames, seen.drops, seen.fps(), seen.age_ms(now_ns), seen.error
        )


def _sink(sink: _Outlet) -> SinkStatus:
    status, delivery = SinkStatus(sink.name, sink.healthy(), sink.failures), sink.delivery()
    if delivery is None:
        return status
    return replace(status, reached=delivery.reached, waiting=delivery.waiting, error=delivery.error)


def _drift(report: DriftReport) -> DriftStatus:
    return DriftStatus(
        report.source_id,
        report.n,
        report.distance,
        report.p_value,
        report.drifted,
        report.novelty_median,
        report.novelty_limit,
        report.feature_drifted,
    )
