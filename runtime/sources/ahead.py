"""Reading the next picture file while the present picture is inspected."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cada_edge.errors import DataError
from cada_edge.imaging import read_image
from cada_edge.types import UInt8Array

_SETTLED_NS = 2_500_000_000  # FAT keeps times in steps of 2 s: a second change within one step would not show
_NICE = 10


@dataclass(frozen=True)
class _Stamp:
    """What changes when a file is written or replaced; its time of change can be set by nobody."""

    device: int
    inode: int
    size: int
    changed_ns: int

    @staticmethod
    def of(path: Path) -> _Stamp | None:
        """The file's, or ``None`` where it cannot be had or is too new for a change to show in it."""
        try:
            found = path.stat()
        except OSError:
            return None
        if time.time_ns() - found.st_ctime_ns < _SETTLED_NS:
            return None
        return _Stamp(found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)


@dataclass(frozen=True)
class _Read:
    """What was read ahead: the file, its stamp from before (``None``: not to be trusted), the picture if it is one."""

    path: Path
    stamp: _Stamp | None = None
    image: UInt8Array | None = None


class ReadAhead:
    """Reads one picture ahead of those it is asked for, in a thread of its own. For one thread that asks.

    What was read ahead is given only while its file is what it was before it was read; a
    file that changed, vanished or came meanwhile is read when it is asked for. So the answer
    is always that of reading now, and only the waiting is less.
    """

    def __init__(self) -> None:
        self._wanted: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[_Read] = queue.SimpleQueue()
        self._under_way = False
        self._thread = threading.Thread(target=self._run, name="cada-edge-read-ahead", daemon=True)
        self._thread.start()

    def want(self, path: Path) -> None:
        """Begin to read `path`; it should be what `take` asks for next."""
        if not self._under_way:
            self._under_way = True
            self._wanted.put(path)

    def take(self, path: Path) -> UInt8Array | None:
        """The picture in `path` as it is now; ``None`` where it cannot be read."""
        if self._under_way:
            self._under_way, ready = False, self._done.get()
            if ready.path == path and ready.stamp is not None and ready.stamp == _Stamp.of(path):
                return ready.image
        return _read(path)

    def close(self) -> None:
        """End the thread, without waiting for the picture it is at."""
        self._wanted.put(None)

    def _run(self) -> None:
        _step_back()
        while (path := self._wanted.get()) is not None:
            try:
                found = _Read(path, _Stamp.of(path), _read(path))
            except Exception:  # noqa: BLE001  # such as no memory: reading it again when it is asked for tells it there
                found = _Read(path)
            self._done.put(found)


def _read(path: Path) -> UInt8Array | None:
    try:
        return read_image(path)
    except DataError:
        return None  # the frame says so; its verdict is undecided


def _step_back() -> None:
    """Let the model's threads come first; where that is not allowed, it only takes its share."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
