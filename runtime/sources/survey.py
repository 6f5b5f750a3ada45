"""What a source gives, measured on its first frames: for setting a camera up."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from cada_edge.errors import SourceError
from cada_edge.protocols import Source
from cada_edge.runtime.sources.open import PreparedTriggeredSource
from cada_edge.runtime.sources.quality import Quality, measure
from cada_edge.types import Frame, UInt8Array

SHEET_PICTURES, _THUMB_PX, _COLUMNS, _GAP_PX = 16, 200, 4, 4


@dataclass(frozen=True)
class Sighting:
    """One frame as it was handed over.

    Attributes:
        frame: without its picture.
        size: width and height, px, or ``None`` without a picture.
        age_ms: from capture to being handed over.
        interval_ms: from the arrival before to this one's; ``None`` for the first.
        quality: of its picture, or ``None`` without one.
    """

    frame: Frame
    size: tuple[int, int] | None
    age_ms: float
    interval_ms: float | None
    quality: Quality | None


@dataclass(frozen=True)
class Survey:
    """The frames seen.

    Attributes:
        sightings: in order; at least one.
        thumbnails: small pictures of the first `SHEET_PICTURES` frames that have one, uint8 (h, w, 3).
        whole: whether all frames asked for came in time.
    """

    sightings: tuple[Sighting, ...]
    thumbnails: tuple[UInt8Array, ...]
    whole: bool

    @property
    def drops(self) -> int:
        """Frames lost after the first: what was lost before it, nobody has waited for."""
        return sum(one.frame.drops for one in self.sightings[1:])

    @property
    def statuses(self) -> dict[str, int]:
        """How many frames of each status."""
        return dict(Counter(one.frame.status for one in self.sightings))

    def age_ms(self, percent: float) -> float:
        """Percentile of the ages, ms."""
        return _percentile([one.age_ms for one in self.sightings], percent)

    def interval_ms(self, percent: float) -> float:
        """Percentile of the intervals, ms; NaN of one frame."""
        return _percentile([one.interval_ms for one in self.sightings if one.interval_ms is not None], percent)

    def quality_range(self, value: Callable[[Quality], float]) -> tuple[float, float]:
        """Lowest and highest of what `value` takes of each picture; NaN without a picture."""
        found = [value(one.quality) for one in self.sightings if one.quality is not None]
        return (min(found), max(found)) if found else (math.nan, math.nan)


def pictures(source: Source, count: int, timeout_s: float) -> Iterator[Frame]:
    """The next `count` frames, triggered where the source wants it. After `timeout_s` it is closed, with fewer."""
    alarm = threading.Timer(timeout_s, source.close)
    alarm.start()
    try:
        frames = source.frames()
        for _ in range(count):
            if isinstance(source, PreparedTriggeredSource):
                source.trigger()
            if (frame := next(frames, None)) is None:
                return
            yield frame
    finally:
        alarm.cancel()


def survey(source: Source, count: int, timeout_s: float = 30.0) -> Survey:
    """Look at the next `count` frames of a source.

    Raises `SourceError` when not one comes within `timeout_s`.
    """
    sightings: list[Sighting] = []
    thumbnails: list[UInt8Array] = []
    for frame in pictures(source, count, timeout_s):
        sightings.append(_sighting(frame, sightings[-1].frame if sightings else None))
        if frame.image is not None and len(thumbnails) < SHEET_PICTURES:
            thumbnails.append(_thumbnail(frame.image))
    if not sightings:
        raise SourceError(f"no frame within {timeout_s:g} s; is something triggering the camera?")
    return Survey(tuple(sightings), tuple(thumbnails), len(sightings) == count)


def contact_sheet(thumbnails: tuple[UInt8Array, ...]) -> UInt8Array:
    """Pictures side by side, four in a row, on grey: uint8 (H, W, 3). Raises `SourceError` for none."""
    if not thumbnails:
        raise SourceError("no picture for the contact sheet: not one frame is whole")
    height = max(one.shape[0] for one in thumbnails) + _GAP_PX
    width = max(one.shape[1] for one in thumbnails) + _GAP_PX
    columns = min(_COLUMNS, len(thumbnails))
    rows = math.ceil(len(thumbnails) / columns)
    sheet = np.full((rows * height + _GAP_PX, columns * width + _GAP_PX, 3), 128, np.uint8)
    for index, one in enumerate(thumbnails):
        top, left = _GAP_PX + index // columns * height, _GAP_PX + index % columns * width
        sheet[top : top + one.shape[0], left : left + one.shape[1]] = one
    return sheet


def _sighting(frame: Frame, last: Frame | None) -> Sighting:
    now_ns = time.monotonic_ns()
    image = frame.image
    return Sighting(
        frame=replace(frame, image=None),
        size=None if image is None else (image.shape[1], image.shape[0]),
        age_ms=(now_ns - frame.t_capture_ns) / 1e6,
        interval_ms=None if last is None else (frame.t_arrival_ns - last.t_arrival_ns) / 1e6,
        quality=None if image is None else measure(image),
    )


def _thumbnail(image: UInt8Array) -> UInt8Array:
    factor = min(1.0, _THUMB_PX / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _percentile(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else math.nan
