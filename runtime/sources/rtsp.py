"""A network camera through FFmpeg, as OpenCV brings it."""

from __future__ import annotations

import time
from functools import partial

import cv2

from cada_edge.errors import SourceError
from cada_edge.runtime.sources.address import Address
from cada_edge.runtime.sources.clock import DeviceClock
from cada_edge.runtime.sources.device import CameraSettings, OpenDevice, Shot
from cada_edge.runtime.sources.opencv import OPEN_TIMEOUT_MS, open_stream, to_rgb

_SETTLE_S, _USUAL_FPS = 5.0, 25.0


def opener(address: Address, settings: CameraSettings) -> OpenDevice:
    """What opens the stream."""
    del settings  # a stream cannot be told anything
    return partial(StreamDevice, address.uri, address.label)


class StreamDevice:
    """A live stream, from its newest picture on.

    Opening takes FFmpeg a second, and the pictures of that second come first, each looking
    new: they are read and forgotten. Afterwards the stream's own times tell which pictures
    a stutter of the network has delayed. What encoder and network always take cannot be
    known here: pictures are dated so much too late.

    Raises `SourceError` when it cannot be opened.
    """

    def __init__(self, url: str, label: str) -> None:
        self._label, self._clock = label, DeviceClock()
        began_s = time.monotonic()
        self._capture = open_stream(url)
        if not self._capture.isOpened():
            self.close()
            raise SourceError(f"{label}: cannot be opened; is it on, reachable, and are user and password right?")
        if time.monotonic() - began_s >= OPEN_TIMEOUT_MS / 1000:
            # FFmpeg, cut off while it looks for pictures, calls itself open; every read would fail after two seconds.
            self.close()
            raise SourceError(f"{label}: no picture within {OPEN_TIMEOUT_MS / 1000:g} s of connecting; is it a camera?")
        self._settle()

    def grab(self, timeout_s: float) -> Shot:
        """The next picture. FFmpeg itself waits, two seconds at most; `timeout_s` is not heeded."""
        del timeout_s
        good, picture = self._capture.read()
        now_ns = time.monotonic_ns()
        if not good:
            raise SourceError(f"{self._label}: the stream has ended or stands still")
        stream_ns = int(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6) or None
        return Shot(partial(to_rgb, picture), now_ns, self._clock.capture_ns(stream_ns, now_ns), stream_ns)

    def trigger(self) -> None:
        """Refused: a stream runs by itself."""
        raise SourceError(f"{self._label}: a stream cannot be triggered")

    def close(self) -> None:
        """Hang up."""
        self._capture.release()

    def _settle(self) -> None:
        """Read until a picture had to be waited for: then the one at hand is the camera's newest."""
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        waited_s = 0.5 / (fps if 1 <= fps <= 240 else _USUAL_FPS)
        until_s = time.monotonic() + _SETTLE_S
        while (began_s := time.monotonic()) < until_s:
            self.grab(0)
            if time.monotonic() - began_s > waited_s:
                return
