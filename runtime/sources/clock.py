"""A camera's own clock on the host's time."""

from __future__ import annotations

_MAX_DRIFT = 2e-4  # crystals in cameras and hosts are within 100 ppm each


class DeviceClock:
    """Tells at which monotonic time a picture was exposed, from its device time and arrival.

    The quickest arrival seen says how far the two clocks are apart; that distance may
    grow by what two crystals drift, so a stale estimate never dates a picture too early.
    The answer lies between the true exposure and the arrival. For one thread.
    """

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._last_device_ns, self._last_arrival_ns = 0, 0

    def capture_ns(self, device_ns: int | None, arrival_ns: int) -> int:
        """Monotonic time of exposure, <= `arrival_ns`; that itself without a device time (``None`` or 0)."""
        if not device_ns:
            return arrival_ns
        offset_ns = arrival_ns - device_ns
        if self._offset_ns is not None and device_ns > self._last_device_ns:  # else the device was reset
            slack_ns = int((arrival_ns - self._last_arrival_ns) * _MAX_DRIFT) + 1
            offset_ns = min(offset_ns, self._offset_ns + slack_ns)
        self._offset_ns, self._last_device_ns, self._last_arrival_ns = offset_ns, device_ns, arrival_ns
        return device_ns + offset_ns


class FrameCounter:
    """Counts the pictures missing between the ids that a device gives. For one thread."""

    def __init__(self) -> None:
        self._last: int | None = None

    def missed(self, device_id: int | None) -> int:
        """Pictures between the last id and this one; 0 where ids start anew, wrap or are absent (``None``)."""
        last, self._last = self._last, device_id
        if last is None or device_id is None:
            return 0
        gap = device_id - last - 1
        return gap if 0 < gap < 1000 else 0
