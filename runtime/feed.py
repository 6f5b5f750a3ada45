"""Frames of several sources, each asked for, without the line ever blocking on a camera."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from cada_edge.protocols import Source
from cada_edge.types import Frame

_LOOK_S = 0.1  # how often to see whether a camera that nobody asks for a picture is still there


@runtime_checkable
class Triggered(Protocol):
    """A source that takes a picture when it is told to."""

    def trigger(self) -> None:
        """Take one now; `frames` gives it. Must be quick. Raises `SourceError`."""


@dataclass(frozen=True)
class Demand:
    """A picture that is wanted. Times are monotonic, ns.

    Attributes:
        part: number of the trigger it is for; ``None`` in free run: any will do.
        after_ns: one that was captured earlier shows another part; in free run it is a drop.
        until_ns: a verdict after that is late; ``None`` where the trigger says nothing.
    """

    part: int | None = None
    after_ns: int = 0
    until_ns: int | None = None


@dataclass(frozen=True)
class Arrival:
    """What a feed brought: a frame, or (``None``) its end with the error that caused it."""

    feed: Feed
    frame: Frame | None
    demand: Demand = Demand()
    error: Exception | None = None


class Feed:
    """One source in its own thread, which fetches a frame only when asked.

    A live camera is thus asked when the line is ready to judge, and gives its newest
    frame; nothing ages in a queue. A demand that comes while another is still open
    replaces it: its part has been answered without it.

    Args:
        source: closed by `close`.
        name: its id.
        inbox: where frames go.
        latency_ns: from exposure to the time that its frames call capture, >= 0: what such a
            camera has captured within that time after a trigger, it has seen before.
        keeps_every: the source keeps every picture until it is asked for one, and finds a lost
            camera again whether or not it is asked.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        inbox: queue.Queue[Arrival],
        latency_ns: int = 0,
        *,
        keeps_every: bool = False,
    ) -> None:
        self.name, self.ended, self.broken = name, False, False
        self._spare: Frame | None = None
        self.trouble = ""  # why a picture that nobody asked for was none
        self._source, self._inbox, self._latency_ns = source, inbox, latency_ns
        self._keeps_every, self._finds_itself = keeps_every, keeps_every or isinstance(source, Triggered)
        self._demands: queue.Queue[Demand | None] = queue.Queue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"cada-edge-feed-{name}", daemon=True)
        self._thread.start()

    def ask(self, demand: Demand = Demand()) -> None:  # immutable
        """Ask for one more frame; it comes through the inbox. Safe from any thread."""
        self._demands.put(demand)

    def healthy(self) -> bool:
        """False once it broke, and while the source is lost; a source that ended is not."""
        return not self.broken and (self.ended or self._source.healthy())

    def close(self, timeout_s: float = 2.0) -> None:
        """Close the source and wait for the thread. Safe to call twice."""
        self._closed.set()
        self._source.close()
        self._demands.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        error: Exception | None = None
        try:
            frames, first = self._source.frames(), self._keeps_every
            while (demand := self._awaited(frames)) is not None:
                if first and demand.part is None:  # in free run what waits is of parts that are long gone
                    demand = replace(demand, after_ns=time.monotonic_ns())
                first = False
                if not self._deliver(frames, demand):
                    break
        except Exception as caught:  # noqa: BLE001  # handed to the line, which decides
            error = caught
        self._inbox.put(Arrival(self, None, error=error))

    def _awaited(self, frames: Iterator[Frame]) -> Demand | None:
        """The next demand; ``None`` at the end.

        A source that is lost is opened again meanwhile, and its first picture forgotten: a
        station without a camera is offline, takes no trigger and thus never asks for one.
        """
        while True:
            with contextlib.suppress(queue.Empty):
                return self._demands.get(timeout=_LOOK_S)
            if self._finds_itself or self._source.healthy():
                continue
            if self._closed.is_set() or (frame := next(frames, None)) is None:
                return None
            self.trouble = frame.note if frame.status == "incomplete" else ""
            self._spare = None if self._demands.empty() else frame  # it may be what is asked for meanwhile

    def _deliver(self, frames: Iterator[Frame], demand: Demand) -> bool:
        """Put the first frame that is new enough into the inbox; false when there is none any more."""
        demand, passed_over = self._newest(demand), 0
        self._trigger(demand)
        spare, self._spare = self._spare, None
        for frame in frames if spare is None else itertools.chain((spare,), frames):
            if self._closed.is_set():
                return False
            newest = self._newest(demand)
            if newest is not demand:
                demand = newest
                self._trigger(demand)
            if self._is_new(frame, demand):
                self.trouble = frame.note if frame.status == "incomplete" else ""
                shown = replace(frame, part=demand.part, drops=frame.drops + passed_over)
                self._inbox.put(Arrival(self, shown, demand))
                return True
            passed_over += 1 + frame.drops if demand.part is None else 0
        return False

    def _is_new(self, frame: Frame, demand: Demand) -> bool:
        """Whether it shows what is wanted; that a camera was lost, or lost a picture, counts from when it is known."""
        if frame.status == "incomplete":
            return frame.t_arrival_ns >= demand.after_ns
        return frame.t_capture_ns - self._latency_ns >= demand.after_ns

    def _newest(self, demand: Demand) -> Demand:
        """The last demand there is; those before it are answered without a picture."""
        with contextlib.suppress(queue.Empty):
            while (newer := self._demands.get_nowait()) is not None:
                demand = newer
            self._closed.set()
        return demand

    def _trigger(self, demand: Demand) -> None:
        if demand.part is not None and isinstance(self._source, Triggered):
            self._source.trigger()


