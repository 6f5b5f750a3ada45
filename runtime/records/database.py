"""SQLite files that outlive power cuts, full disks and damage.

Journal in WAL mode, so that a reader never stops the writer, and ``synchronous=NORMAL``:
whatever ends the *process*, every committed row is there. After a *power cut* the file is
whole, but rows since the last checkpoint (at most 1,000 pages) may be gone; ``FULL`` would keep them
at the price of one fsync per verdict, which wears out the flash of small machines and
takes them tens of milliseconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cada_edge.errors import SinkError

BUSY_MS = 250
_JOURNAL_BYTES = 16 << 20
_PARTS = ("", "-wal", "-shm")


@dataclass(frozen=True)
class Layout:
    """What a file holds.

    Attributes:
        application_id: tells our kinds of file apart, and ours from others'.
        noun: the kind in words.
        steps: SQL scripts; number i brings a file of version i to version i + 1. Never
            changed once released, only added to.
    """

    application_id: int
    noun: str
    steps: tuple[str, ...]

    @property
    def version(self) -> int:
        """The version this cada-edge writes, kept in ``PRAGMA user_version``."""
        return len(self.steps)


@dataclass(frozen=True)
class Opened:
    """A database ready for writing.

    Attributes:
        connection: in autocommit mode; use `transaction`. May move between threads, one at a time.
        moved_to: where a damaged file was put, or ``None``.
    """

    connection: sqlite3.Connection
    moved_to: Path | None


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file itself is broken, rather than that it cannot be written now.

    Exactly `sqlite3.DatabaseError` stands for SQLITE_CORRUPT and SQLITE_NOTADB; a full
    disk, a lock and lack of rights have subclasses of their own.
    """
    return type(error) is sqlite3.DatabaseError


def open_database(path: Path, layout: Layout) -> Opened:
    """Open `path` for writing, made or migrated where needed; a damaged file is moved aside first.

    Raises:
        SinkError: written by a newer version, or a database of something else; both are left as they are.
        sqlite3.Error: it cannot be opened or written now.
    """
    try:
        return Opened(_open(path, layout), None)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        moved = move_aside(path)
        return Opened(_open(path, layout), moved)


def move_aside(path: Path) -> Path:
    """Rename a damaged file and its journal; returns the new name. Raises `SinkError`."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
    names = (path.with_name(f"{path.name}.damaged-{stamp}{f'-{n}' if n else ''}") for n in range(1000))
    target = next(name for name in names if not name.exists())
    try:
        for part in _PARTS:
            source = path.with_name(path.name + part)
            if source.exists():
                source.rename(target.with_name(target.name + part))
    except OSError as error:
        raise SinkError(f"{path}: damaged, and cannot be moved aside: {error.strerror}; move it by hand") from error
    return target


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of the body or none of it, however it ends."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has already rolled back
            connection.execute("ROLLBACK")
        raise


def insert(connection: sqlite3.Connection, table: str, columns: Sequence[str], row: Sequence[object]) -> int:
    """Add one row; returns its id. Table and columns are ours, values are bound."""
    marks = ", ".join("?" * len(columns))
    cursor = connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", row)  # noqa: S608  # names of ours
    return int(cursor.lastrowid or 0)


def _open(path: Path, layout: Layout) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        version = _checked_version(connection, path, layout)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
        if version < layout.version:
            _migrate(connection, layout, version)
    except BaseException:
        connection.close()
        raise
    return connection


def _checked_version(connection: sqlite3.Connection, path: Path, layout: Layout) -> int:
    """The file's version, 0 for a new one. Raises `SinkError` for what is not ours to write."""
    with closing(connection.cursor()) as cursor:
        (version,) = cursor.execute("PRAGMA user_version").fetchone()
        (application_id,) = cursor.execute("PRAGMA application_id").fetchone()
        (tables,) = cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application_id != layout.application_id:
        raise SinkError(f"{path}: is a database of something else, not {layout.noun}; give another path")
    if version > layout.version:
        raise SinkError(
            f"{path}: holds {layout.noun} of version {version}, this cada-edge writes {layout.version}; "
            "install a newer cada-edge or give another path"
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, layout: Layout, version: int) -> None:
    """All steps in one transaction: a file is of one version or of another."""
    with transaction(connection):
        connection.execute(f"PRAGMA application_id = {layout.application_id}")
        for step in layout.steps[version:]:
            for statement in filter(str.strip, step.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {layout.version}")
