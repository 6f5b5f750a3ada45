"""Rows on their way into a database: written at once, or kept in memory until they can be."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from cada_edge.errors import SinkError
from cada_edge.runtime.records.database import Layout, is_damage, move_aside, open_database, transaction

MEMORY_ROWS = 10_000
_CHUNK_ROWS = 500
_BIGGEST = 1 << 63

Tell = Callable[[Exception], None]
Cell = str | int | float | None
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Ledger(Generic[_Item]):
    """Writes items in the order they were put, in one file. Safe from any thread.

    A disk that is full, a lock, a file that was deleted: the item waits in memory and goes
    in, in its order, as soon as one can be written again. A damaged file is moved aside, told and
    begun anew.

    Args:
        path: the file; its folder must exist.
        layout: of the file.
        write: puts one item in; called within a transaction.
        tell: called with what was mended without an error being raised.
        memory_rows: items that may wait, > 0; beyond, the oldest is lost and counted.

    Attributes:
        lost: items given up because too many waited.
        failing: the last attempt to write left items waiting.

    Raises:
        SinkError: the place is wrong, or the file is a newer version's or another program's.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        write: Callable[[sqlite3.Connection, _Item], None],
        tell: Tell,
        memory_rows: int = MEMORY_ROWS,
    ) -> None:
        self._path, self._layout, self._write, self._tell = path, layout, write, tell
        self._waiting: deque[_Item] = deque()
        self._memory_rows, self._lock = memory_rows, threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._closed = False
        self.lost, self.failing = 0, False
        _check_place(path)
        try:
            self._open()
        except sqlite3.Error as error:
            tell(SinkError(f"{path}: cannot be written yet: {error}; records wait in memory"))

    @property
    def waiting(self) -> int:
        """Items in memory, not yet in the file."""
        return len(self._waiting)

    def put(self, item: _Item) -> None:
        """Take one item and write all that wait. Raises `SinkError` while they cannot be; they are kept."""
        with self._lock:
            if self._closed:
                raise _closed(self._path)
            self._waiting.append(item)
            if len(self._waiting) > self._memory_rows:
                self._waiting.popleft()
                self.lost += 1
            self.flush()

    def flush(self) -> None:
        """Write all that wait, oldest first. Raises `SinkError` when some still do."""
        with self._lock:
            try:
                self._write_waiting()
            finally:
                self.failing = bool(self._waiting)

    def change(self, action: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Run `action` in a transaction, once more on a new file where the old one is damaged.

        Raises `SinkError` when the file cannot be read or written now.
        """
        with self._lock:
            try:
                return self._attempt(action)
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise self._refused(error) from error
                self._start_anew(error)
            try:
                return self._attempt(action)
            except sqlite3.Error as error:
                raise self._refused(error) from error

    def close(self) -> None:
        """Write what waits and close the file. Safe to call twice. Raises `SinkError` for what is lost."""
        with self._lock:
            if self._closed:
                return
            try:
                self.flush()
            except SinkError as error:
                raise SinkError(f"{error}; {len(self._waiting)} records are lost at the end of the run") from error
            finally:
                self._closed = True
                self._disconnect()

    def _write_waiting(self) -> None:
        while self._waiting:
            chunk = list(islice(self._waiting, _CHUNK_ROWS))
            self.change(lambda connection, chunk=chunk: self._write_all(connection, chunk))  # type: ignore[misc]  # this turn's chunk
            for _ in chunk:
                self._waiting.popleft()

    def _attempt(self, action: Callable[[sqlite3.Connection], _Result]) -> _Result:
        if self._closed:
            raise _closed(self._path)
        with transaction(self._open()) as connection:
            return action(connection)

    def _write_all(self, connection: sqlite3.Connection, items: list[_Item]) -> None:
        for item in items:
            self._write(connection, item)

    def _open(self) -> sqlite3.Connection:
        """The connection; a new one where somebody has deleted or replaced the file under us."""
        if self._connection is not None and _inode(self._path) != self._inode:
            self._disconnect()
            self._tell(SinkError(f"{self._path}: the file was deleted or replaced while in use; a new one is begun"))
        if self._connection is None:
            opened = open_database(self._path, self._layout)
            self._connection, self._inode = opened.connection, _inode(self._path)
            if opened.moved_to is not None:
                self._tell(_damaged(self._path, opened.moved_to, "it is no database, or a broken one"))
        return self._connection

    def _start_anew(self, error: sqlite3.Error) -> None:
        self._disconnect()
        moved = move_aside(self._path)
        self._tell(_damaged(self._path, moved, str(error)))

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _refused(self, error: sqlite3.Error) -> SinkError:
        gone = f", {self.lost} are lost" if self.lost else ""
        return SinkError(
            f"{self._path}: cannot be written: {error}; {len(self._waiting)} records wait in memory{gone}; "
            "free some space, or check the folder and who holds the file"
        )


def plain(row: Mapping[str, object]) -> list[Cell]:
    """Values that SQLite can hold: text that is UTF-8, numbers that are finite and fit 64 bits."""
    return [_cell(value) for value in row.values()]


def _cell(value: object) -> Cell:
    if value is None or isinstance(value, str):
        # A file name that is no UTF-8 is no reason to lose the record.
        return value and value.encode(errors="backslashreplace").decode()
    if isinstance(value, int) and -_BIGGEST <= value < _BIGGEST:
        return int(value)
    number = float(value) if isinstance(value, int | float) else math.nan
    return number if math.isfinite(number) else None


def _closed(path: Path) -> SinkError:
    return SinkError(f"{path}: the records are closed")


def _damaged(path: Path, moved: Path, why: str) -> SinkError:
    return SinkError(f"{path}: damaged ({why}); moved to {moved.name}, and a new file is begun")


def _inode(path: Path) -> int:
    try:
        return os.stat(path).st_ino  # noqa: PTH116  # once a verdict: the quick way
    except OSError:
        return 0


def _check_place(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "its folder does not exist"
        raise SinkError(f"{path}: cannot keep records here: {what}; check the path in line.yaml")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise SinkError(f"{path}: cannot keep records here: no right to write; check its owner and mode")
