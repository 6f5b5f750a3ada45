"""Where a command writes at its end, tested at its beginning."""

from __future__ import annotations

import os
from pathlib import Path

from cada_edge.errors import DataError


def check_output(option: str, path: Path | None) -> None:
    """Fail before the long work, not after it; ``None`` is nothing to write. Raises `DataError`."""
    if path is None:
        return
    if path.is_dir():
        raise DataError(f"{option} {path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise DataError(f"{option} {path}: folder {path.parent} does not exist; make it, or name another file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise DataError(f"{option} {path}: folder {path.parent} cannot be written; name a file in another")
