"""How the machine under the line is doing: a few small files of /proc and /sys."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from cada_edge.runtime.status import HostStatus

_KEEP_S = 2.0


class Host:
    """Reads the machine's state at most every two seconds. For one thread, not the line's own.

    Args:
        disk: a path on the file system whose free space matters.
        root: where ``proc`` and ``sys`` are.
    """

    def __init__(self, disk: Path, root: Path = Path("/")) -> None:
        self._disk, self._root = disk, root
        self._read_s, self._status = float("-inf"), HostStatus()

    def status(self) -> HostStatus:
        """The newest reading; what cannot be read is ``None``."""
        now_s = time.monotonic()
        if now_s - self._read_s >= _KEEP_S:
            self._read_s, self._status = now_s, self._read()
        return self._status

    def _read(self) -> HostStatus:
        memory = self._numbers("proc/meminfo")
        free, size = _disk(self._disk)
        return HostStatus(
            temperature_c=self._temperature_c(),
            load_1m=self._load(),
            cpus=os.cpu_count() or 1,
            memory_free_bytes=memory.get("MemAvailable"),
            memory_bytes=memory.get("MemTotal"),
            disk_free_bytes=free,
            disk_bytes=size,
            process_bytes=self._numbers("proc/self/status").get("VmRSS"),
        )

    def _temperature_c(self) -> float | None:
        """The warmest zone; one that is off reads 0 or fails."""
        found = [self._text(p) for p in self._root.glob("sys/class/thermal/thermal_zone*/temp")]
        values = [int(text) / 1000 for text in found if re.fullmatch(r"-?\d{1,7}\s*", text)]
        return max((v for v in values if v != 0), default=None)

    def _load(self) -> float | None:
        first = self._text(self._root / "proc/loadavg").partition(" ")[0]
        return float(first) if re.fullmatch(r"\d+\.\d+", first) else None

    def _numbers(self, name: str) -> dict[str, int]:
        """Lines such as ``MemTotal:  123 kB``, in bytes."""
        found = re.findall(r"^(\w+):\s+(\d+) kB$", self._text(self._root / name), re.MULTILINE)
        return {key: int(value) * 1024 for key, value in found}

    def _text(self, path: Path) -> str:
        try:
            return path.read_text(errors="replace")
        except OSError:  # a sensor that is switched off, a kernel without the file: not known
            return ""


def _disk(path: Path) -> tuple[int | None, int | None]:
    try:
        found = os.statvfs(path)
    except OSError:  # not mounted at the moment: not known
        return None, None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
