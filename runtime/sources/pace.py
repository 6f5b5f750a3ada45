"""Keeping a steady frame rate without drifting."""

from __future__ import annotations

import math
import threading
import time

from cada_edge.errors import ConfigError


class Pace:
    """Waits so that calls return `fps` times a second; at once where `fps` is ``None``.

    A caller that falls behind is not rushed afterwards: the schedule starts anew.
    """

    def __init__(self, fps: float | None) -> None:
        if fps is not None and not (math.isfinite(fps) and 0 < fps <= 1000):
            raise ConfigError(f"fps: got {fps!r}, expected a number in (0, 1000]")
        self._period_s = 0.0 if fps is None else 1.0 / fps
        self._next_s: float | None = None

    def wait(self, stop: threading.Event) -> bool:
        """Wait for the next slot. False as soon as `stop` is set."""
        now_s = time.monotonic()
        due_s = now_s if self._next_s is None else max(self._next_s, now_s)
        self._next_s = due_s + self._period_s
        return not stop.wait(due_s - now_s) if due_s > now_s else not stop.is_set()
