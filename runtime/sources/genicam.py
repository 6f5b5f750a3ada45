"""The features that GenICam gives cameras of every maker, set in one place for every way to reach them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from cada_edge.errors import SourceError
from cada_edge.runtime.sources.address import Address, number
from cada_edge.runtime.sources.device import CameraSettings

Value = str | float | bool


class Features(Protocol):
    """A camera's features by name."""

    def has(self, name: str) -> bool:
        """Whether the camera has it and it can be set."""

    def set(self, name: str, value: Value) -> None:
        """Set it. Raises anything."""


def configure(features: Features, address: Address, settings: CameraSettings) -> None:
    """Set format, frame rate, trigger and light before acquisition starts.

    Raises `SourceError` naming the feature that is missing or refuses its value.
    """
    for names, value, needed in _wanted(address, settings):
        name = next((one for one in names if features.has(one)), None)
        if name is None:
            if needed:
                raise SourceError(f"{address.label}: the camera has no {' or '.join(names)}; leave that setting out")
            continue
        try:
            features.set(name, value)
        except Exception as error:
            raise SourceError(f"{address.label}: {name} cannot be set to {value!r}: {error}") from error


def _wanted(address: Address, settings: CameraSettings) -> Iterator[tuple[tuple[str, ...], Value, bool]]:
    """Feature by its names, value, and whether the camera must have it; in the order cameras want them."""
    if pixel_format := address.options.get("pixel_format"):
        yield ("PixelFormat",), pixel_format, True
    yield ("AcquisitionMode",), "Continuous", False
    yield from _trigger(settings)
    if (fps := number(address, "fps")) is not None:
        yield ("AcquisitionFrameRateEnable",), True, False
        yield ("AcquisitionFrameRate", "AcquisitionFrameRateAbs"), fps, True
    if settings.exposure_us is not None:
        yield ("ExposureAuto",), "Off", False
        yield ("ExposureTime", "ExposureTimeAbs"), settings.exposure_us, True
    if settings.gain_db is not None:
        yield ("GainAuto",), "Off", False
        yield ("Gain",), settings.gain_db, True
    if settings.lock_white_balance:
        yield ("BalanceWhiteAuto",), "Off", True


def _trigger(settings: CameraSettings) -> Iterator[tuple[tuple[str, ...], Value, bool]]:
    triggered = settings.trigger != "free"
    yield ("TriggerSelector",), "FrameStart", False
    yield ("TriggerMode",), "On" if triggered else "Off", triggered
    if triggered:
        source = "Software" if settings.trigger == "software" else settings.trigger_line
        yield ("TriggerSource",), source, True