class Feeds:
    """All sources of a line. Each has at most one frame under way: they take turns.

    Args:
        sources: with their ids.
        latency_ns: by id, see `Feed`; 0 for others.
        keeping: ids of those that keep every picture, see `Feed`.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, Source]],
        latency_ns: Mapping[str, int] | None = None,
        keeping: Container[str] = (),
    ) -> None:
        # No SimpleQueue: in CPython 3.11 a signal at the end of a time-out can leave one waiting for ever.
        self._inbox: queue.Queue[Arrival] = queue.Queue()
        delays = latency_ns or {}
        self._feeds = {
            name: Feed(source, name, self._inbox, delays.get(name, 0), keeps_every=name in keeping)
            for name, source in sources
        }

    def ask(self, source_id: str, demand: Demand = Demand()) -> None:  # immutable
        """Ask one source for a frame. Safe from any thread."""
        self._feeds[source_id].ask(demand)

    def take(self, timeout_s: float, most: int = 1) -> list[Arrival]:
        """The next arrivals, at most `most`; waits `timeout_s` for the first."""
        arrivals: list[Arrival] = []
        with contextlib.suppress(queue.Empty):
            arrivals.append(self._inbox.get(timeout=timeout_s))
            while len(arrivals) < most:
                arrivals.append(self._inbox.get_nowait())
        for arrival in arrivals:
            if arrival.frame is None:
                arrival.feed.ended, arrival.feed.broken = True, arrival.error is not None
        return arrivals

    @property
    def waiting(self) -> int:
        """Arrivals that nobody has taken yet, more or less: feeds go on meanwhile."""
        return self._inbox.qsize()

    @property
    def all(self) -> tuple[Feed, ...]:
        """Every feed, in the order of its source."""
        return tuple(self._feeds.values())

    def ended(self) -> bool:
        """True when no source can give a frame any more."""
        return all(feed.ended for feed in self.all)

    def lost(self) -> frozenset[str]:
        """Ids of the sources that broke, or that have not ended but give nothing at present."""
        return frozenset(feed.name for feed in self.all if not feed.healthy())

    def close(self) -> None:
        """Close every source. Safe to call twice."""
        for feed in self.all:
            feed.close()
