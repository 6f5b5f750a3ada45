"""What OpenCV opens: video files, V4L2 cameras and network streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from cada_edge.errors import SourceError
from cada_edge.runtime.sources.device import CameraSettings, Shot
from cada_edge.runtime.sources.pace import Pace
from cada_edge.types import Frame, UInt8Array

OPEN_TIMEOUT_MS, READ_TIMEOUT_MS = 3000, 2000  # what a camera that is back waits for at most, if it was ill before


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` we use."""

    def isOpened(self) -> bool:  # noqa: N802  # OpenCV's name
        """True once opened; OpenCV keeps it True after the stream is dead."""

    def read(self) -> tuple[bool, Any]:
        """A flag and the picture, BGR."""

    def release(self) -> None:
        """Close the device."""


OpenCapture = Callable[[], Capture]


class CaptureDevice:
    """A live camera behind OpenCV. It tells neither time nor number of a picture.

    Raises `SourceError` when it cannot be opened.
    """

    def __init__(self, open_capture: OpenCapture, label: str) -> None:
        self._label, self._capture = label, open_capture()
        if not self._capture.isOpened():
            self.close()
            raise SourceError(f"{label}: cannot be opened; is it on, reachable, and not in use by another program?")

    def grab(self, timeout_s: float) -> Shot:
        """The next picture. OpenCV itself decides how long it waits; `timeout_s` is not heeded."""
        del timeout_s
        good, picture = self._capture.read()
        now_ns = time.monotonic_ns()
        if not good:
            raise SourceError(f"{self._label}: the stream has ended or stands still")
        return Shot(partial(to_rgb, picture), now_ns, now_ns)

    def trigger(self) -> None:
        """Refused: OpenCV has no way to trigger."""
        raise SourceError(f"{self._label}: cannot be triggered through OpenCV")

    def close(self) -> None:
        """Release the capture."""
        self._capture.release()


def open_stream(url: str) -> cv2.VideoCapture:
    """A network stream through FFmpeg, with time limits: OpenCV's own are 30 s."""
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)


def open_device(device: str, settings: CameraSettings | None = None) -> Capture:
    """A V4L2 device by path; a driver's queue of one picture where the driver allows it.

    Raises `SourceError` when the driver refuses an exposure, gain or white balance.
    """
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2, [cv2.CAP_PROP_BUFFERSIZE, 1])
    if capture.isOpened() and settings is not None:
        for name, prop, value in _controls(settings):
            if not capture.set(prop, value):
                capture.release()
                raise SourceError(f"{device}: the driver refuses {name} = {value:g}; see `v4l2-ctl -L`")
    return capture


def _controls(settings: CameraSettings) -> list[tuple[str, int, float]]:
    """V4L2 controls as OpenCV calls them; exposure is in units of 100 us, 1 means manual."""
    wanted: list[tuple[str, int, float]] = []
    if settings.exposure_us is not None:
        wanted += [("auto_exposure", cv2.CAP_PROP_AUTO_EXPOSURE, 1)]
        wanted += [("exposure_time_absolute", cv2.CAP_PROP_EXPOSURE, max(1, round(settings.exposure_us / 100)))]
    if settings.lock_white_balance:
        wanted += [("white_balance_automatic", cv2.CAP_PROP_AUTO_WB, 0)]
    return wanted


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
            shot = Shot(partial(to_rgb, picture), time.monotonic_ns(), captured_ns)
            yield shot.frame(self._source_id, frame_id, drops=0)
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
