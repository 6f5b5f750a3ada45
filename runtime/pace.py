"""How far a free-running pipeline may be ahead of what PLCs are shown."""

from __future__ import annotations

AHEAD = 16  # results: more than any burst of a camera, and less than the pipe to the PLC process holds
PATIENCE_NS = 250_000_000


class Pace:
    """Counts results on their way to the block of one station.

    Without it a pipeline that judges faster than PLCs are served would fill the pipe: results
    would first age in it and then not be shown at all. A PLC process that is away or hangs
    answers nothing; after `PATIENCE_NS` it is no longer waited for.
    """

    def __init__(self) -> None:
        self._under_way, self._moved_ns = 0, 0

    def sent(self, now_ns: int) -> None:
        """One more is on its way."""
        self._under_way += 1
        self._moved_ns = now_ns

    def answered(self, now_ns: int) -> None:
        """One was shown, or given up."""
        self._under_way = max(0, self._under_way - 1)
        self._moved_ns = now_ns

    def ahead(self, now_ns: int) -> bool:
        """Whether the next picture should wait."""
        if self._under_way >= AHEAD and now_ns - self._moved_ns > PATIENCE_NS:
            self._under_way = 0
        return self._under_way >= AHEAD
