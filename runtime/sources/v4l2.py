"""A camera of this machine through Video4Linux."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cada_edge.errors import SourceError
from cada_edge.runtime.sources.address import Address
from cada_edge.runtime.sources.device import CameraSettings, OpenDevice
from cada_edge.runtime.sources.opencv import CaptureDevice, open_device


def opener(address: Address, settings: CameraSettings) -> OpenDevice:
    """What opens the camera; raises `SourceError` where there is none at that path."""
    return partial(_open, address.path, settings)


def _open(path: Path, settings: CameraSettings) -> CaptureDevice:
    if not path.exists():
        raise SourceError(f"{path}: no such camera; `ls /dev/video*` shows those connected")
    return CaptureDevice(partial(open_device, str(path), settings), str(path))
