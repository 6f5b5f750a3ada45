"""What a live camera is to the threads that keep it: a device that is opened, read and closed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from cada_edge.errors import ConfigError
from cada_edge.types import Frame, UInt8Array

TriggerMode = Literal["free", "software", "hardware"]


@dataclass(frozen=True)
class Shot:
    """One picture as the device handed it over.

    Attributes:
        decode: gives the pixels, uint8 (H, W, 3) RGB, or ``None`` where there is no whole
            picture. Called once and only for a picture that is used; safe in any thread.
        t_arrival_ns: monotonic time at which the host had it.
        t_capture_ns: monotonic time of exposure, never later than `t_arrival_ns`; that time
            itself where the device has no clock.
        t_device_ns: the device's own clock at the exposure, or ``None``.
        missed: pictures that the device or its transport lost since the last one.
        fault: why it is not whole, or empty.
    """

    decode: Callable[[], UInt8Array | None]
    t_arrival_ns: int
    t_capture_ns: int
    t_device_ns: int | None = None
    missed: int = 0
    fault: str = ""

    def frame(self, source_id: str, frame_id: int, drops: int) -> Frame:
        """The frame made of it; ``incomplete`` unless its pixels are whole."""
        image, fault = (None, self.fault) if self.fault else self._picture()
        return Frame(
            image=image,
            source_id=source_id,
            frame_id=frame_id,
            t_capture_ns=self.t_capture_ns,
            t_arrival_ns=self.t_arrival_ns,
            drops=drops,
            status="ok" if image is not None else "incomplete",
            note=fault,
            t_device_ns=self.t_device_ns,
        )

    def _picture(self) -> tuple[UInt8Array | None, str]:
        """The pixels, or why there are none."""
        try:
            image = self.decode()
        except Exception as error:  # noqa: BLE001  # pixels are the camera's, or memory is short: its part is undecided
            return None, f"the picture cannot be read: {error}"
        return image, "" if image is not None else "the device gave no picture of a known format"


def lost_frame(source_id: str, frame_id: int, drops: int, note: str) -> Frame:
    """One frame that stands for a picture that never came."""
    now_ns = time.monotonic_ns()
    return Frame(None, source_id, frame_id, now_ns, now_ns, drops, "incomplete", "camera lost", note)


class Device(Protocol):
    """One opened camera. Read by one thread; `trigger` may come from another."""

    def grab(self, timeout_s: float) -> Shot | None:
        """The oldest picture not yet read; ``None`` when none came in time.

        A device that cannot wait so briefly may block longer. Raises `SourceError` once no
        picture can come any more.
        """

    def trigger(self) -> None:
        """Expose now, where the device was opened for software triggers. Raises `SourceError`."""

    def close(self) -> None:
        """Stop and release it."""


OpenDevice = Callable[[], Device]


@dataclass(frozen=True)
class CameraSettings:
    """What a camera is told when it is opened; what is ``None`` or false is left as it is.

    Attributes:
        trigger: what starts an exposure: the camera itself, `Device.trigger`, or a wire.
        trigger_line: the camera's input for ``hardware``, by its own name.
        exposure_us: exposure time, microseconds; also switches automatic exposure off.
        gain_db: analogue gain, decibel; also switches automatic gain off.
        lock_white_balance: switch automatic white balance off, at its present value.
    """

    trigger: TriggerMode = "free"
    trigger_line: str = "Line1"
    exposure_us: float | None = None
    gain_db: float | None = None
    lock_white_balance: bool = False

    def require(self, label: str, able: frozenset[str]) -> None:
        """Raise `ConfigError` unless the kind of camera can do all that is asked: fields of this class."""
        plain = CameraSettings()
        asked = {name for name in _SETTABLE if getattr(self, name) != getattr(plain, name)}
        if wrong := sorted(asked - able):
            can = ", ".join(sorted(able)) or "nothing"
            raise ConfigError(f"source {label}: {', '.join(wrong)} cannot be set; this kind of source can set {can}")


_SETTABLE = ("trigger", "exposure_us", "gain_db", "lock_white_balance")
GENICAM = frozenset(_SETTABLE)
