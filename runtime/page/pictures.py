"""What the page shows as pictures: JPEG of the newest part, its heatmap on the fixed scale, the scale itself."""

from __future__ import annotations

from collections import OrderedDict, deque

import cv2
import numpy as np

from cada_edge.errors import LineError
from cada_edge.heatmap import LIMIT, colours, overlay
from cada_edge.imaging import as_rgb
from cada_edge.runtime.board import Snapshot
from cada_edge.runtime.status import REJECTS_KEPT, PartStatus
from cada_edge.types import UInt8Array

SOURCES_KEPT, PICTURES_KEPT = 64, 4
_QUALITY = 82


class Album:
    """The newest pictures of each source and small ones of the last rejects; encoded when asked, once.

    A page asks for what the status named a moment ago: `PICTURES_KEPT` of each source are
    kept, so that it gets the very part it names, heatmap included.
    """

    def __init__(self) -> None:
        self._newest: OrderedDict[str, deque[Snapshot]] = OrderedDict()
        self._encoded: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._thumbnails: OrderedDict[int, bytes] = OrderedDict()

    def put(self, snapshot: Snapshot) -> None:
        """Take the newest picture of a source."""
        self._newest.setdefault(snapshot.part.source, deque(maxlen=PICTURES_KEPT)).append(snapshot)
        self._newest.move_to_end(snapshot.part.source)
        while len(self._newest) > SOURCES_KEPT:
            self._newest.popitem(last=False)

    def put_thumbnail(self, snapshot: Snapshot) -> None:
        """Take a reject's picture: with its heatmap where there is one."""
        self._thumbnails[snapshot.part.number] = jpeg(heatmap(snapshot) if snapshot.map is not None else snapshot.image)
        while len(self._thumbnails) > 2 * REJECTS_KEPT:  # a page may still ask for what just fell off the list
            self._thumbnails.popitem(last=False)

    def parts(self) -> dict[str, tuple[PartStatus, bool]]:
        """By source, the part whose picture is the newest, and whether it has a heatmap."""
        return {source: (kept[-1].part, kept[-1].map is not None) for source, kept in self._newest.items()}

    def numbers(self) -> list[int]:
        """Of the rejects that have a thumbnail."""
        return list(self._thumbnails)

    def picture(self, source: str, number: int | None = None) -> bytes | None:
        """JPEG of that part, or of the newest; ``None`` where there is none."""
        snapshot = self._find(source, number)
        return None if snapshot is None else self._once("image", snapshot)

    def heatmap(self, source: str, number: int | None = None) -> bytes | None:
        """JPEG of that part, or of the newest, under its heatmap; ``None`` where there is none."""
        snapshot = self._find(source, number)
        return None if snapshot is None or snapshot.map is None else self._once("heatmap", snapshot)

    def thumbnail(self, number: int) -> bytes | None:
        """JPEG of a reject, or ``None``."""
        return self._thumbnails.get(number)

    def _find(self, source: str, number: int | None) -> Snapshot | None:
        kept = self._newest.get(source)
        if kept is None:
            return None
        return next((s for s in kept if s.part.number == number), kept[-1])

    def _once(self, kind: str, snapshot: Snapshot) -> bytes:
        key = (kind, snapshot.part.number)
        if key not in self._encoded:
            self._encoded[key] = jpeg(snapshot.image if kind == "image" else heatmap(snapshot))
            while len(self._encoded) > 2 * SOURCES_KEPT:
                self._encoded.popitem(last=False)
        return self._encoded[key]


def heatmap(snapshot: Snapshot) -> UInt8Array:
    """uint8 (h, w, 3) RGB: the picture under its map. Raises `LineError` without a map."""
    if snapshot.map is None:
        raise LineError(f"part {snapshot.part.number} has no map to show")
    return overlay(snapshot.image, snapshot.map, snapshot.spec)


def scale() -> bytes:
    """PNG of the heatmap's colours from `LIMIT`, on top, to 0: 1 pixel wide, 256 high."""
    ramp = colours(np.linspace(LIMIT, 0, 256, dtype=np.float32)[:, None])
    return _encode(".png", ramp, [])


def jpeg(image: UInt8Array) -> bytes:
    """A picture, uint8 (h, w, 3) RGB, as JPEG."""
    return _encode(".jpg", as_rgb(image), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])


def _encode(suffix: str, image: UInt8Array, settings: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, np.ascontiguousarray(image[:, :, ::-1]), settings)
    if not done:
        raise LineError(f"a picture of shape {image.shape} could not be encoded as {suffix}")
    return data.tobytes()
