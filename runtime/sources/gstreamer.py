"""GStreamer pipelines: CSI cameras of a Jetson, hardware decoders, and whatever else ``gst-launch-1.0`` can open.

Through PyGObject and not through OpenCV: its wheels come without GStreamer, and one
installed by pip would hide JetPack's own that has it. And in this process, not through a
pipe from ``gst-launch-1.0``: so the newest picture alone is kept, with its time.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np

from cada_edge.errors import ConfigError, SourceError
from cada_edge.runtime.sources.address import Address, number
from cada_edge.runtime.sources.clock import FrameCounter
from cada_edge.runtime.sources.device import CameraSettings, OpenDevice, Shot
from cada_edge.runtime.sources.introspection import require
from cada_edge.types import UInt8Array

_PACKAGES = "gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
# One picture, the newest: with a sink's defaults a slow reader falls seconds behind.
_SINK = "videoconvert ! video/x-raw,format=RGB ! appsink name=cada_edge max-buffers=1 drop=true sync=false"


def opener(address: Address, settings: CameraSettings) -> OpenDevice:
    """What starts the pipeline. Raises `MissingDependencyError` without GStreamer, `ConfigError` for an odd address."""
    _gst()
    text = csi_pipeline(address, settings) if address.scheme == "csi" else address.target
    if not text.strip():
        raise ConfigError(f"source uri {address.label}: no pipeline, expected one such as gst://v4l2src ! jpegdec")
    return partial(GStreamerDevice, f"{text} ! {_SINK}", address.label)


def csi_pipeline(address: Address, settings: CameraSettings) -> str:
    """The pipeline of a Jetson's CSI sensor, up to the conversion to RGB. Raises `ConfigError`."""
    if not address.target.isdecimal():
        raise ConfigError(f"source uri {address.label}: got sensor {address.target!r}, expected a number as in csi://0")
    properties = [f"sensor-id={int(address.target)}"]
    if settings.exposure_us is not None:
        exposure_ns = round(settings.exposure_us * 1000)
        properties.append(f'exposuretimerange="{exposure_ns} {exposure_ns}"')
    if settings.gain_db is not None:
        gain = 10 ** (settings.gain_db / 20)
        properties += [f'gainrange="{gain:.3f} {gain:.3f}"', 'ispdigitalgainrange="1 1"']
    if settings.lock_white_balance:
        properties.append("awblock=true")
    caps = ["video/x-raw(memory:NVMM)"]
    caps += [f"{name}={round(value)}" for name in ("width", "height") if (value := number(address, name)) is not None]
    if (fps := number(address, "fps")) is not None:
        caps.append(f"framerate={round(fps * 1000)}/1000")
    return f"nvarguscamerasrc {' '.join(properties)} ! {','.join(caps)} ! nvvidconv ! video/x-raw,format=BGRx"


class GStreamerDevice:
    """A running pipeline that ends in our sink.

    Raises `SourceError` where it is no pipeline, an element is missing or it does not start.
    """

    def __init__(self, pipeline: str, label: str) -> None:
        self._gst, self._label, self._counter = _gst(), label, FrameCounter()
        try:
            self._pipeline = self._gst.parse_launch(pipeline)
        except require("GLib", "2.0", _PACKAGES).Error as error:
            raise SourceError(f"{label}: {error.message}; try the pipeline with gst-launch-1.0") from error
        self._sink, self._bus = self._pipeline.get_by_name("cada_edge"), self._pipeline.get_bus()
        paused = self._pipeline.set_state(self._gst.State.PAUSED)
        self._live = paused == self._gst.StateChangeReturn.NO_PREROLL
        failed = self._gst.StateChangeReturn.FAILURE
        if failed in (paused, self._pipeline.set_state(self._gst.State.PLAYING)):
            reason = self._problem() or "does not start"
            self.close()
            raise SourceError(f"{label}: {reason}")

    def grab(self, timeout_s: float) -> Shot | None:
        """The newest picture. Raises `SourceError` once the pipeline fails or ends."""
        sample = self._sink.try_pull_sample(int(timeout_s * 1e9))
        now_ns = time.monotonic_ns()
        if sample is not None:
            return self._shot(sample, now_ns)
        if problem := self._problem():
            raise SourceError(f"{self._label}: {problem}")
        return None

    def trigger(self) -> None:
        """Refused: a pipeline runs by itself."""
        raise SourceError(f"{self._label}: a pipeline cannot be triggered")

    def close(self) -> None:
        """Stop the pipeline and release its devices."""
        self._pipeline.set_state(self._gst.State.NULL)

    def _problem(self) -> str:
        """What the pipeline says has gone wrong, or empty."""
        message = self._bus.pop_filtered(self._gst.MessageType.ERROR | self._gst.MessageType.EOS)
        if message is None:
            return ""
        if message.type == self._gst.MessageType.EOS:
            return "the pipeline has ended"
        return f"{message.src.get_name()}: {message.parse_error()[0].message}"

    def _shot(self, sample: Any, now_ns: int) -> Shot:
        buffer, caps = sample.get_buffer(), sample.get_caps().get_structure(0)
        mapped, view = buffer.map(self._gst.MapFlags.READ)
        if not mapped:
            return Shot(_nothing, now_ns, now_ns, fault="the picture's memory cannot be read")
        try:
            data = bytes(view.data)
        finally:
            buffer.unmap(view)
        number_of = None if buffer.offset == self._gst.BUFFER_OFFSET_NONE else int(buffer.offset)
        pixels = partial(_rgb, data, caps.get_value("width"), caps.get_value("height"))
        return Shot(pixels, now_ns, self._capture_ns(buffer, now_ns), missed=self._counter.missed(number_of))

    def _capture_ns(self, buffer: Any, now_ns: int) -> int:
        """A live pipeline on the system's monotonic clock stamps its pictures on our time; others only arrive."""
        clock = self._pipeline.get_clock()
        if not self._live or buffer.pts == self._gst.CLOCK_TIME_NONE or not isinstance(clock, self._gst.SystemClock):
            return now_ns
        if clock.get_property("clock-type").value_nick != "monotonic":
            return now_ns
        return min(now_ns, int(self._pipeline.get_base_time() + buffer.pts))


def _rgb(data: bytes, width: int, height: int) -> UInt8Array | None:
    """GStreamer's RGB, whose rows are padded to 4 bytes, as uint8 (height, width, 3)."""
    stride = len(data) // height if height else 0
    if stride < 3 * width or width < 1:
        return None
    rows = np.frombuffer(data, np.uint8, stride * height).reshape(height, stride)
    return np.array(rows[:, : 3 * width]).reshape(height, width, 3)


def _gst() -> Any:
    """GStreamer, initialised, with what pulls from an appsink."""
    gst = require("Gst", "1.0", _PACKAGES)
    require("GstApp", "1.0", _PACKAGES)
    gst.init(None)
    return gst


def _nothing() -> None:
    """The pixels of a picture that cannot be read."""
