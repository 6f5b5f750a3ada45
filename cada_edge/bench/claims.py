"""Who works on what, among processes and machines that share a folder.

A claim is an advisory lock (flock(2)) on a file. The system drops it with the process that
holds it, however that ends, so that no claim can be stale. On a network file system locks
must be on (NFS from version 4 on has them); without them give each machine its own cells.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cada_edge.errors import DataError


@contextmanager
def claim(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock file `path` inside the block; False where another process holds it and `wait` is off.

    Raises `DataError` when the place cannot be written or has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}; name another --out") from error
    with stream:  # closing drops the lock
        yield _lock(stream.fileno(), path, wait=wait)


def _lock(descriptor: int, path: Path, *, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        raise DataError(f"{path}: this file system has no locks ({error.strerror}); put --out elsewhere") from error
    return True
