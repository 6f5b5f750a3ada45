"""When frames are due: one after the other, or by a fixed schedule.

A closed loop starts the next frame when the last is done. A stall then delays every frame
behind it, and only the first shows it: the load politely waits (coordinated omission). A camera
does not wait. The open loop therefore fixes all times beforehand and counts each frame from the
time at which it was due, so that a stall shows in every frame it held up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

Step = Callable[[int, int], None]
_QUARTERS = 4


class Clock(Protocol):
    """Monotonic time."""

    def now_ns(self) -> int:
        """The time."""

    def sleep_until_ns(self, due_ns: int) -> None:
        """Return at or after `due_ns`; at once where it has passed."""


class SystemClock:
    """`time.monotonic_ns`, the clock of frames and verdicts."""

    def now_ns(self) -> int:
        """The time."""
        return time.monotonic_ns()

    def sleep_until_ns(self, due_ns: int) -> None:
        """Sleep, in several parts where the system wakes early."""
        while (left_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)


def closed_loop(step: Step, n: int, clock: Clock) -> None:
    """Call ``step(i, due_ns)`` `n` times, each due when the last ended."""
    for i in range(n):
        step(i, clock.now_ns())


def open_loop(step: Step, n: int, period_ns: int, clock: Clock) -> None:
    """Call ``step(i, due_ns)`` for frames due every `period_ns`, never earlier, late ones at once."""
    start_ns = clock.now_ns() + period_ns
    for i in range(n):
        due_ns = start_ns + i * period_ns
        clock.sleep_until_ns(due_ns)
        step(i, due_ns)


def falling_behind(waits_ns: Sequence[int], rate_fps: float) -> str:
    """That a rate cannot be kept up, for people, or empty. `waits_ns` are in the order of time.

    The median wait of each quarter of the frames is above that of the one before, and from the
    first to the last it grew by more than a period. A stall that is made good does not do that.
    """
    if len(waits_ns) < _QUARTERS:
        return ""
    medians = [float(np.median(part)) / 1e6 for part in np.array_split(np.asarray(waits_ns, np.float64), _QUARTERS)]
    rising = all(a < b for a, b in pairwise(medians))
    if not rising or medians[-1] - medians[0] <= 1e3 / rate_fps:
        return ""
    return (
        f"--rate: {rate_fps:g} frames a second cannot be kept up: frames waited {medians[0]:.1f} ms in the first "
        f"quarter and {medians[-1]:.1f} ms in the last (p50), and would wait ever longer; lower --rate"
    )
