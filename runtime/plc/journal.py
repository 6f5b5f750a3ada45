"""The newest results in a file, where the next start of the line finds them whoever is killed."""

from __future__ import annotations

import os
import queue
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cada_edge.errors import LineError
from cada_edge.runtime.handshake import Published
from cada_edge.runtime.plc.wire import unpack

MOST_BYTES = 256 << 10  # in each of two files: some hundred results at least
_JOIN_S = 1.0
_HEAD = re.compile(rb"(\d{1,16}) (Published [A-Za-z0-9_.-]*)")


class Entry(NamedTuple):
    """A result: when it was put in (microseconds since 1970, UTC), and of which station."""

    time_us: int
    station: str
    published: Published


class Journal:
    """Keeps packets of results. For one thread; another one writes, for a disk may be slow and a PLC is not.

    What was written outlives every process; a result whose writers are killed within a millisecond of it may not.

    Args:
        path: the file; `older` of it is where it goes when it is full.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._packets = path, queue.SimpleQueue[bytes | None]()
        self._thread = threading.Thread(target=self._run, name="cada-edge-journal", daemon=True)
        self._thread.start()

    def put(self, packet: bytes) -> None:
        """Keep what `wire.pack` made of a `Published`. Never waits."""
        self._packets.put(b"%d %b\n" % (time.time_ns() // 1000, packet))

    def close(self) -> None:
        """Write what waits, for a second at most."""
        self._packets.put(None)
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while (entry := self._packets.get()) is not None:
            with suppress(OSError):  # of a full disk the records tell
                self._write(entry)

    def _write(self, entry: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            file.write(entry)
            full = os.fstat(file.fileno()).st_size >= MOST_BYTES
        if full:
            self._path.replace(older(self._path))


def older(path: Path) -> Path:
    """Where a full journal goes."""
    return path.with_name(f"{path.name}.old")


def entries(path: Path) -> Iterator[Entry | None]:
    """Every result in a journal, oldest first; ``None`` for one that cannot be read, cut off by a kill say.

    Raises `OSError`.
    """
    for one in (older(path), path):
        if not one.is_file():
            continue
        with one.open("rb") as file:
            lines = file.read(2 * MOST_BYTES).split(b"\n")
        at = 0
        while at < len(lines) - 1:
            found = _entry(lines[at], lines[at + 1])
            if found is not None or lines[at]:
                yield found
            at += 1 if found is None else 2


def forget(path: Path) -> None:
    """Delete a journal. Raises `OSError`."""
    for one in (older(path), path):
        one.unlink(missing_ok=True)


def _entry(head: bytes, body: bytes) -> Entry | None:
    if (match := _HEAD.fullmatch(head)) is None:
        return None
    with suppress(LineError):
        message, station = unpack(match[2] + b"\n" + body)
        if isinstance(message, Published):
            return Entry(int(match[1]), station, message)
    return None
