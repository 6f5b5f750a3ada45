"""Where the line pins what it has done, and others read it: cheap to write, safe from any thread."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cada_edge.runtime.host import Host
from cada_edge.runtime.status import (
    LATENCY_BUCKETS_S,
    POINTS_KEPT,
    REJECTS_KEPT,
    DriftStatus,
    LatencyStatus,
    LineStatus,
    LinkStatus,
    PartStatus,
    ScorePoint,
    SinkStatus,
    SourceStatus,
    StationStatus,
    VerdictCount,
)
from cada_edge.types import Float32Array, Frame, ImageSpec, Prediction, UInt8Array, Verdict
from cada_edge.version import __version__

_LATENCIES_KEPT = 2000
_THUMBNAILS_WAITING = 2  # whole pictures held for their thumbnails; in a run of rejects most go without


@dataclass(frozen=True)
class Snapshot:
    """A judged part with its picture, still at full size and shared with the line: read only.

    Attributes:
        part: what was said of it.
        image: uint8 (H, W, 3) RGB.
        map: float32 (h, w), aligned, or ``None`` where the model said nothing.
        spec: how the picture became the model's input.
    """

    part: PartStatus
    image: UInt8Array
    map: Float32Array | None
    spec: ImageSpec


class StatusBoard:
    """The line's notice board.

    The line's loop calls `verdict` for each part, `alive` each turn, and `update` when it
    knows more; none of them copies a picture, encodes or does I/O. A thread of the page
    calls `snapshot` and takes pictures.

    Args:
        bundle: file name of the model.
        bundle_sha256: `Bundle.sha256`.
        threshold: the operating point, or ``None``.
        spec: how pictures become the model's input.
        disk: a path on the file system whose free space matters.
    """

    def __init__(
        self, bundle: str, bundle_sha256: str, threshold: float | None, spec: ImageSpec, disk: Path = Path()
    ) -> None:
        self._spec, self._host, self._lock = spec, Host(disk), threading.Lock()
        now_s = time.time()
        self._status = LineStatus(__version__, bundle, bundle_sha256, threshold, now_s, now_s, time.monotonic())
        self._alive_mono_s = time.monotonic()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._newest: dict[str, PartStatus] = {}
        self._pictures: dict[str, Snapshot] = {}
        self._rejects: deque[PartStatus] = deque(maxlen=REJECTS_KEPT)
        self._thumbnails: deque[Snapshot] = deque(maxlen=_THUMBNAILS_WAITING)
        self._history: deque[ScorePoint] = deque(maxlen=POINTS_KEPT)
        self._latencies_s: deque[float] = deque(maxlen=_LATENCIES_KEPT)
        self._buckets = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self._latency_sum_s, self._number = 0.0, 0

    def verdict(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Note one verdict; keeps the newest picture of its source by reference."""
        latency_s = (verdict.t_decided_ns - verdict.t_capture_ns) / 1e9
        with self._lock:
            self._number += 1
            part = _part(self._number, verdict)
            self._alive_mono_s = time.monotonic()
            self._counts[part.source, part.status] += 1
            self._newest[part.source] = part
            self._history.append(ScorePoint(part.t_unix_s, part.source, part.score, part.threshold, part.status))
            self._latencies_s.append(latency_s)
            self._latency_sum_s += latency_s
            self._buckets[bisect_left(LATENCY_BUCKETS_S, latency_s)] += 1
            if not verdict.passed:
                self._rejects.appendleft(part)
            if frame.image is not None:
                taken = Snapshot(part, frame.image, None if prediction is None else prediction.map[0], self._spec)
                self._pictures[part.source] = taken
                if not verdict.passed:
                    self._thumbnails.append(taken)

    def alive(self) -> None:
        """A sign of life of the pipeline's loop, and of nobody else: without it the page turns grey."""
        self._alive_mono_s = time.monotonic()

    def update(
        self,
        *,
        sources: tuple[SourceStatus, ...] | None = None,
        stations: tuple[StationStatus, ...] | None = None,
        links: tuple[LinkStatus, ...] | None = None,
        sinks: tuple[SinkStatus, ...] | None = None,
        drift: tuple[DriftStatus, ...] | None = None,
    ) -> None:
        """Replace what is given; the rest stays."""
        given = {"sources": sources, "stations": stations, "links": links, "sinks": sinks, "drift": drift}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        with self._lock:
            self._status = replace(self._status, **changes)

    def reload(self, bundle: str, bundle_sha256: str, threshold: float | None, spec: ImageSpec) -> None:
        """Another model or threshold judges from now on; arguments as of the class."""
        with self._lock:
            self._spec = spec
            self._status = replace(self._status, bundle=bundle, bundle_sha256=bundle_sha256, threshold=threshold)

    def snapshot(self) -> LineStatus:
        """The line now. Reads the machine's state from files: not for the line's own thread."""
        host = self._host.status()
        with self._lock:
            latencies_s, status = list(self._latencies_s), self._status
            changes: dict[str, Any] = {
                "t_unix_s": time.time(),
                "alive_mono_s": self._alive_mono_s,
                "verdicts": tuple(_counted(source, self._counts) for source in self._newest),
                "newest": tuple(self._newest.values()),
                "rejects": tuple(self._rejects),
                "history": tuple(self._history),
            }
            latency = LatencyStatus(
                count=self._number, sum_s=self._latency_sum_s, buckets=tuple(self._buckets[: len(LATENCY_BUCKETS_S)])
            )
        return replace(status, **changes, host=host, latency=_with_percentiles(latency, latencies_s))

    def take_picture(self) -> Snapshot | None:
        """The newest picture of the source that has waited longest, each once; ``None`` for nothing new."""
        with self._lock:
            if not self._pictures:
                return None
            return self._pictures.pop(min(self._pictures, key=lambda source: self._pictures[source].part.number))

    def take_thumbnail(self) -> Snapshot | None:
        """The oldest reject whose picture waits to be shrunk, each once; ``None`` for none."""
        with self._lock:
            return self._thumbnails.popleft() if self._thumbnails else None


def _part(number: int, verdict: Verdict) -> PartStatus:
    return PartStatus(
        number=number,
        source=verdict.source_id,
        frame_id=verdict.frame_id,
        name=verdict.name,
        status=verdict.status,
        score=_number(verdict.score),
        threshold=_number(verdict.threshold),
        reason=verdict.reason,
        t_unix_s=time.time(),
        t_mono_s=verdict.t_decided_ns / 1e9,
    )


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _counted(source: str, counts: Counter[tuple[str, str]]) -> VerdictCount:
    return VerdictCount(source, counts[source, "ok"], counts[source, "ng"], counts[source, "undecided"])


def _with_percentiles(latency: LatencyStatus, latencies_s: list[float]) -> LatencyStatus:
    if not latencies_s:
        return latency
    p50, p99 = np.percentile(latencies_s, (50, 99)) * 1000
    return replace(latency, p50_ms=round(float(p50), 3), p99_ms=round(float(p99), 3))
