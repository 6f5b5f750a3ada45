"""From the pipeline to the page's process: one-way messages over a stream socket.

A message is two lengths, a JSON header and two blocks of bytes::

    >III    bytes of header, first, second
    header  {"kind": "status"}                   first: LineStatus as JSON
            {"kind": "picture" | "thumbnail",    first: uint8 (h, w, 3) RGB
             "part": {...}, "image": [h, w],     second: float32 map, little-endian, or nothing
             "map": [h, w] | null, "spec": {...}}

The page answers once, at its start: ``{"port": 8080}`` or ``{"errno": 98, "error": "..."}``
and a line feed.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np

from cada_edge.errors import LineError
from cada_edge.runtime.board import Snapshot
from cada_edge.runtime.status import PartStatus
from cada_edge.types import ImageSpec, UInt8Array, from_json, to_json

PREFIX = struct.Struct(">III")
MAX_BYTES = 1 << 27  # a picture has at most 1280 x 1280 x 3 bytes, a map at most 4096 x 4096 x 4
Kind = Literal["status", "picture", "thumbnail"]


@dataclass(frozen=True)
class Message:
    """One message as it came."""

    header: dict[str, Any]
    first: bytes
    second: bytes

    @property
    def kind(self) -> str:
        """``status``, ``picture`` or ``thumbnail``."""
        return str(self.header.get("kind"))

    def snapshot(self) -> Snapshot:
        """The picture in it. Raises `LineError` where sizes and bytes disagree."""
        try:
            image = np.frombuffer(self.first, np.uint8).reshape(*self.header["image"], 3)
            shape = self.header["map"]
            found = None if shape is None else np.frombuffer(self.second, "<f4").reshape(shape).astype(np.float32)
            part, spec = PartStatus(**self.header["part"]), from_json(ImageSpec, self.header["spec"])
        except (KeyError, TypeError, ValueError) as error:
            raise LineError(f"picture message: {error}; is the sender of another version?") from error
        return Snapshot(part, image, found, spec)


def pack(header: dict[str, Any], first: bytes, second: bytes = b"") -> bytes:
    """The bytes of one message."""
    text = json.dumps(header).encode()
    return b"".join((PREFIX.pack(len(text), len(first), len(second)), text, first, second))


def pack_picture(kind: Kind, snapshot: Snapshot, side_px: int) -> bytes:
    """A picture with its map, the picture shrunk to `side_px`; never enlarged."""
    image = shrink(snapshot.image, side_px)
    cells = snapshot.map
    header = {
        "kind": kind,
        "part": asdict(snapshot.part),
        "image": image.shape[:2],
        "map": None if cells is None else cells.shape,
        "spec": to_json(snapshot.spec),
    }
    return pack(header, image.tobytes(), b"" if cells is None else cells.astype("<f4").tobytes())


def sizes(prefix: bytes) -> tuple[int, int, int]:
    """Bytes of header, first and second block. Raises `LineError` for more than `MAX_BYTES`."""
    lengths = PREFIX.unpack(prefix)
    if sum(lengths) > MAX_BYTES:
        raise LineError(f"message of {sum(lengths)} bytes, expected at most {MAX_BYTES}")
    return lengths


def shrink(image: UInt8Array, side_px: int) -> UInt8Array:
    """`image` with its longer side at most `side_px`.

    Halved while it can be, then linear: one step of means over parts of pixels would cost the
    line ten times as much.
    """
    while max(image.shape[:2]) >= 2 * side_px and min(image.shape[:2]) >= 2:
        even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
        image = _resized(even, 0.5, cv2.INTER_AREA)
    scale = side_px / max(image.shape[:2])
    return image if scale >= 1 else _resized(image, scale, cv2.INTER_LINEAR)


def _resized(image: UInt8Array, scale: float, interpolation: int) -> UInt8Array:
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
