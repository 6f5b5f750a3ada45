"""Frames of several sources, in turn, without the line ever blocking on a camera."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from cada_edge.protocols import Source
from cada_edge.types import Frame


@dataclass(frozen=True)
class Arrival:
    """What a feed brought: a frame, or (``None``) its end with the error that caused it."""

    feed: Feed
    frame: Frame | None
    error: Exception | None = None


class Feed:
    """One source in its own thread, which fetches a frame only when asked.

    A live camera is thus asked when the line is ready to judge, and gives its newest
    frame; nothing ages in a queue.
    """

    def __init__(self, source: Source, name: str, inbox: queue.SimpleQueue[Arrival]) -> None:
        self.name, self.ended, self.broken = name, False, False
        self._source, self._inbox = source, inbox
        self._demand, self._closed = threading.Semaphore(0), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"cada-edge-feed-{name}", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Ask for one more frame; it comes through the inbox."""
        self._demand.release()

    def healthy(self) -> bool:
        """False once it broke, and while the source is lost; a source that ended is not."""
        return not self.broken and (self.ended or self._source.healthy())

    def close(self, timeout_s: float = 2.0) -> None:
        """Close the source and wait for the thread. Safe to call twice."""
        self._closed.set()
        self._source.close()
        self._demand.release()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        error: Exception | None = None
        try:
            frames = self._source.frames()
            while self._demand.acquire() and not self._closed.is_set():
                if (frame := next(frames, None)) is None:
                    break
                self._inbox.put(Arrival(self, frame))
        except Exception as caught:  # noqa: BLE001  # handed to the line, which decides
            error = caught
        self._inbox.put(Arrival(self, None, error))


class Feeds:
    """All sources of a line. Each has at most one frame under way: they take turns."""

    def __init__(self, sources: Sequence[tuple[str, Source]]) -> None:
        self._inbox: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._feeds = [Feed(source, name, self._inbox) for name, source in sources]

    def start(self) -> None:
        """Ask every source for its first frame."""
        for feed in self._feeds:
            feed.ask()

    def take(self, timeout_s: float) -> Arrival | None:
        """The next arrival, or ``None`` after `timeout_s`. Ask its feed again when done with it."""
        try:
            arrival = self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if arrival.frame is None:
            arrival.feed.ended, arrival.feed.broken = True, arrival.error is not None
        return arrival

    @property
    def all(self) -> tuple[Feed, ...]:
        """Every feed, in the order of its source."""
        return tuple(self._feeds)

    def ended(self) -> bool:
        """True when no source can give a frame any more."""
        return all(feed.ended for feed in self._feeds)

    def lost(self) -> list[str]:
        """Names of the sources that broke, or that have not ended but give nothing at present."""
        return [feed.name for feed in self._feeds if not feed.healthy()]

    def close(self) -> None:
        """Close every source. Safe to call twice."""
        for feed in self._feeds:
            feed.close()
