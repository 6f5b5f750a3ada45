"""GigE Vision and USB3 Vision cameras of any maker, through Aravis."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

from cada_edge.errors import SourceError
from cada_edge.runtime.sources.address import Address, number
from cada_edge.runtime.sources.clock import DeviceClock, FrameCounter
from cada_edge.runtime.sources.device import CameraSettings, OpenDevice, Shot
from cada_edge.runtime.sources.genicam import Value, configure
from cada_edge.runtime.sources.introspection import require
from cada_edge.runtime.sources.pixels import decode, find_format

_BUFFERS = 8
_PACKAGES = "gir1.2-aravis-0.8"


def opener(address: Address, settings: CameraSettings) -> OpenDevice:
    """What opens the camera. Raises `MissingDependencyError` without Aravis."""
    require("Aravis", "0.8", _PACKAGES)
    return partial(AravisDevice, address, settings)


class AravisDevice:
    """One camera under our control.

    Raises `SourceError` where it is not found, is another program's, or refuses a setting.
    """

    def __init__(self, address: Address, settings: CameraSettings) -> None:
        self._aravis, self._error = require("Aravis", "0.8", _PACKAGES), require("GLib", "2.0", _PACKAGES).Error
        self._label, self._gone = address.label, threading.Event()
        self._clock, self._counter = DeviceClock(), FrameCounter()
        try:
            self._camera = self._find(address.target)
            configure(_AravisFeatures(self._camera), address, settings)
            self._set_packet_size(number(address, "packet_size"))
            self._format = find_format(self._camera.get_pixel_format_as_string(), self._label)
            self._device = self._camera.get_device()
            self._handler = self._device.connect("control-lost", _setter(self._gone))
            self._stream = self._start()
        except self._error as error:
            raise SourceError(f"{self._label}: {error.message}; is it another program's, or off?") from error

    def grab(self, timeout_s: float) -> Shot | None:
        """The oldest buffer; one with packets missing has a fault. Raises `SourceError` once control is lost."""
        buffer = self._stream.timeout_pop_buffer(int(timeout_s * 1e6))
        now_ns = time.monotonic_ns()
        if buffer is None:
            if self._gone.is_set():
                raise SourceError(f"{self._label}: the camera no longer answers")
            return None
        try:
            return self._shot(buffer, now_ns)
        finally:
            self._stream.push_buffer(buffer)

    def trigger(self) -> None:
        """Expose now. Raises `SourceError` when the camera does not answer."""
        try:
            self._camera.software_trigger()
        except self._error as error:
            raise SourceError(f"{self._label}: trigger: {error.message}") from error

    def close(self) -> None:
        """Stop and give control back; a camera that is gone cannot be told."""
        self._device.disconnect(self._handler)
        try:
            self._camera.stop_acquisition()
        except self._error:
            self._gone.set()
        del self._stream, self._device, self._camera

    def _find(self, name: str) -> Any:
        """The camera by address, full name or serial number; the first one found where `name` is empty."""
        if not name or name.count(".") == 3:
            return self._aravis.Camera.new(name or None)
        known = self._listed()
        if name not in known:
            self._aravis.update_device_list()  # asks the network, one second
            known = self._listed()
        if name not in known:
            shown = ", ".join(sorted(known.keys() - set(known.values()))) or "no camera at all"
            raise SourceError(f"{self._label}: no such camera; found serial numbers: {shown}")
        try:
            return self._aravis.Camera.new(known[name])
        except self._error:
            self._aravis.update_device_list()  # it may have a new address; the next attempt will know
            raise

    def _listed(self) -> dict[str, str]:
        """Full names of the cameras known, by serial number and by themselves."""
        aravis = self._aravis
        ids = range(aravis.get_n_devices())
        names = {aravis.get_device_serial_nbr(index): aravis.get_device_id(index) for index in ids}
        return {**names, **{name: name for name in names.values()}}

    def _set_packet_size(self, size: float | None) -> None:
        """GigE Vision: as told, else the largest that passes the network."""
        if not self._camera.is_gv_device():
            return
        if size is not None:
            self._camera.gv_set_packet_size(int(size))
        else:
            self._camera.gv_auto_packet_size()

    def _start(self) -> Any:
        stream, payload = self._camera.create_stream(None, None), self._camera.get_payload()
        for _ in range(_BUFFERS):
            stream.push_buffer(self._aravis.Buffer.new_allocate(payload))
        self._camera.start_acquisition()
        return stream

    def _shot(self, buffer: Any, now_ns: int) -> Shot:
        missed = self._counter.missed(buffer.get_frame_id())
        status = buffer.get_status()
        if status != self._aravis.BufferStatus.SUCCESS:
            return Shot(_nothing, now_ns, now_ns, missed=missed, fault=f"incomplete buffer: {status.value_nick}")
        device_ns = buffer.get_timestamp() or None
        pixels = partial(decode, buffer.get_data(), buffer.get_image_width(), buffer.get_image_height(), self._format)
        return Shot(pixels, now_ns, self._clock.capture_ns(device_ns, now_ns), device_ns, missed)


class _AravisFeatures:
    """Features through Aravis, which keeps types apart."""

    def __init__(self, camera: Any) -> None:
        self._camera = camera

    def has(self, name: str) -> bool:
        return bool(self._camera.is_feature_available(name))

    def set(self, name: str, value: Value) -> None:
        if isinstance(value, bool):
            self._camera.set_boolean(name, value)
        elif isinstance(value, str):
            self._camera.set_string(name, value)
        else:
            self._camera.set_float(name, value)


def _setter(event: threading.Event) -> Any:
    """A signal handler that holds the event alone: one that held the device would keep it from being released."""
    return lambda _device: event.set()


def _nothing() -> None:
    """The pixels of a buffer that is not whole."""
