"""Whether somebody has set the wall clock while the line ran."""

from __future__ import annotations

import time
from collections.abc import Callable

MAX_STEP_S = 3600.0


class WallClock:
    """Compares the wall clock with the monotonic one, which nobody can set.

    What is deleted by age is judged by the wall clock: one set a year ahead must not empty
    a year of records. Time daemons slew both clocks alike, so that only steps show.
    """

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall_ns, self._monotonic_ns = wall_ns, monotonic_ns
        self._offset_ns = wall_ns() - monotonic_ns()

    def now_s(self) -> float:
        """Seconds since 1970, UTC."""
        return self._wall_ns() / 1e9

    def trusted(self) -> bool:
        """False while the clock is more than an hour from where it was at the start."""
        step_ns = self._wall_ns() - self._monotonic_ns() - self._offset_ns
        return abs(step_ns) < MAX_STEP_S * 1e9
