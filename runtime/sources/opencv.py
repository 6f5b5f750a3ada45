"""What OpenCV opens: video files here, and the captures that `camera.py` grabs from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from cada_edge.errors import SourceError
from cada_edge.runtime.sources.pace import Pace
from cada_edge.types import Frame, UInt8Array

OPEN_TIMEOUT_MS, READ_TIMEOUT_MS = 5000, 2000


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` we use."""

    def isOpened(self) -> bool:  # noqa: N802  # OpenCV's name
        """True once opened; OpenCV keeps it True after the stream is dead."""

    def read(self) -> tuple[bool, Any]:
        """A flag and the picture, BGR."""

    def release(self) -> None:
        """Close the device."""


OpenCapture = Callable[[], Capture]


def open_stream(url: str) -> Capture:
    """A network stream through FFmpeg, with time limits: OpenCV's own are 30 s."""
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)


def open_device(device: str) -> Capture:
    """A V4L2 device by path; a driver's queue of one picture where the driver allows it."""
    return cv2.VideoCapture(device, cv2.CAP_V4L2, [cv2.CAP_PROP_BUFFERSIZE, 1])


def open_video(path: Path) -> Capture:
    """A video file."""
    return cv2.VideoCapture(str(path), cv2.CAP_ANY)


def to_rgb(picture: Any) -> UInt8Array | None:
    """OpenCV's picture - uint8 grey, BGR or BGRA - as RGB (H, W, 3); ``None`` for anything else."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or 0 in picture.shape:
        return None
    channels = 1 if picture.ndim == 2 else picture.shape[2] if picture.ndim == 3 else 0
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if code is None:
        return None
    rgb: npt.NDArray[Any] = cv2.cvtColor(picture, code)
    return np.asarray(rgb, np.uint8)


class VideoSource:
    """Every frame of a video file, in order.

    Args:
        open_capture: opens the file; see `open_video`.
        label: what to call the file in messages.
        source_id: name of the source in verdicts.
        fps: frames per second; ``None`` gives the next one whenever it is asked for.
        loop: open the file again at its end.

    Raises:
        SourceError: the file cannot be opened or, in `frames`, has not one readable frame.
    """

    def __init__(
        self,
        open_capture: OpenCapture,
        label: str,
        source_id: str = "video",
        fps: float | None = None,
        loop: bool = False,
    ) -> None:
        self._open_capture, self._label, self._source_id, self._loop = open_capture, label, source_id, loop
        self._pace, self._stop, self._ended = Pace(fps), threading.Event(), False
        self._capture = self._open()

    def frames(self) -> Iterator[Frame]:
        """Yield the frames until the file ends; for ever with `loop`."""
        frame_id = 0
        while self._pace.wait(self._stop):
            captured_ns = time.monotonic_ns()
            good, picture = self._capture.read()
            if not good:
                if frame_id == 0:
                    raise SourceError(f"{self._label}: not one frame can be read; is it a video, and whole?")
                if not self._loop:
                    break
                self._capture.release()
                self._capture = self._open()
                continue
            yield make_frame(to_rgb(picture), self._source_id, frame_id, captured_ns)
            frame_id += 1
        self._ended = True
        self._capture.release()

    def healthy(self) -> bool:
        """False after the last frame or `close`."""
        return not (self._ended or self._stop.is_set())

    def close(self) -> None:
        """End `frames`, which then releases the file. Safe to call twice."""
        self._stop.set()

    def _open(self) -> Capture:
        capture = self._open_capture()
        if not capture.isOpened():
            capture.release()
            raise SourceError(f"{self._label}: cannot be opened as a video; check the path and the format")
        return capture


def make_frame(
    image: UInt8Array | None, source_id: str, frame_id: int, t_capture_ns: int, *, drops: int = 0, name: str = ""
) -> Frame:
    """A frame that arrives now; ``incomplete`` without an image."""
    return Frame(
        image=image,
        source_id=source_id,
        frame_id=frame_id,
        t_capture_ns=t_capture_ns,
        t_arrival_ns=time.monotonic_ns(),
        drops=drops,
        status="ok" if image is not None else "incomplete",
        name=name,
    )
