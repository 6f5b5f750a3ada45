"""One training at a time in one work folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cada_edge.errors import DataError, TrainingError

LOCK = "lock"


@contextmanager
def work_lock(work: Path) -> Iterator[None]:
    """Hold the folder `work`, made if need be, against other trainings on any process that sees it.

    The lock goes with the process, however that ends; a file left behind locks nothing. Of a
    run on several processes the first alone takes it.

    Raises:
        TrainingError: another training holds it; names its process.
        DataError: the folder cannot be made, written or locked.
    """
    path = work / LOCK
    try:
        work.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{work}: cannot keep the training's work here: {error.strerror or error}") from error
    with file:
        _take(file.fileno(), path)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = path.read_text(encoding="utf-8") or "unknown"
        raise TrainingError(
            f"{path.parent} is in use by another training, process {holder}; wait for it, stop it, or use another --out"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be locked ({error.strerror}); use an --out on a local disk") from error
