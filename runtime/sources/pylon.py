"""Basler cameras through their own driver, pypylon."""

from __future__ import annotations

import time
from functools import partial
from importlib import import_module
from typing import Any

from cada_edge.errors import MissingDependencyError, SourceError
from cada_edge.runtime.sources.address import Address
from cada_edge.runtime.sources.clock import DeviceClock, FrameCounter
from cada_edge.runtime.sources.device import CameraSettings, OpenDevice, Shot
from cada_edge.runtime.sources.genicam import Value, configure
from cada_edge.runtime.sources.pixels import decode, find_format

_BUFFERS, _READY_MS = 8, 200


def opener(address: Address, settings: CameraSettings) -> OpenDevice:
    """What opens the camera. Raises `MissingDependencyError` without pypylon."""
    _pylon()
    return partial(PylonDevice, address, settings)


class PylonDevice:
    """One Basler camera, or one of the emulator's.

    Raises `SourceError` where it is not found, is another program's, or refuses a setting.
    """

    def __init__(self, address: Address, settings: CameraSettings) -> None:
        self._pylon, self._label = _pylon(), address.label
        self._clock, self._counter = DeviceClock(), FrameCounter()
        self._camera = self._find(address.target)
        try:
            self._camera.Open()
            configure(_PylonFeatures(self._camera.GetNodeMap()), address, settings)
            self._format = find_format(self._camera.PixelFormat.Value, self._label)
            self._tick_ns = self._read_tick_ns()
            self._camera.MaxNumBuffer.Value = _BUFFERS
            self._camera.StartGrabbing(self._pylon.GrabStrategy_OneByOne)
        except self._pylon.GenericException as error:
            self.close()
            raise SourceError(f"{self._label}: {_words(error)}") from error
        except SourceError:
            self.close()
            raise

    def grab(self, timeout_s: float) -> Shot | None:
        """The oldest buffer; one that failed has a fault. Raises `SourceError` once the camera is removed."""
        try:
            result = self._camera.RetrieveResult(int(timeout_s * 1000), self._pylon.TimeoutHandling_Return)
        except self._pylon.GenericException as error:
            raise SourceError(f"{self._label}: {_words(error)}") from error
        now_ns = time.monotonic_ns()
        if result.IsValid():
            with result:
                return self._shot(result, now_ns)
        if self._camera.IsCameraDeviceRemoved() or not self._camera.IsGrabbing():
            raise SourceError(f"{self._label}: the camera is gone")
        return None

    def trigger(self) -> None:
        """Expose now. Raises `SourceError` when the camera is not ready within 200 ms, or gone."""
        try:
            if not self._camera.WaitForFrameTriggerReady(_READY_MS, self._pylon.TimeoutHandling_Return):
                raise SourceError(f"{self._label}: not ready for a trigger within {_READY_MS} ms")
            self._camera.ExecuteSoftwareTrigger()
        except self._pylon.GenericException as error:
            raise SourceError(f"{self._label}: trigger: {_words(error)}") from error

    def close(self) -> None:
        """Stop and release the camera. Pylon accepts this of one that is gone."""
        self._camera.Close()

    def _find(self, serial: str) -> Any:
        """The camera of that serial number; the first one found where it is empty."""
        factory = self._pylon.TlFactory.GetInstance()
        found = {info.GetSerialNumber(): info for info in factory.EnumerateDevices()}
        info = next(iter(found.values()), None) if not serial else found.get(serial)
        if info is None:
            shown = ", ".join(sorted(found)) or "no camera at all"
            raise SourceError(f"{self._label}: no such camera; found serial numbers: {shown}")
        try:
            return self._pylon.InstantCamera(factory.CreateDevice(info))
        except self._pylon.GenericException as error:
            raise SourceError(f"{self._label}: {_words(error)}") from error

    def _read_tick_ns(self) -> float:
        """Nanoseconds of a step of the camera's clock; 1 where it does not say."""
        node = self._camera.GetNodeMap().GetNode("GevTimestampTickFrequency")
        return 1e9 / node.Value if node is not None and _access().IsReadable(node) and node.Value else 1.0

    def _shot(self, result: Any, now_ns: int) -> Shot:
        missed = self._counter.missed(result.BlockID)
        if not result.GrabSucceeded():
            return Shot(_nothing, now_ns, now_ns, missed=missed, fault=f"incomplete buffer: {result.ErrorDescription}")
        device_ns = int(result.TimeStamp * self._tick_ns) or None
        pixels = partial(decode, result.GetBuffer(), result.Width, result.Height, self._format)
        return Shot(pixels, now_ns, self._clock.capture_ns(device_ns, now_ns), device_ns, missed)


class _PylonFeatures:
    """Features through pylon's node map."""

    def __init__(self, nodes: Any) -> None:
        self._nodes = nodes

    def has(self, name: str) -> bool:
        node = self._nodes.GetNode(name)
        return node is not None and bool(_access().IsWritable(node))

    def set(self, name: str, value: Value) -> None:
        self._nodes.GetNode(name).Value = value


def _pylon() -> Any:
    try:
        return import_module("pypylon.pylon")
    except ModuleNotFoundError as error:
        raise MissingDependencyError("pypylon is not installed; run: pip install 'cada-edge[pylon]'") from error


def _access() -> Any:
    """Where pypylon keeps its questions about nodes."""
    return import_module("pypylon.genicam")


def _words(error: Exception) -> str:
    """Pylon's description, without the file and line it adds."""
    return str(error).partition(" : ")[0].strip() or type(error).__name__


def _nothing() -> None:
    """The pixels of a buffer that is not whole."""
