"""A file that grows by whole lines."""

from __future__ import annotations

import os
from pathlib import Path

from cada_edge.errors import SinkError


class LineFile:
    """Appends text, all of it or none, and hands it to the operating system at once.

    Args:
        path: made if it does not exist; its folder must exist.

    Raises:
        SinkError: the file cannot be opened or, in `append`, the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._handle: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SinkError(f"{path}: cannot open the records: {error.strerror}; check the folder") from error

    def empty(self) -> bool:
        """Whether nothing has been written to the file yet."""
        return self._handle is not None and os.fstat(self._handle).st_size == 0

    def append(self, text: str) -> None:
        """Write `text`, which ends in a newline."""
        if self._handle is None:
            raise SinkError(f"{self._path}: the records are closed")
        data = text.encode(errors="backslashreplace")  # a file name that is no UTF-8 is no reason to lose the verdict
        try:
            written = os.write(self._handle, data)
            if written < len(data):  # a full disk takes a part of the line: take it back
                os.ftruncate(self._handle, os.fstat(self._handle).st_size - written)
        except OSError as error:
            raise SinkError(f"{self._path}: record not written: {error.strerror}; free some space") from error
        if written < len(data):
            raise SinkError(f"{self._path}: record not written: only {written} of {len(data)} bytes fit; free space")

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
