"""What a path is, told without raising."""

from __future__ import annotations

from pathlib import Path


def is_special(path: Path) -> bool:
    """Whether a device, pipe or socket lies there, which must never be replaced: root could rename over /dev/null.

    False also for a path that nobody can look at; opening it tells why.
    """
    try:
        return path.exists() and not (path.is_file() or path.is_dir())
    except OSError:
        return False
