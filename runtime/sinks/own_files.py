"""The files a sink has written into a folder: counted, and the oldest deleted beyond a limit."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

from cada_edge.runtime.records.clock import WallClock

_DAY_S = 86_400


@dataclass(frozen=True)
class FileLimits:
    """What may lie there; ``None`` is no limit.

    Attributes:
        max_files: > 0.
        max_bytes: > 0.
        max_days: age, > 0; heeded only while the wall clock has not been set by more than an hour.
    """

    max_files: int | None = None
    max_bytes: int | None = None
    max_days: float | None = None


class OwnFiles:
    """Files in the order they were written. Those it was not told of are never touched.

    Args:
        found: files of an earlier run, the oldest first; what has gone meanwhile is passed over.
        limits: beyond them `trim` deletes.
        clock: judges their age.
    """

    def __init__(self, found: list[Path], limits: FileLimits, clock: WallClock | None = None) -> None:
        self._limits, self._clock = limits, clock or WallClock()
        self._files: deque[tuple[Path, int, float]] = deque()
        self.size_bytes = 0
        for path in found:
            self.add(path)

    def __len__(self) -> int:
        return len(self._files)

    def add(self, path: Path) -> None:
        """Count one more, the newest."""
        try:
            status = path.stat()
        except FileNotFoundError:  # a person has moved or deleted it
            return
        self._files.append((path, status.st_size, status.st_mtime))
        self.size_bytes += status.st_size

    def trim(self) -> None:
        """Delete the oldest until all limits hold. Raises `OSError`."""
        while self._files and self._beyond(self._files[0][2]):
            path, size, _ = self._files[0]
            path.unlink(missing_ok=True)
            self._files.popleft()
            self.size_bytes -= size

    def _beyond(self, oldest_s: float) -> bool:
        limits = self._limits
        too_many = limits.max_files is not None and len(self._files) > limits.max_files
        too_large = limits.max_bytes is not None and self.size_bytes > limits.max_bytes
        aged = limits.max_days is not None and self._clock.trusted()
        return too_many or too_large or (aged and self._clock.now_s() - oldest_s > (limits.max_days or 0) * _DAY_S)
