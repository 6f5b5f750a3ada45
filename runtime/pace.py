"""How far a free-running pipeline may be ahead of what PLCs are shown."""

from __future__ import annotations

from collections import deque

AHEAD = 16  # results: more than any burst of a camera, and less than the pipe to the PLC process holds
PATIENCE_NS = 250_000_000


class Pace:
    """Counts results on their way to the block of one station.

    Without it a pipeline that judges faster than PLCs are served would fill the pipe: results
    would first age in it and then not be shown at all. A PLC process that is away or hangs
    answers nothing; after `PATIENCE_NS` it is no longer waited for. Results are answered in their
    order: one that is answered takes with it those before it, which a process that died has lost.
    """

    def __init__(self) -> None:
        self._under_way, self._moved_ns = deque[int](), 0

    def sent(self, result: int, now_ns: int) -> None:
        """One more is on its way; `result` tells it from the others, such as when it was decided."""
        self._under_way.append(result)
        self._moved_ns = now_ns

    def answered(self, result: int, now_ns: int) -> None:
        """It was shown, or given up. One that was never sent, or is no longer waited for, counts for nothing."""
        if result not in self._under_way:
            return
        while self._under_way.popleft() != result:
            pass
        self._moved_ns = now_ns

    def ahead(self, now_ns: int) -> bool:
        """Whether the next picture should wait."""
        if len(self._under_way) >= AHEAD and now_ns - self._moved_ns > PATIENCE_NS:
            self._under_way.clear()
        return len(self._under_way) >= AHEAD
