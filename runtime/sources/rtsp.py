"""A network camera through FFmpeg, as OpenCV brings it."""

from __future__ import annotations

from functools import partial

from cada_edge.runtime.sources.address import Address
from cada_edge.runtime.sources.device import CameraSettings, OpenDevice
from cada_edge.runtime.sources.opencv import CaptureDevice, open_stream


def opener(address: Address, settings: CameraSettings) -> OpenDevice:
    """What opens the stream."""
    del settings  # a stream cannot be told anything
    return partial(CaptureDevice, partial(open_stream, address.uri), address.label)
