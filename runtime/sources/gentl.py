"""Cameras of any maker who brings a GenTL producer (a ``.cti`` file), through harvesters."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

from cada_edge.errors import MissingDependencyError, SourceError
from cada_edge.runtime.sources.address import Address
from cada_edge.runtime.sources.clock import DeviceClock, FrameCounter
from cada_edge.runtime.sources.device import CameraSettings, OpenDevice, Shot
from cada_edge.runtime.sources.genicam import Value, configure
from cada_edge.runtime.sources.pixels import decode, find_format

_BUFFERS = 8


def opener(address: Address, settings: CameraSettings) -> OpenDevice:
    """What opens the camera. Raises `MissingDependencyError` without harvesters, `SourceError` without the producer."""
    _harvesters()
    if not address.path.is_file():
        raise SourceError(f"{address.path}: no such GenTL producer; the camera's driver brings a .cti file")
    return partial(GenTlDevice, address, settings)


class GenTlDevice:
    """One camera behind a producer.

    Raises `SourceError` where it is not found, is another program's, or refuses a setting.
    """

    def __init__(self, address: Address, settings: CameraSettings) -> None:
        self._label, self._producer = address.label, str(address.path)
        self._clock, self._counter = DeviceClock(), FrameCounter()
        self._harvester = _harvesters().Harvester()
        self._camera: Any = None
        try:
            self._camera = self._find(address.options.get("serial", ""))
            self._nodes = self._camera.remote_device.node_map
            configure(_GenTlFeatures(self._nodes), address, settings)
            self._camera.num_buffers = _BUFFERS
            self._camera.start()
        except SourceError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise SourceError(f"{self._label}: {error}; is it another program's, or off?") from error

    def grab(self, timeout_s: float) -> Shot | None:
        """The oldest buffer; one that is not whole has a fault. Raises `SourceError` when the producer fails."""
        try:
            buffer = self._camera.try_fetch(timeout=timeout_s)
        except Exception as error:
            raise SourceError(f"{self._label}: {error}") from error
        if buffer is None:
            return None
        now_ns = time.monotonic_ns()
        try:
            return self._shot(buffer, now_ns)
        finally:
            buffer.queue()

    def trigger(self) -> None:
        """Expose now. Raises `SourceError` when the camera does not answer."""
        try:
            self._nodes.TriggerSoftware.execute()
        except Exception as error:
            raise SourceError(f"{self._label}: trigger: {error}") from error

    def close(self) -> None:
        """Stop, release the camera and unload the producer."""
        with suppress(Exception):  # a camera that is gone cannot be stopped; what can be freed is freed
            if self._camera is not None:
                self._camera.destroy()
        self._harvester.reset()

    def _find(self, serial: str) -> Any:
        """The camera of that serial number; the first one found where it is empty."""
        self._harvester.add_file(self._producer, check_existence=True, check_validity=True)
        self._harvester.update()
        found = [info.serial_number for info in self._harvester.device_info_list]
        if not found or (serial and serial not in found):
            shown = ", ".join(found) or "no camera at all"
            raise SourceError(f"{self._label}: no camera of serial number {serial or 'any'}; found: {shown}")
        return self._harvester.create(found.index(serial) if serial else 0)

    def _shot(self, buffer: Any, now_ns: int) -> Shot:
        module = buffer.module
        missed = self._counter.missed(_known(module, "frame_id"))
        if not _known(module, "is_complete", assumed=True):
            return Shot(_nothing, now_ns, now_ns, missed=missed, fault="incomplete buffer")
        component = buffer.payload.components[0]
        pixel_format = find_format(component.data_format, self._label)
        pixels = partial(decode, component.data.tobytes(), component.width, component.height, pixel_format)
        device_ns = _known(module, "timestamp_ns") or None
        return Shot(pixels, now_ns, self._clock.capture_ns(device_ns, now_ns), device_ns, missed)


class _GenTlFeatures:
    """Features through the camera's node map."""

    def __init__(self, nodes: Any) -> None:
        self._nodes = nodes

    def has(self, name: str) -> bool:
        node = getattr(self._nodes, name, None)
        return node is not None and bool(import_module("genicam.genapi").is_writable(node))

    def set(self, name: str, value: Value) -> None:
        getattr(self._nodes, name).value = value


def _known(module: Any, name: str, assumed: Any = None) -> Any:
    """What a producer says of a buffer; `assumed` where it does not say."""
    try:
        return getattr(module, name)
    except Exception:  # noqa: BLE001  # GenTL: not available, not implemented, wrong producer version
        return assumed


def _harvesters() -> Any:
    try:
        return import_module("harvesters.core")
    except ModuleNotFoundError as error:
        raise MissingDependencyError("harvesters is not installed; run: pip install 'cada-edge[gentl]'") from error


def _nothing() -> None:
    """The pixels of a buffer that is not whole."""
